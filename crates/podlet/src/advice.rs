//! What to say of a word that podlet does not know: the option or command that
//! was meant, or why there is none.
//!
//! A user of podman or docker types what works there. What podlet has
//! not, and what does it here, stands in the tables below, command by command;
//! for everything else the nearest name is proposed. A word in the tables is
//! never taken for a slip of another: `list` does not mean `wait`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::Cli;

/// The commands that a word is for (all, if none is named), its names, and what is
/// said.
type Entry = (&'static [&'static str], &'static [&'static str], &'static str);

/// Commands that make containers: `container create` has the options of `run`.
const RUN: &[&str] = &["run", "plan", "container create"];
/// Those that make something, pods included.
const MAKE: &[&str] = &["run", "plan", "container create", "create"];
/// Those that have limits.
const LIMIT: &[&str] = &["run", "plan", "container create", "create", "update"];
const EVERY: &[&str] = &[];

const IMAGES: &str = "there are no images but `host` yet: use --rootfs DIR or --bundle DIR";
const DETACH: &str = "an exec's terminal ends with podlet: run what is to go on by `podlet run -dit`, and come back to \
                      it by `podlet attach`";
const NO_DAEMON: &str = "nobody of podlet's is there to do it: a supervisor can, with `podlet wait` and `podlet start`";
const SHARE: &str = "a pod says with --share LIST which namespaces its containers share; the others are each one's own";
/// Of what `container create` has, and `create` has not.
const CONTAINERS: &str = "it belongs to a container, and this makes a pod: give it to `podlet run --pod POD` or `podlet \
                          container create --pod POD`";
const USERS: &str = "say the ids: --share net,pid,ipc,uts,user --uidmap 0:100000:65536 --gidmap 0:100000:65536; an \
                     ordinary user's are those of subuid(5)";
const HEALTH: &str = "the last result of each check is kept, with its first 4 KiB: `podlet inspect` has it";
const ONLY_V1: &str = "cgroup v2 has no such setting (docs/limits.md)";
const LATEST: &str = "podlet does not guess which one is meant: name it (`podlet ps` lists them)";

