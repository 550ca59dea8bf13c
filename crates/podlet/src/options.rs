//! Whether `docs/options.md` is what the commands do: it lists every option of
//! podman's and every one of ours, and of those that are not here it says what
//! podlet says.
//!
//! `UPDATE_OPTIONS=1 cargo test -p podlet options` writes that anew, from
//! [`advice`](crate::advice).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};

use crate::{Cli, advice};

/// The sections of the page, the commands whose options each lists, and what podman
/// 5 has there (its manual pages podman-run(1), podman-create(1), podman-exec(1) and
/// podman-pod-create(1)).
const SECTIONS: [(&str, &[&str], &str); 3] = [
    ("podlet run and podlet container create", &["run", "container create", "plan"], CONTAINERS),
    ("podlet exec", &["exec"], EXECS),
    ("podlet create", &["create"], PODS),
];

const CONTAINERS: &str = "add-host annotation arch a attach authfile blkio-weight blkio-weight-device cap-add cap-drop \
    cgroup-conf cgroup-parent cgroupns cgroups chrootdirs cidfile conmon-pidfile cpu-period cpu-quota cpu-rt-period \
    cpu-rt-runtime c cpu-shares cpus cpuset-cpus cpuset-mems decryption-key d detach detach-keys device \
    device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns \
    dns-option dns-search entrypoint e env env-file env-host env-merge expose gidmap gpus group-add group-entry \
    health-cmd health-interval health-log-destination health-max-log-count health-max-log-size health-on-failure \
    health-retries health-start-period health-startup-cmd health-startup-interval health-startup-retries \
    health-startup-success health-startup-timeout health-timeout help h hostname hosts-file hostuser http-proxy \
    image-volume init init-ctr init-path i interactive ip ip6 ipc l label label-file link-local-ip log-driver log-opt \
    mac-address m memory memory-reservation memory-swap memory-swappiness mount name network network-alias \
    no-healthcheck no-hostname no-hosts oom-kill-disable oom-score-adj os passwd passwd-entry personality pid pidfile \
    pids-limit platform pod pod-id-file preserve-fd preserve-fds privileged p publish P publish-all pull q quiet \
    rdt-class read-only read-only-tmpfs replace requires restart retry retry-delay rm rmi rootfs sdnotify \
    seccomp-policy secret security-opt shm-size shm-size-systemd sig-proxy stop-signal stop-timeout subgidname \
    subuidname sysctl systemd timeout tls-verify tmpfs t tty tz uidmap ulimit umask unsetenv unsetenv-all u user userns \
    uts variant v volume volumes-from w workdir";
const EXECS: &str = "d detach detach-keys e env env-file help i interactive l latest preserve-fd preserve-fds privileged \
    t tty u user w workdir";
const PODS: &str = "add-host blkio-weight blkio-weight-device cgroup-parent c cpu-shares cpus cpuset-cpus cpuset-mems \
    device device-read-bps device-write-bps dns dns-option dns-search exit-policy gidmap gpus help hostname hosts-file \
    infra infra-command infra-conmon-pidfile infra-image infra-name ip ip6 l label label-file mac-address m memory \
    memory-swap n name network network-alias no-hostname no-hosts pid pod-id-file p publish replace restart \
    security-opt share share-parent shm-size shm-size-systemd subgidname subuidname sysctl uidmap userns uts v volume \
    volumes-from";

/// What the page says of an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    /// Here, and what is different.
    Honoured,
    /// Not here.
    Refused,
    /// Not here yet.
    Later,
    /// Here, and not podman's.
    Own,
}

struct Row {
    /// `--name` and `-n`.
    names: Vec<String>,
    mark: Mark,
    text: String,
}

impl Row {
    fn of(line: &str) -> Row {
        let cells: Vec<_> = line.trim_matches('|').splitn(3, " | ").map(str::trim).collect();
        let [names, mark, text] = cells[..] else { panic!("not three cells: {line}") };
        let mark = match mark {
            "honoured" => Mark::Honoured,
            "refused" => Mark::Refused,
            "later" => Mark::Later,
            "own" => Mark::Own,
            other => panic!("{other:?} is no mark: {line}"),
        };
        let names = names.split(", ").map(|name| name.trim_matches('`').to_string()).collect();
        Row { names, mark, text: text.replace("\\|", "|") }
    }
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/options.md")
}

fn is_row(line: &str) -> bool {
    line.starts_with("| `-")
}

/// The rows of a section.
fn rows(page: &str, title: &str) -> Vec<Row> {
    let section = page.split("\n## ").find_map(|section| section.strip_prefix(&format!("{title}\n")));
    let section = section.unwrap_or_else(|| panic!("there is no section {title:?}"));
    section.lines().filter(|line| is_row(line)).map(Row::of).collect()
}

