//! Plugins that note how they were called, and do what a test says.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pod::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cni::{Attachment, Conflist, Record, Runtime};

/// A network namespace that lives as long as the test.
pub(super) const NETNS: &str = "/proc/self/ns/net";

/// A directory with plugins, and a runtime that knows no other.
pub(super) struct Fake {
    pub(super) dir: TempDir,
    pub(super) runtime: Runtime,
}

/// How a plugin was called.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Such as `one ADD`.
    pub(super) what: String,
    pub(super) netns: String,
    pub(super) args: String,
    pub(super) stdin: Value,
}

const SCRIPT: &str = r#"#!/bin/sh
d=DIR
me=${0##*/}
read=$(cat)
printf '%s\n' "$me $CNI_COMMAND|$CNI_NETNS|$CNI_ARGS|$read" >>$d/calls
[ -e $d/$me.$CNI_COMMAND ] && . $d/$me.$CNI_COMMAND
[ -e $d/any.$CNI_COMMAND ] && . $d/any.$CNI_COMMAND
[ $CNI_COMMAND = ADD ] && printf '{"ips": [{"address": "10.1.2.3/24"}], "dns": {"domain": "%s"}}' $me
exit 0
"#;

impl Fake {
    pub(super) fn new(plugins: &[&str]) -> Fake {
        let dir = tempfile::tempdir().expect("a directory");
        let mut runtime = Runtime::new(dir.path().join("locks"));
        runtime.plugin_dirs = vec![dir.path().join("bin")];
        let fake = Fake { dir, runtime };
        fs::create_dir(fake.path("bin")).expect("a directory");
        for plugin in plugins {
            let script = SCRIPT.replace("DIR", &fake.dir.path().display().to_string());
            fake.program(plugin, &script);
        }
        fake
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }

    /// What a plugin does for a command, before what it does else.
    pub(super) fn on(&self, plugin: &str, command: &str, script: &str) {
        fs::write(self.path(&format!("{plugin}.{command}")), script).expect("a script");
    }

    pub(super) fn off(&self, plugin: &str, command: &str) {
        fs::remove_file(self.path(&format!("{plugin}.{command}"))).expect("a script that was there");
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let call = |line: &str| {
            let mut parts = line.splitn(4, '|').map(str::to_owned);
            let mut next = || parts.next().expect("four parts");
            let (what, netns, args) = (next(), next(), next());
            Call { what, netns, args, stdin: serde_json::from_str(&next()).expect("JSON") }
        };
        text.lines().map(call).collect()
    }

    /// Such as `["one ADD", "two ADD"]`, since this was asked last.
    pub(super) fn called(&self) -> Vec<String> {
        let called = self.calls().into_iter().map(|call| call.what).collect();
        fs::remove_file(self.path("calls")).unwrap_or_default();
        called
    }

    pub(super) fn add(&self, network: &Conflist) -> Result<Record> {
        Ok(self.runtime.add(network, &attachment(), &mut ignore)?.0)
    }
}

pub(super) fn ignore(_: &Record) -> Result<()> {
    Ok(())
}

pub(super) fn attachment() -> Attachment {
    Attachment::new("web", NETNS, "eth0")
}

pub(super) fn list(version: &str, plugins: &[&str]) -> Conflist {
    let plugins: Vec<Value> = plugins.iter().map(|kind| json!({"type": kind})).collect();
    parse(json!({"cniVersion": version, "name": "net", "plugins": plugins}))
}

pub(super) fn parse(list: Value) -> Conflist {
    Conflist::parse(list.to_string().as_bytes()).expect("a good list")
}

pub(super) fn refusal(list: Value) -> String {
    Conflist::parse(list.to_string().as_bytes()).expect_err("a bad list").to_string()
}

pub(super) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Makes a FIFO, by which a script waits for its test.
pub(super) fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a fifo");
}

/// Lets a script that reads a line from a FIFO go on, also when its test fails.
pub(super) struct GoOn(pub(super) PathBuf);

impl Drop for GoOn {
    fn drop(&mut self) {
        // Open for both ways it waits for no reader, and left open it loses nothing.
        let mut fifo = fs::OpenOptions::new().read(true).write(true).open(&self.0).expect("a fifo");
        fifo.write_all(b"x\n").expect("it goes on");
        std::mem::forget(fifo);
    }
}

/// Long enough for anything that comes, short enough for what does not.
pub(super) const SHORT: Duration = Duration::from_millis(300);