const OPTIONS: &[Entry] = &[
    (&["exec"], &["--detach-keys"], DETACH),
    (
        &["run", "plan", "container create"],
        &["-a", "--attach"],
        "`podlet run` without -d has podlet's own standard streams: redirect those; `podlet attach` comes to what runs \
         detached",
    ),
    (&["start"], &["-a", "--attach", "-i", "--interactive"], "start it, and come to its terminal by `podlet attach`"),
    (EVERY, &["--sig-proxy"], "signals are always passed on, to what runs in the foreground"),
    (
        MAKE,
        &["-P", "--publish-all", "--expose"],
        "nothing is noted of an image's ports: publish each by -p HOST:POD (docs/network.md)",
    ),
    (
        MAKE,
        &["--hosts-file"],
        "names of a network are the pod's, others are given by --add-host: `podlet run -v FILE:/etc/hosts:ro` has a file \
         of yours",
    ),
    (MAKE, &["--link-local-ip"], "an interface gets its link-local address from the kernel: give --ip6 ADDRESS"),
    (
        RUN,
        &[
            "--pull",
            "--platform",
            "--arch",
            "--os",
            "--variant",
            "--authfile",
            "--tls-verify",
            "--rmi",
            "--image-volume",
            "--disable-content-trust",
            "--seccomp-policy",
            "-q",
            "--quiet",
            "--retry",
            "--retry-delay",
            "--decryption-key",
            "--cert-dir",
            "--creds",
        ],
        IMAGES,
    ),
    (&["create"], &["--pid", "--ipc", "--uts", "--cgroupns"], SHARE),
    (&["create"], &["--share-parent"], "the cgroups of a pod's containers are always in the pod's (docs/limits.md)"),
    (MAKE, &["--subuidname", "--subgidname", "--hostuser"], USERS),
    (MAKE, &["--cgroup-parent", "--cgroups"], "podlet chooses the cgroup itself (docs/limits.md)"),
    (
        LIMIT,
        &["--cpu-rt-period", "--cpu-rt-runtime", "--memory-swappiness", "--oom-kill-disable", "--kernel-memory"],
        ONLY_V1,
    ),
    (RUN, &["--device-cgroup-rule"], "there are no rules for devices in pods yet: name each one by --device"),
    (MAKE, &["--gpus"], "name the device nodes by `podlet run --device`"),
    (
        RUN,
        &["--rdt-class"],
        "podlet makes no resctrl groups: make one in /sys/fs/resctrl and write the pid that `podlet inspect` tells to its \
         `tasks`",
    ),
    (RUN, &["--health-log-destination", "--health-max-log-count", "--health-max-log-size"], HEALTH),
    (MAKE, &["--sdnotify"], NO_DAEMON),
    (&["create"], &["--restart"], CONTAINERS),
    (MAKE, &["--volumes-from", "--chrootdirs"], "name each volume by `podlet run -v SRC:DST[:OPTIONS]`"),
    (
        MAKE,
        &["--shm-size-systemd"],
        "there is nothing special for systemd in a container: give --tmpfs /run and the like, and --shm-size",
    ),
    (&["exec"], &["--privileged"], "an exec has the capabilities of its container: give them to that by --cap-add"),
    (RUN, &["--init-path"], "pause is what reaps: --init says so; an init of the image's is run by its name"),
    (
        &["create"],
        &["--infra", "--infra-command", "--infra-image", "--infra-name", "--infra-conmon-pidfile"],
        "pause holds every pod, and is a part of podlet: leave it away",
    ),
    (RUN, &["--systemd"], "there is nothing special for systemd in a container: give --tmpfs /run and the like"),
    (RUN, &["--secret"], "there are no secrets yet: bind a file by -v SRC:DST:ro"),
    (RUN, &["--conmon-pidfile"], "there is no conmon: --pidfile has the pid of the container's main process"),
    (RUN, &["--env-merge"], "variables of an image are not filled in: give the whole value by `-e NAME=VALUE`"),
    (
        RUN,
        &["--passwd", "--passwd-entry", "--group-entry"],
        "podlet changes no file of the image: -v FILE:/etc/passwd:ro has one of yours",
    ),
    (
        &["run", "plan", "container create", "exec"],
        &["--preserve-fd", "--preserve-fds"],
        "a container has no descriptors but its three standard streams yet: bind a socket or file by -v SRC:DST",
    ),
    (
        &["logs"],
        &["--names", "--color"],
        "names stand before lines where a pod has several containers, in colour on a terminal",
    ),
    (EVERY, &["--latest"], LATEST),
    (
        &["ps", "logs", "wait", "exec", "kill", "stop", "start", "restart", "update", "rm", "inspect", "top", "stats"],
        &["-l"],
        LATEST,
    ),
    (&["ps"], &["-n", "--last"], LATEST),
    (&["ps"], &["-p", "--pod"], "the pod is always shown"),
    (&["ps"], &["-s", "--size"], "du(1) tells sizes: the state directory holds what containers of `host` change"),
    (&["ps"], &["--sort", "--noheading", "--ns"], "use --format json and jq(1), or -q"),
    (&["ps"], &["-w", "--watch"], "use watch(1)"),
    (&["ps"], &["--sync", "--external"], "there is no need: the kernel is asked each time, and nothing else is there"),
    (
        &["top"],
        &["-e", "-f", "-o", "-A", "--list-descriptors"],
        "columns are named behind the target, without options of ps(1): `podlet top --help` lists them",
    ),
    (
        &["stats"],
        &["--no-reset", "--no-trunc"],
        "there is no need: nothing is cut, and `podlet stats > FILE` prints once",
    ),
    (&["cp"], &["--overwrite"], "what is there is always replaced, but never a directory by a file or a file by one"),
    (&["cp"], &["--pause"], "there is no need: nothing leads out of a container that changes meanwhile"),
    (&["cp"], &["-L", "--follow-link"], "the link that SOURCE names is always followed, and none below it"),
    (&["inspect"], &["-s", "--size", "-t", "--type"], "POD is a pod and POD/CONTAINER a container, without sizes"),
    (&["events"], &["--since", "--until"], "nobody of podlet's keeps what happened: it is told as it happens"),
    (&["events"], &["--stream"], "there is no need: it goes on until it is interrupted or has no reader"),
    (&["events"], &["--no-trunc"], "there is no need: nothing is cut"),
    (&["wait"], &["-i", "--interval"], "there is no need: the kernel tells, and nobody asks again and again"),
    (&["rm"], &["-v", "--volumes"], "there are no volumes but directories of this machine, which stay"),
    (&["rm"], &["--depend"], "a pod goes with all its containers"),
    (&["rm"], &["-i", "--ignore"], "-f takes what is not there for removed"),
    (&["stop", "rm", "start", "restart"], &["--filter"], "`podlet ps -q --filter ...` prints the names to give"),
    (&["rm"], &["-t", "--time"], "`podlet stop -t S` first, or -f at once"),
    (
        &["network create"],
        &["-d", "--driver", "--ipam-driver"],
        "podlet's own networks are bridges: leave it away; others are CNI networks (`--network cni:NAME`, docs/cni.md)",
    ),
    (
        &["network create"],
        &["-o", "--opt"],
        "say it by --mtu, --bridge, --isolated, --peer and --vxlan (`podlet network create --help`)",
    ),
    (&["network create"], &["--ip-range"], "pods get addresses of the whole subnet in turn: give a smaller --subnet"),
    (
        &["network create"],
        &["--ipv6"],
        "it has IPv6 where this machine has it: leave it away, or give a --subnet of it",
    ),
    (&["network create"], &["--interface-name"], "use --bridge NAME"),
    (&["network create"], &["--disable-dns"], "there is no DNS server to be left out: names are in /etc/hosts"),
    (&["network create"], &["--dns"], "pods say their servers: `podlet run --dns ADDRESS`"),
    (&["network create"], &["--route"], "the pod's only way out is the gateway"),
    (
        &["network create"],
        &["--label", "--ignore"],
        "a network has no labels, and one of its name is refused: leave it away",
    ),
    (&["network rm"], &["-f", "--force", "-t", "--time"], "remove the pods that are in it first: `podlet rm -f POD`"),
    (&["network prune"], &["-f", "--force"], "there is no need: it does not ask"),
    (
        &["network prune", "network ls"],
        &["--filter"],
        "there are no filters: `podlet network ls --format json` and jq(1)",
    ),
    (&["network ls"], &["-f", "-n", "--noheading", "--no-trunc"], "use --format json and jq(1), or -q"),
    (&["network inspect"], &["-f", "--format"], "it prints JSON: jq(1) takes out what you want"),
    (&["restart"], &["--running"], "name them: `podlet ps -q` prints what runs"),
];