/// All names of an option, its long one first.
fn names(arg: &Arg) -> Vec<String> {
    let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
    let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
    longs
        .into_iter()
        .map(|long| format!("--{long}"))
        .chain(shorts.into_iter().map(|short| format!("-{short}")))
        .collect()
}

fn built() -> Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}

/// As it is typed: one letter has one stroke.
fn dashed(name: &str) -> String {
    if name.len() == 1 { format!("-{name}") } else { format!("--{name}") }
}

/// What podlet says of an option that it does not have, behind the option's name.
fn reason(command: &str, name: &str) -> String {
    let said = advice::option(command, name);
    let begin = format!("`podlet {command}` has no option {name}: ");
    said.strip_prefix(&begin).unwrap_or_else(|| panic!("{said}")).to_string()
}

#[test]
fn what_the_page_calls_honoured_is_accepted_under_each_name() {
    let (cli, page) = (built(), fs::read_to_string(page()).expect("the page"));
    for (title, commands, _) in SECTIONS {
        for row in rows(&page, title).iter().filter(|row| matches!(row.mark, Mark::Honoured | Mark::Own)) {
            for command in commands {
                let args = advice::find_command(&cli, command).get_arguments();
                let arg = args.into_iter().find(|arg| names(arg).contains(&row.names[0]));
                let arg = arg.unwrap_or_else(|| panic!("podlet {command} has no {}", row.names[0]));
                let (mut known, mut said) = (names(arg), row.names.clone());
                known.sort();
                said.sort();
                assert_eq!(said, known, "podlet {command}");
            }
        }
    }
}

#[test]
fn what_the_page_calls_refused_is_refused_with_its_reason() {
    let (cli, text) = (built(), fs::read_to_string(page()).expect("the page"));
    let update = std::env::var_os("UPDATE_OPTIONS").is_some();
    let mut reasons = BTreeMap::new();
    for (title, commands, _) in SECTIONS {
        for row in rows(&text, title).iter().filter(|row| matches!(row.mark, Mark::Refused | Mark::Later)) {
            for command in commands {
                let args = || advice::find_command(&cli, command).get_arguments();
                for name in &row.names {
                    assert!(!args().any(|arg| names(arg).contains(name)), "podlet {command} has {name}");
                    let reason = reason(command, name);
                    assert!(
                        !reason.starts_with("do you mean") && !reason.starts_with("see `"),
                        "{command} {name}: {reason}"
                    );
                    let is_later = row.mark == Mark::Later;
                    assert_eq!(reason.contains(" yet"), is_later, "podlet {command} {name}: {reason}");
                    assert!(
                        update || row.text == reason,
                        "{command} {name}: the page has {:?}, podlet {reason:?}",
                        row.text
                    );
                    reasons.insert((title, row.names.join(", ")), reason);
                }
            }
        }
    }
    if update {
        fs::write(page(), with_reasons(&text, &reasons)).expect("written");
    }
}

/// The page with what podlet says.
fn with_reasons(text: &str, reasons: &BTreeMap<(&str, String), String>) -> String {
    let mut title = "";
    let line = |line: &str| {
        if let Some(heading) = line.strip_prefix("## ") {
            title = SECTIONS.iter().map(|(title, ..)| *title).find(|title| *title == heading).unwrap_or_default();
        }
        let new = is_row(line).then(|| reasons.get(&(title, Row::of(line).names.join(", ")))).flatten();
        match (new, &line.splitn(3, " | ").collect::<Vec<_>>()[..]) {
            (Some(reason), [names, mark, _]) => format!("{names} | {mark} | {} |\n", reason.replace('|', "\\|")),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn every_option_of_ours_and_of_podmans_stands_on_the_page() {
    let (cli, page) = (built(), fs::read_to_string(page()).expect("the page"));
    for (title, commands, podmans) in SECTIONS {
        let rows = rows(&page, title);
        let listed: Vec<_> = rows.iter().flat_map(|row| row.names.iter().map(move |name| (name, row.mark))).collect();
        let times = |name: &String| listed.iter().filter(|(other, _)| *other == name).count();
        for (name, _) in &listed {
            assert_eq!(times(name), 1, "{title}: {name}");
        }
        for name in podmans.split_whitespace().map(dashed) {
            let mark = listed.iter().find(|(other, _)| **other == name).map(|(_, mark)| *mark);
            let is_podmans = mark.is_some_and(|mark| mark != Mark::Own);
            assert!(is_podmans, "{title}: {name} is {mark:?}");
        }
        for command in commands {
            for name in advice::find_command(&cli, command).get_arguments().flat_map(names) {
                assert_eq!(times(&name), 1, "{title}: podlet {command} {name}");
            }
        }
        let first: Vec<_> = rows.iter().map(|row| row.names[0].trim_start_matches('-').to_lowercase()).collect();
        let unsorted = first.windows(2).find(|pair| pair[0] > pair[1]);
        assert_eq!(unsorted, None, "{title}: out of order");
    }
}
