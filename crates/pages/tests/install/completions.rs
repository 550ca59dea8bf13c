//! Completions, asked as a shell does at a tabulator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::{Bed, has};

/// A podlet of which only names are asked.
const PODLET: &str = "#!/bin/sh
case \"$*\" in
'ps --all --quiet') printf 'web/db\\nweb/app\\nbox\\n' ;;
'network ls --quiet') echo back ;;
*) echo unexpected ;;
esac
";

/// A bed whose podlet is in the search path of what it gives.
fn with_names() -> (Bed, impl Fn(&str) -> Command) {
    let bed = Bed::new();
    let podlet = bed.path("programs/podlet");
    fs::write(&podlet, PODLET).expect("a file");
    fs::set_permissions(&podlet, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", bed.path("programs").display(), std::env::var("PATH").unwrap_or_default());
    let dir = bed.dir.path().to_path_buf();
    (bed, move |shell| {
        let mut command = Command::new(shell);
        command.env("PATH", &path).env("HOME", &dir).env("ZDOTDIR", &dir).current_dir(&dir);
        command
    })
}

/// A line up to the cursor, and what may stand there.
const LINES: &[(&str, &[&str])] = &[
    ("podlet ru", &["run"]),
    ("podlet network cr", &["create"]),
    ("podlet run --rea", &["--read-only", "--read-only-tmpfs"]),
    ("podlet port add --ro", &["--root"]),
    ("podlet exec w", &["web", "web/app", "web/db"]),
    ("podlet rm -f b", &["box"]),
    ("podlet port add web", &["web", "web/app", "web/db"]),
];

#[test]
fn bash_completes_commands_options_and_names() {
    if !has("bash") {
        return;
    }
    let (bed, shell) = with_names();
    let script = "set -u; source pages/completions/podlet.bash
        read -ra COMP_WORDS <<<\"$1\"; case $1 in *' ') COMP_WORDS+=('') ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _podlet_with_names podlet \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\" | sort -u";
    let ask = |line: &str| {
        let said = bed.ok(shell("bash").args(["--norc", "-c", script, "bash", line]));
        said.lines().filter(|word| !word.is_empty()).map(String::from).collect::<Vec<_>>()
    };
    for (line, wanted) in LINES {
        assert_eq!(&ask(line), wanted, "{line}");
    }
    assert_eq!(ask("podlet network rm "), ["back"]);
    // The name of what is made is new, and a value of an option is another thing.
    let made = ask("podlet create ");
    assert!(made.contains(&"--publish".into()) && !made.contains(&"web".into()), "{made:?}");
    assert!(!ask("podlet exec -u w").contains(&"web".into()));
    // A file, where an option takes one.
    assert_eq!(ask("podlet run --env-file p"), ["pages", "programs"]);
}

#[test]
fn bash_completes_podlet_oci() {
    if !has("bash") {
        return;
    }
    let (bed, shell) = with_names();
    let script = "source pages/completions/podlet-oci.bash; complete -p podlet-oci >/dev/null
        COMP_WORDS=(podlet-oci fea); COMP_CWORD=1; _podlet__oci podlet-oci fea podlet-oci; echo \"${COMPREPLY[@]}\"";
    assert_eq!(bed.ok(shell("bash").args(["--norc", "-c", script])), "features\n");
}

#[test]
fn fish_completes_commands_options_and_names() {
    if !has("fish") {
        return;
    }
    let (bed, shell) = with_names();
    for (line, wanted) in LINES {
        let script = "source pages/completions/podlet.fish; complete -C $argv[1]";
        let said = bed.ok(shell("fish").args(["--no-config", "-c", script, line]));
        let mut words: Vec<_> = said.lines().map(|line| line.split('\t').next().unwrap_or_default()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(&words, wanted, "{line}");
    }
}

#[test]
fn zsh_completes_names() {
    if !has("zsh") {
        return;
    }
    let (bed, shell) = with_names();
    // The widget shows nothing without a terminal: what would be added is printed.
    let script = "autoload -U compinit; fpath=($PWD/pages/completions $fpath)
        compinit -u -d $PWD/dump || exit 1
        [[ $_comps[podlet] = _podlet && $_comps[podlet-oci] = _podlet-oci ]] || exit 1
        autoload +X _podlet _podlet-oci || exit 1
        compdef() { :; }; eval \"$(<pages/completions/_podlet)\"
        compadd() { print -l -- ${(P)2} }; _podlet_names";
    let said = bed.ok(shell("zsh").args(["-f", "-c", script]));
    let mut words: Vec<_> = said.lines().collect();
    words.sort_unstable();
    assert_eq!(words, ["box", "web", "web/app", "web/db"]);
}