const COMMANDS: &[Entry] = &[
    (
        &["network"],
        &["connect", "disconnect"],
        "a pod is in the networks that it was made with: remove it and make it anew with --network NAME, once for each",
    ),
    (&["network"], &["exists"], "`podlet network inspect NAME` fails where there is none"),
    (&["network"], &["list"], "`podlet network ls` lists"),
    (&["network"], &["remove", "delete"], "`podlet network rm` removes"),
    (&["network"], &["show", "info"], "`podlet network inspect` prints all there is to know"),
    (&["network"], &["update"], "a network is for good: remove it and make it anew; pods say their servers by --dns"),
    (
        EVERY,
        &[
            "pull", "push", "images", "image", "rmi", "tag", "untag", "search", "login", "logout", "save", "load",
            "import", "build", "commit", "history", "diff", "manifest", "farm", "artifact", "buildx",
        ],
        "there are no images but `host` yet: `podlet run` takes --rootfs DIR (README.md shows how to make one) and \
         --bundle DIR",
    ),
    (EVERY, &["export"], "the root is a directory: tar(1) does it"),
    (EVERY, &["volume"], "volumes are directories of this machine: -v SRC:DST"),
    (EVERY, &["secret"], "there are no secrets yet: bind a file by -v SRC:DST:ro"),
    (EVERY, &["pod"], "every command takes pods: `podlet create POD`, `ps`, `stop POD`, `rm POD`"),
    (EVERY, &["list", "ls"], "`podlet ps` lists"),
    (EVERY, &["delete", "remove"], "`podlet rm` removes"),
    (EVERY, &["checkpoint", "restore"], "needs CRIU, which podlet does not drive"),
    (
        EVERY,
        &["rename"],
        "a name is for good, for its cgroup, address and host name have it, too: remove it and run it under another",
    ),
    (EVERY, &["version"], "`podlet --version`"),
    (EVERY, &["info", "system"], "`podlet ps -a` shows what there is, docs/limits.md what can be here"),
    (EVERY, &["kube", "play", "generate", "compose"], "not yet: `podlet create` and `podlet run --pod` make pods"),
    (EVERY, &["auto-update"], NO_DAEMON),
    (EVERY, &["init"], "`podlet container create` makes one without starting it"),
    (EVERY, &["mount", "unmount", "umount"], "the root is a directory: `podlet run --rootfs DIR` says which"),
    (EVERY, &["unshare", "machine"], "podlet has none: it runs where it is"),
    (EVERY, &["doctor"], "there is none yet: podlet says what is missing when something needs it"),
];

