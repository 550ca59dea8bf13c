//! Man pages: one a subcommand, nested ones too, as git and podman have them.
//!
//! What stands in them is what `--help` says, with the examples in a section of
//! their own; only the pages of the commands themselves say more.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use help::{Example, examples, join};

use crate::Installed;

/// What the page of a command says that `--help` has not: sections of terms.
type More = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const PODLET: More = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Done; of run and exec, what the program ended with, or 128 + the signal that ended it."),
            ("124", "An exec ran out of its --timeout."),
            ("125", "podlet failed, and says why on standard error."),
            ("126", "The program cannot be executed."),
            ("127", "The program is not there."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("PODLET_NETWORK", "The networks of a pod for which no --network is given, as that takes them."),
            ("XDG_RUNTIME_DIR", "Where the state directory of an ordinary user is."),
        ],
    ),
    (
        "FILES",
        &[
            ("/run/podlet", "The state directory of root; nothing in it outlives a restart of the machine."),
            ("$XDG_RUNTIME_DIR/podlet", "That of an ordinary user; /tmp/podlet-UID where the variable is not set."),
            ("/etc/subuid, /etc/subgid", "The ids that an ordinary user may map."),
        ],
    ),
];

const PODLET_OCI: More = &[
    (
        "EXIT STATUS",
        &[
            (
                "0",
                "Done; of run and exec in the foreground, what the program ended with, or 128 + the signal that ended it.",
            ),
            ("1", "podlet-oci failed, and says why on standard error."),
            ("255", "An exec failed."),
        ],
    ),
    (
        "FILES",
        &[
            ("/run/podlet-oci", "The state directory of root."),
            (
                "$XDG_RUNTIME_DIR/podlet-oci",
                "That of an ordinary user; /tmp/podlet-oci-UID where the variable is not set.",
            ),
        ],
    ),
];

/// Defined at the head of a page; `clap_mangen` writes it before each section.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Writes the pages of a command and its subcommands into a directory.
pub fn write(installed: &Installed, dir: &Path) -> Result<()> {
    write_below(installed, &installed.command, "", dir)
}

fn write_below(installed: &Installed, command: &Command, path: &str, dir: &Path) -> Result<()> {
    let file = dir.join(format!("{}.{}", name(installed, path), installed.section));
    fs::write(&file, page(installed, command, path)?).with_context(|| file.display().to_string())?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_below(installed, sub, &join(path, sub.get_name()), dir)?;
    }
    Ok(())
}

/// `podlet-network-create`.
fn name(installed: &Installed, path: &str) -> String {
    join(installed.command.get_name(), path).replace(' ', "-")
}

fn page(installed: &Installed, command: &Command, path: &str) -> Result<String> {
    let mut command = command.clone();
    // All options in the first line hide what matters.
    let usage = command.render_usage().to_string();
    let command = command.override_usage(usage.trim_start_matches("Usage: ").to_string());
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).section(installed.section);
    let mut text = Vec::new();
    // `roff` leaves out an empty argument: there is no date, so that the same sources
    // make the same page.
    let title = name(installed, path).to_uppercase();
    let (section, program, version) = (installed.section, installed.command.get_name(), env!("CARGO_PKG_VERSION"));
    writeln!(text, ".TH {title} {section} \"\" \"{program} {version}\" podlet")?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_subcommands {
        man.render_subcommands_section(&mut text)?;
    }
    own_sections(installed, path).to_writer(&mut text)?;
    Ok(format!("{PREAMBLE}{}", String::from_utf8(text)?.replace(PREAMBLE, "")))
}

/// What `clap` knows nothing of.
fn own_sections(installed: &Installed, path: &str) -> Roff {
    let mut roff = Roff::new();
    show(&mut roff, examples(installed.examples, path));
    let more = match (path, installed.command.get_name()) {
        ("", "podlet") => PODLET,
        ("", _) => PODLET_OCI,
        _ => &[],
    };
    for (heading, terms) in more {
        roff.control("SH", [*heading]);
        for (term, says) in *terms {
            roff.control("TP", []).text([bold(*term)]).text([roman(*says)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = match (path, installed.command.get_name()) {
        ("", "podlet") => {
            "podlet-oci(8), podlet-run(1), podlet-create(1), podlet-ps(1), podlet-network(1), namespaces(7), cgroups(7)"
                .into()
        }
        ("", _) => "podlet(1), runc(8)".into(),
        (_, program) => {
            let above =
                path.rsplit_once(' ').map(|(above, _)| format!("{}({}), ", name(installed, above), installed.section));
            format!("{}{program}({})", above.unwrap_or_default(), installed.section)
        }
    };
    roff.text([roman(others)]);
    roff
}

fn show(roff: &mut Roff, examples: &[Example]) {
    roff.control("SH", ["EXAMPLES"]);
    for (i, (does, line)) in examples.iter().enumerate() {
        if i > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(format!("{does}:"))]);
        roff.control("PP", []).control("RS", ["4"]).control("EX", []);
        roff.text([roman(*line)]);
        roff.control("EE", []).control("RE", []);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(path: &[&str]) -> String {
        let [installed, _] = crate::commands();
        let find = |command: &Command, name: &&str| command.find_subcommand(name).cloned();
        let command = path.iter().try_fold(installed.command.clone(), |command, name| find(&command, name));
        page(&installed, &command.expect("a subcommand"), &path.join(" ")).expect("a page")
    }

    #[test]
    fn a_page_has_its_sections_in_the_usual_order() {
        let page = page_of(&["network", "create"]);
        let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"SEE ALSO\""];
        assert_eq!(headings, wanted, "{page}");
        assert!(page.contains("podlet\\-network\\-create \\- Make a network"), "{page}");
        assert!(page.contains("\npodlet network create \\-\\-internal vault\n"), "{page}");
        assert_eq!(page.matches(".ds Aq").count(), 2, "{page}");
    }

    #[test]
    fn help_is_no_subcommand_of_a_page() {
        let page = page_of(&[]);
        assert!(page.contains("podlet\\-network(1)") && !page.contains("podlet\\-help(1)"), "{page}");
    }
}
