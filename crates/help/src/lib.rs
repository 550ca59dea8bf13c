//! What a command line is like, shown: examples at the end of a command's
//! `--help`, and in its man page.
//!
//! A command has one table of them, by the words of its subcommands. A run
//! touches none of it: only where help was asked for are all subcommands built, and
//! the command line read again by what has the examples.
#![deny(missing_docs)]

use clap::Command;

/// What an example does, and the command line that does it.
pub type Example = (&'static str, &'static str);

/// The examples of subcommands, such as `network create`; those of the command
/// itself stand under the empty word.
pub type Table = [(&'static str, &'static [Example])];

/// The examples of a subcommand; none if it is not in the table.
pub fn examples(table: &Table, path: &str) -> &'static [Example] {
    table.iter().find(|(of, _)| *of == path).map_or(&[], |(_, examples)| examples)
}

/// A command and all its subcommands, built, with their examples.
pub fn with_examples(mut command: Command, table: &'static Table) -> Command {
    // What is deferred is not there before.
    command.build();
    add(command, "", table)
}

fn add(command: Command, path: &str, table: &'static Table) -> Command {
    let command = match examples(table, path) {
        [] => command,
        found => command.after_help(show(found)),
    };
    command.mut_subcommands(|sub| {
        let path = join(path, sub.get_name());
        add(sub, &path, table)
    })
}

/// The words of a subcommand of the one with these.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() || name.is_empty() { format!("{path}{name}") } else { format!("{path} {name}") }
}

fn show(examples: &[Example]) -> String {
    let lines = examples.iter().map(|(does, line)| format!("  # {does}\n  {line}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// What is wrong with a table: a subcommand without an example, examples of none,
/// an example of another command, or one that is refused. For the tests of
/// commands; `command` is to be built, and `parse` says why words are no command line.
pub fn mistakes(command: &Command, table: &Table, parse: impl Fn(Vec<String>) -> Result<(), String>) -> Vec<String> {
    let mut paths = Vec::new();
    collect(command, "", &mut paths);
    let without = paths.iter().filter(|path| examples(table, path).is_empty());
    let mut wrong: Vec<_> = without.map(|path| format!("{path:?} has no example")).collect();
    for (path, examples) in table {
        if !paths.iter().any(|known| known == path) {
            wrong.push(format!("{path:?} is no subcommand"));
        }
        for (_, line) in *examples {
            let start = join(command.get_name(), path);
            if line.strip_prefix(&start).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(' ')) {
                wrong.push(format!("{line}: does not begin with {start:?}"));
            }
            if let Err(reason) = parse(words(line)) {
                wrong.push(format!("{line}: {reason}"));
            }
        }
    }
    wrong
}

/// The words of all subcommands that are shown, but of `help`, whose are those of others.
fn collect(command: &Command, path: &str, into: &mut Vec<String>) {
    into.push(path.into());
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        collect(sub, &join(path, sub.get_name()), into);
    }
}

/// The words of a line, as a shell has them: single quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (i, part) in line.split('\'').enumerate() {
        let mut pieces = if i % 2 == 0 { part.split(' ').collect() } else { vec![part] }.into_iter();
        if let Some(last) = words.last_mut() {
            last.push_str(pieces.next().unwrap_or_default());
        }
        words.extend(pieces.map(String::from));
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &Table = &[("", &[("Look", "tool ls")]), ("box make", &[("Make one", "tool box make --name 'a b'")])];

    fn tool() -> Command {
        Command::new("tool")
            .subcommand(Command::new("ls"))
            .subcommand(Command::new("box").defer(|command| command.subcommand(Command::new("make"))))
    }

    #[test]
    fn help_ends_with_examples_also_of_what_is_deferred() {
        let tool = with_examples(tool(), TABLE);
        let error = tool.try_get_matches_from(["tool", "box", "make", "--help"]).unwrap_err();
        assert!(error.to_string().ends_with("\nExamples:\n  # Make one\n  tool box make --name 'a b'\n"), "{error}");
    }

    #[test]
    fn words_are_a_shells() {
        assert_eq!(
            words("run host sh -c 'echo a; exit 3' --x='{{.Pid}}'"),
            ["run", "host", "sh", "-c", "echo a; exit 3", "--x={{.Pid}}"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        let mut tool = tool();
        tool.build();
        let table: &Table =
            &[("", &[("Look", "tool ls")]), ("ls", &[("Look", "tool lsx")]), ("rm", &[("Remove", "tool rm")])];
        let wrong = mistakes(&tool, table, |words| if words == ["tool", "rm"] { Err("no".into()) } else { Ok(()) });
        assert_eq!(
            wrong,
            [
                "\"box\" has no example",
                "\"box make\" has no example",
                "tool lsx: does not begin with \"tool ls\"",
                "\"rm\" is no subcommand",
                "tool rm: no"
            ]
        );
    }
}