/// What an error of the command line means, if this knows better than clap.
pub fn explain(error: &clap::Error) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = word(ContextKind::InvalidSubcommand)?;
            Some(command(&asked_for(Some(word)), word))
        }
        ErrorKind::UnknownArgument => {
            let word = word(ContextKind::InvalidArg)?;
            word.starts_with('-').then(|| option(&asked_for(None), word))
        }
        _ => None,
    }
}

/// The command on the command line before `end`, as far as that can be read: `run`,
/// `network create`.
fn asked_for(end: Option<&str>) -> String {
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    command_of(words.take_while(|word| Some(word.as_str()) != end))
}

fn command_of(words: impl Iterator<Item = String>) -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut command = &cli;
    let mut names = Vec::new();
    for word in words {
        if let Some(found) = command.get_subcommands().find(|found| *found.get_name() == word) {
            command = found;
            names.push(word);
        }
    }
    names.join(" ")
}

/// A command by its name, `network create`; the program itself if there is none.
pub fn find_command<'a>(cli: &'a Command, name: &str) -> &'a Command {
    name.split(' ').fold(cli, |command, word| command.find_subcommand(word).unwrap_or(command))
}

fn command(parent: &str, word: &str) -> String {
    let mut cli = Cli::command();
    cli.build();
    let program = format!("podlet {parent}").trim_end().to_string();
    let names = find_command(&cli, parent).get_subcommands().map(Command::get_name);
    let advice = find_exactly(parent, word).map(|(.., advice)| advice.to_string());
    let meant = || nearest(word, names).map(|name| format!("do you mean `{program} {name}`?"));
    let advice = advice.or_else(meant).unwrap_or_else(|| format!("see `{program} --help`"));
    match parent {
        "" => format!("there is no command {word:?}: {advice}"),
        _ => format!("`{program}` has no command {word:?}: {advice}"),
    }
}

/// What to say of an option that `command` does not have; of several letters
/// behind one `-` the first one that is not known counts.
pub fn option(command: &str, word: &str) -> String {
    let mut cli = Cli::command();
    // The options of a command are made when they are needed.
    cli.build();
    let known = find_command(&cli, command);
    let word = word.split_once('=').map_or(word, |(name, _)| name);
    let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
    let is_known = |letter: char| known.get_arguments().any(|arg| arg.get_short() == Some(letter));
    let unknown = letters.and_then(|letters| letters.chars().find(|letter| !is_known(*letter)));
    let word = unknown.map_or(word.to_string(), |letter| format!("-{letter}"));
    let longs: Vec<_> = known.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
    let program = if command.is_empty() { "podlet".to_string() } else { format!("podlet {command}") };
    let meant = || Some(format!("do you mean {}?", nearest(&word, longs.iter().map(String::as_str))?));
    // A pod's command is taken for the one that podman calls so.
    let is_containers = || {
        let container = find_command(&cli, "container create");
        let is_word = |arg: &clap::Arg| {
            let short = arg.get_short().map(|letter| format!("-{letter}"));
            let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
            short.is_some_and(|short| short == word) || longs.iter().any(|long| word == format!("--{long}"))
        };
        (command == "create" && container.get_arguments().any(is_word)).then(|| CONTAINERS.to_string())
    };
    match find(OPTIONS, command, &word).or_else(is_containers).or_else(meant) {
        Some(advice) => format!("`{program}` has no option {word}: {advice}"),
        None => format!("`{program}` has no option {word}: see `{program} --help`"),
    }
}

