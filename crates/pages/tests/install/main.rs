//! What `make install` and `make deb` install: by their own scripts, with programs
//! that stand for podlet and podlet-oci, so that no release is built. What shells and
//! tools say of it is asked where they are there.

mod completions;
mod files;
mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The sources' directory.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is to be installed: `programs` and `pages` in a directory.
struct Bed {
    dir: TempDir,
}

impl Bed {
    fn new() -> Bed {
        let dir = TempDir::new().expect("a directory");
        let programs = dir.path().join("programs");
        std::fs::create_dir(&programs).expect("a directory");
        for name in ["podlet", "podlet-oci"] {
            std::fs::write(programs.join(name), "#!/bin/sh\n").expect("a file");
        }
        let bed = Bed { dir };
        bed.ok(Command::new(env!("CARGO_BIN_EXE_pages")).arg(bed.path("pages")));
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a command prints, which has to end well.
    fn ok(&self, command: &mut Command) -> String {
        let Output { status, stdout, stderr } = command.output().expect("the program is there");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
        assert_eq!(stderr, "", "{command:?}");
        stdout.into_owned()
    }
}

/// Whether a test of a tool can be made; in CI all of them can.
fn has(tool: &str) -> bool {
    let is_there =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(tool).is_file());
    if !is_there {
        eprintln!("left out: there is no {tool}");
    }
    is_there
}
