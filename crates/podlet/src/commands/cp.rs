//! `podlet cp`: files into a container, out of it, and from one to another.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use pod::{Copied, CopyOptions, Store};

use crate::output;
use crate::target::Target;

/// Copy files between containers and this machine
#[derive(Args)]
pub struct Cp {
    /// Keep owners: the same ids inside. Else copies belong to the container's root, or outside to the caller
    #[arg(short, long)]
    archive: bool,
    /// PATH, or POD:PATH or POD/CONTAINER:PATH; what ends in /. is the contents of a directory
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The same; a directory that is there, or the name that the copy gets
    #[arg(value_name = "TARGET")]
    target: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq)]
enum End<'a> {
    Here(&'a Path),
    Inside(&'a str, &'a Path),
}

impl Cp {
    pub fn run(&self, store: &Store) -> Result<u8> {
        let (source, target) = (parse(&self.source)?, parse(&self.target)?);
        let options = CopyOptions::default().keep_owners(self.archive);
        let copied = match (source, target) {
            (End::Here(_), End::Here(_)) => bail!(
                "neither {:?} nor {:?} is in a container: write POD:PATH or POD/CONTAINER:PATH; cp(1) copies on this machine",
                self.source,
                self.target
            ),
            (End::Here(from), End::Inside(name, to)) => {
                Target::open(store, name)?.one()?.copy_in(&absolute(from)?, to, &options)?
            }
            (End::Inside(name, from), End::Here(to)) => {
                Target::open(store, name)?.one()?.copy_out(from, &absolute(to)?, &options)?
            }
            (End::Inside(one, from), End::Inside(other, to)) => {
                let (one, other) = (Target::open(store, one)?, Target::open(store, other)?);
                one.one()?.copy_to(from, &other.one()?, to, &options)?
            }
        };
        say_left_out(&copied);
        Ok(0)
    }
}

/// As podman has it: what begins with `/` or `.` is a path of this machine, whatever
/// colons are in it.
fn parse(text: &str) -> Result<End<'_>> {
    if text == "-" {
        bail!(
            "\"-\": there are no streams of tar(1) yet: copy to a directory and use tar there, \
             or `podlet exec NAME tar c PATH` where the container has one"
        );
    }
    let inside = text.split_once(':').filter(|(name, _)| !name.starts_with(['/', '.']));
    match inside {
        _ if text.is_empty() => bail!("\"\": give a path"),
        None => Ok(End::Here(Path::new(text))),
        Some(("", _)) => bail!("{text:?}: give POD:PATH or POD/CONTAINER:PATH"),
        Some((_, "")) => bail!("{text:?}: give a path behind the colon"),
        Some((name, path)) => Ok(End::Inside(name, Path::new(path))),
    }
}

/// With what it ends in: `dir/.` is not `dir`.
fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::env::current_dir()?.join(path))
}

fn say_left_out(copied: &Copied) {
    const SHOWN: usize = 5;
    if let Some(more) = copied.left_out.len().checked_sub(1) {
        let names: Vec<_> =
            copied.left_out.iter().take(SHOWN).map(|path| output::plain(&path.to_string_lossy())).collect();
        let rest = (more + 1).saturating_sub(SHOWN);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        output::note(format_args!(
            "note: left out, for they are devices, pipes, sockets or the kernel's own: {}{rest}",
            names.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_as_podman_has_them() {
        for (text, expected) in [
            ("web:/etc", End::Inside("web", Path::new("/etc"))),
            ("web/db:data:old", End::Inside("web/db", Path::new("data:old"))),
            ("./web:/etc", End::Here(Path::new("./web:/etc"))),
            ("/a:b", End::Here(Path::new("/a:b"))),
            ("file", End::Here(Path::new("file"))),
        ] {
            assert_eq!(parse(text).expect(text), expected, "{text}");
        }
        for (text, word) in [("-", "tar"), ("", "give a path"), (":/x", "POD:PATH"), ("web:", "behind the colon")] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