/// What a command is for that `parent` does not have: those of all are the program's own.
fn find_exactly(parent: &str, word: &str) -> Option<&'static Entry> {
    let is_parents =
        |commands: &[&str]| if parent.is_empty() { commands.is_empty() } else { commands.contains(&parent) };
    COMMANDS.iter().find(|(commands, names, _)| names.contains(&word) && is_parents(commands))
}

fn find(table: &[Entry], command: &str, word: &str) -> Option<String> {
    let mut found = table.iter().filter(|(_, names, _)| names.contains(&word));
    let entry = found.find(|(commands, ..)| commands.is_empty() || commands.contains(&command))?;
    Some(entry.2.to_string())
}

/// The name that differs from `word` by one slip in every three letters at the
/// most; two if there are several.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.trim_start_matches('-').chars().count() / 3).clamp(1, 2);
    names.map(|name| (slips(word, name), name)).filter(|(slips, _)| *slips <= most).min().map(|(_, name)| name)
}

/// How many letters must be added, left out, replaced, or exchanged with their
/// neighbour to come from one word to the other (the distance of Damerau and
/// Levenshtein, where no letter is touched twice).
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let is_other = usize::from(from[i - 1] != to[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + is_other);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_there_is_explained_away() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands() {
            assert!(find_exactly("", command.get_name()).is_none(), "{}", command.get_name());
            for nested in command.get_subcommands() {
                assert!(find_exactly(command.get_name(), nested.get_name()).is_none(), "{}", nested.get_name());
                for name in nested.get_arguments().filter_map(|arg| arg.get_long()) {
                    let (command, word) =
                        (format!("{} {}", command.get_name(), nested.get_name()), format!("--{name}"));
                    assert!(find(OPTIONS, &command, &word).is_none(), "{command} {word}");
                }
            }
            for arg in command.get_arguments() {
                let short = arg.get_short().map(|letter| format!("-{letter}"));
                let long = arg.get_long().map(|name| format!("--{name}"));
                for word in [short, long].into_iter().flatten() {
                    let reason = find(OPTIONS, command.get_name(), &word);
                    assert!(reason.is_none(), "{} {word}: {reason:?}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn what_is_nearest() {
        assert!(option("run", "--nmae=x").contains("do you mean --name?"), "{}", option("run", "--nmae=x"));
        assert!(option("run", "--volumes").contains("do you mean --volume?"));
        assert!(option("ps", "--frobnicate").contains("see `podlet ps --help`"));
        assert!(command("", "strat").contains("do you mean `podlet start`?"));
        assert!(command("", "export").contains("tar(1)") && !command("", "export").contains("exec"));
        assert!(command("", "frobnicate").contains("see `podlet --help`"));
        assert!(command("network", "connect").starts_with("`podlet network` has no command \"connect\": a pod is in"));
        assert!(command("network", "stats").contains("see `podlet network --help`"), "`podlet stats` is another");
        assert!(command("network", "craete").contains("do you mean `podlet network create`?"));
        assert!(
            option("network create", "--driver")
                .starts_with("`podlet network create` has no option --driver: podlet's")
        );
        assert!(option("network create", "--subent").contains("do you mean --subnet?"));
        let words = |line: &str| command_of(line.split(' ').map(String::from));
        assert_eq!(words("--root /x network create run --driver"), "network create");
        assert_eq!((words("run host network"), words("nothing")), ("run".into(), "".into()));
    }
}
