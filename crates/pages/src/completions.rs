//! Shell completions: what `clap_complete` makes of a command, and for podlet the
//! names of the pods and containers that there are.

use clap::{Command, ValueHint};
use clap_complete::Shell;

/// Only marks what takes such a name: no option of podlet's is about users of this
/// machine. zsh's word for them is then replaced by ours.
const NAME: ValueHint = ValueHint::Username;

/// The files of a command, each with its name.
pub fn of(command: &Command) -> [(String, String); 3] {
    let name = command.get_name();
    let has_names = name == "podlet";
    let (bash, zsh, fish) = (script(Shell::Bash, command), script(Shell::Zsh, command), script(Shell::Fish, command));
    [
        (format!("{name}.bash"), if has_names { bash + &bash_names(command) } else { bash }),
        (format!("_{name}"), if has_names { zsh_with_names(command) } else { zsh }),
        (format!("{name}.fish"), if has_names { fish + &fish_names(command) } else { fish }),
    ]
}

fn script(shell: Shell, command: &Command) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), command.get_name(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Pods by themselves, and then all containers.
const FISH_NAMES: &str =
    "(podlet ps --all --quiet 2>/dev/null | string split -f1 /; podlet ps --all --quiet 2>/dev/null)";

/// Whether an argument is the name of a pod or container that is there.
fn is_name(of: &Command, arg: &clap::Arg) -> bool {
    let is_new = of.get_name() == "create";
    arg.is_positional() && !is_new && matches!(arg.get_id().as_str(), "target" | "targets" | "pod" | "pods")
}

fn zsh_with_names(command: &Command) -> String {
    let text = script(Shell::Zsh, &marked(command.clone())).replace(":_users'", ":_podlet_names'");
    // The last lines call what is above them.
    text.replacen("\n\n", &format!("\n{}\n", include_str!("names.zsh")), 1)
}

fn marked(command: Command) -> Command {
    let of = command.clone();
    command.mut_args(|arg| if is_name(&of, &arg) { arg.value_hint(NAME) } else { arg }).mut_subcommands(marked)
}

/// The commands that take names, and the words before them.
fn with_names(command: &Command, path: &str) -> Vec<String> {
    let takes = command.get_arguments().any(|arg| is_name(command, arg));
    let nested = command.get_subcommands().flat_map(|sub| with_names(sub, &help::join(path, sub.get_name())));
    takes.then(|| path.to_string()).into_iter().chain(nested).collect()
}

fn bash_names(command: &Command) -> String {
    let groups: Vec<_> =
        command.get_subcommands().filter(|sub| sub.has_subcommands()).map(|sub| sub.get_name()).collect();
    let quoted: Vec<_> = with_names(command, "").iter().map(|path| format!("'{path}'")).collect();
    include_str!("names.bash").replace("@GROUPS@", &groups.join(" | ")).replace("@PODS@", &quoted.join(" | "))
}

/// fish is told of no words but options and subcommands.
fn fish_names(command: &Command) -> String {
    let mut text = String::from("\n# Names of pods and containers.\n");
    for path in with_names(command, "") {
        let condition = match path.split_once(' ') {
            Some((group, nested)) => format!("{group}; and __fish_seen_subcommand_from {nested}"),
            None => path,
        };
        text +=
            &format!("complete -c podlet -n \"__fish_podlet_using_subcommand {condition}\" -f -a \"{FISH_NAMES}\"\n");
    }
    text
}
