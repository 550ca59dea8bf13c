//! `podlet-oci run` beside `runc run`, on the same bundles.
//!
//! `fixtures/bundles/NAME.json` says what differs from `base.json`:
//!
//! ```text
//!   config    for config.json, as a merge patch (RFC 7386); to "mounts+" is
//!             added
//!   files     of the root file system: text, null for a directory (with "/"
//!             at its end), "-> target" for a link
//!   outside   the same, of the directory DIR/out
//!   owner     whose the root file system is
//!   before    shell commands of the caller
//!   options   of `run`
//!   terminal  the caller has one, perhaps of a size: runc gives the container's
//!             that of the caller's at some moment after its start
//! ```
//!
//! `DIR` stands for the bundle's directory, `@ID` for the container, `JOINED`
//! for a directory of namespaces; `DIR/shared` is a shared mount with another
//! one in `below`. What the probe sees of itself, what the hooks write and
//! what is left in the bundle is compared line by line. [`KNOWN`] explains the
//! differences, each of them; an explanation that explains nothing is wrong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::bundles_known::KNOWN;
use crate::bed::Bed;

crate::tests![podlet_oci_does_as_runc_does, what_a_bundle_unmounts_stays_on_the_machine];

/// Where Debian has it, and others.
pub fn runc() -> Option<&'static str> {
    ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"].into_iter().find(|path| Path::new(path).exists())
}

/// A bundle on shared mounts, as all are where systemd has made them.
fn what_a_bundle_unmounts_stays_on_the_machine(bed: &Bed) {
    let joined = Joined::make();
    let fixture = json!({ "config": { "process": { "args": ["/probe", "exit", "0"] } } });
    let ground = Ground::make(bed, &fixture, &base(), &joined);
    let none: Option<&str> = None;
    mount(Some(&ground.dir), &ground.dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect("a bind");
    mount(none, &ground.dir, none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).expect("shared mounts");
    let dir = ground.dir.clone();
    let before = crate::leaks::mounts();
    bed.finish(ground.command(bed, &bed.program("podlet-oci").display().to_string(), "state")).code(0);
    let after = crate::leaks::mounts();
    umount2(&dir, MntFlags::MNT_DETACH).expect("unmounting");
    assert_eq!(before, after);
}

fn base() -> Value {
    podlet_tests::BUNDLES.iter().find(|(name, _)| *name == "base").map(parse).expect("base.json")
}

fn podlet_oci_does_as_runc_does(bed: &Bed) {
    let runc = runc().expect("runc: see the list of skips");
    let joined = Joined::make();
    let mut needed = vec![false; KNOWN.len()];
    let mut wrong = Vec::new();
    let base = base();
    for (name, text) in podlet_tests::BUNDLES.iter().filter(|(name, _)| *name != "base") {
        let fixture = parse(&(name, text));
        let run = |program: &str, state: &str| Ground::make(bed, &fixture, &base, &joined).run(bed, program, state);
        let theirs = run(runc, "runc-state");
        let ours = run(&bed.program("podlet-oci").display().to_string(), "state");
        for line in differences(&theirs, &ours) {
            let known: Vec<usize> = (0..KNOWN.len()).filter(|&i| KNOWN[i].explains(name, &line)).collect();
            known.iter().for_each(|&i| needed[i] = true);
            if known.is_empty() {
                wrong.push(format!("{name}: {line}"));
            }
        }
    }
    let idle = KNOWN.iter().zip(&needed).filter(|(_, needed)| !**needed);
    wrong.extend(idle.map(|(known, _)| format!("explains nothing any more: {known:?}")));
    assert!(wrong.is_empty(), "runc (-) and podlet-oci (+) differ:\n{}", wrong.join("\n"));
}

fn parse((name, text): &(&str, &str)) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("fixtures/bundles/{name}.json: {error}"))
}

/// Lines that only one of them has, `-` for the first and `+` for the second.
fn differences(theirs: &[String], ours: &[String]) -> Vec<String> {
    let lacks = |lines: &[String], others: &[String], sign: &str| {
        let mut others: Vec<&String> = others.iter().collect();
        let mut left = Vec::new();
        for line in lines {
            match others.iter().position(|other| *other == line) {
                Some(at) => drop(others.swap_remove(at)),
                None => left.push(format!("{sign} {line}")),
            }
        }
        left
    };
    [lacks(theirs, ours, "-"), lacks(ours, theirs, "+")].concat()
}

/// A process with namespaces to join.
struct Joined(Child);

impl Joined {
    fn make() -> Joined {
        let mut command = Command::new("unshare");
        command.args(["-n", "-i", "-u", "-p", "-f", "sh", "-c", "echo up; read end"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "up\n");
        Joined(child)
    }

    fn dir(&self) -> String {
        format!("/proc/{}/ns", self.0.id())
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// A bundle, made anew for each run.
struct Ground<'a> {
    dir: PathBuf,
    id: String,
    fixture: &'a Value,
    joined: &'a Joined,
}

impl Ground<'_> {
    fn make<'a>(bed: &Bed, fixture: &'a Value, base: &Value, joined: &'a Joined) -> Ground<'a> {
        // Others may run the same at the same time, and cgroup v1 is shared.
        let ground =
            Ground { dir: bed.dir.join("bundle"), id: format!("peer-{}", std::process::id()), fixture, joined };
        fs::create_dir(&ground.dir).expect("the bundle");
        let rootfs = bed.make_rootfs("bundle/rootfs");
        for dir in ["proc", "dev", "sys"] {
            fs::create_dir(rootfs.join(dir)).expect("a directory of the rootfs");
        }
        ground.fill("files", &rootfs);
        ground.fill("outside", &ground.dir.join("out"));
        if let Some(owner) = fixture["owner"].as_u64() {
            give(&rootfs, owner as u32);
        }
        let shared = ground.dir.join("shared");
        fs::create_dir(&shared).expect("a directory");
        tmpfs(&shared);
        fs::create_dir(shared.join("below")).expect("a directory");
        tmpfs(&shared.join("below"));
        let mut config = base.clone();
        patch(&mut config, &fixture["config"]);
        let text = ground.expand(&config.to_string());
        fs::write(ground.dir.join("config.json"), text).expect("config.json");
        ground
    }

    fn fill(&self, key: &str, dir: &Path) {
        for (name, text) in self.fixture[key].as_object().into_iter().flatten() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap_or(dir)).expect("a directory");
            match text.as_str() {
                None => fs::create_dir_all(&path).expect("a directory"),
                Some(text) => match text.strip_prefix("-> ") {
                    Some(target) => symlink(target, &path).expect("a link"),
                    None => fs::write(&path, text).expect("a file"),
                },
            }
        }
    }

    fn expand(&self, text: &str) -> String {
        let text = text.replace("DIR", &self.dir.display().to_string());
        text.replace("JOINED", &self.joined.dir()).replace("@ID", &self.id)
    }

    /// `run`, with what the fixture says of the caller.
    fn command(&self, bed: &Bed, program: &str, state: &str) -> Command {
        let words = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
        };
        let line = [
            vec![program.into(), "--root".into(), bed.dir.join(state).display().to_string(), "run".into()],
            words(&self.fixture["options"]),
            vec!["--bundle".into(), self.dir.display().to_string(), self.id.clone()],
        ];
        let before = self.fixture["before"].as_str().unwrap_or(":");
        let terminal = &self.fixture["terminal"];
        let mut command = if terminal.is_null() {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("{before}; exec \"$@\"")).arg("sh").args(line.concat());
            command
        } else {
            let size = match (&terminal["rows"], &terminal["columns"]) {
                (Value::Null, _) => String::new(),
                (rows, columns) => format!("stty rows {rows} columns {columns}; "),
            };
            let mut command = Command::new("script");
            let line = format!("{size}exec {}", line.concat().join(" "));
            command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
            command
        };
        command.stdin(Stdio::piped());
        command
    }

    /// Everything that can be seen of one run.
    fn run(self, bed: &Bed, program: &str, state: &str) -> Vec<String> {
        let said = bed.finish(self.command(bed, program, state));
        let mut seen: Vec<String> = said.out.lines().map(|line| self.normal(line)).collect();
        seen.retain(|line| !line.is_empty());
        seen.push(format!("exit {:?}", said.status.code()));
        seen.push(format!("errors {}", !said.err.is_empty()));
        let hooks = fs::read_to_string(self.dir.join("hooks")).unwrap_or_default();
        seen.extend(hooks.lines().enumerate().map(|(i, line)| self.normal(&format!("hook {i} {line}"))));
        // What a container unmounts must not be gone here.
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mut mounts: Vec<_> = table.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>()).collect();
        mounts.retain(|fields| Path::new(fields[1]).starts_with(&self.dir));
        seen.extend(mounts.iter().map(|fields| self.normal(&format!("machine {} {}", fields[1], fields[2]))));
        for part in ["rootfs", "out"] {
            seen.extend(
                crate::leaks::tree(&self.dir.join(part)).iter().map(|path| self.normal(&left(Path::new(path)))),
            );
        }
        let mut left = crate::leaks::tree(&bed.dir.join(state));
        left.retain(|path| !path.ends_with("/.sweep"));
        assert!(left.is_empty(), "left behind by {program}: {left:?}");
        seen
    }

    /// Without what is another run's: names, and the numbers of namespaces.
    fn normal(&self, line: &str) -> String {
        // What script(1) echoes of the end of its input.
        let line = line
            .trim_end()
            .trim_start_matches("^@")
            .replace(&self.dir.display().to_string(), "DIR")
            .replace(&self.id, "@ID");
        let words: Vec<&str> = line.split(' ').collect();
        let ["ns", kind, number] = words[..] else { return line };
        let is = |dir: &str| fs::metadata(format!("{dir}/{kind}")).is_ok_and(|meta| meta.ino().to_string() == number);
        let joined = self.joined.dir();
        let whose = [("/proc/self/ns", "the machine's"), (&*joined, "joined")].into_iter().find(|(dir, _)| is(dir));
        format!("ns {kind} {}", whose.map_or("new", |(_, whose)| whose))
    }
}

impl Drop for Ground<'_> {
    fn drop(&mut self) {
        for dir in ["shared/below", "shared"] {
            umount2(&self.dir.join(dir), MntFlags::MNT_DETACH).ok();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn tmpfs(dir: &Path) {
    let none: Option<&str> = None;
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
    mount(none, dir, none, MsFlags::MS_SHARED, none).expect("a shared mount");
}

fn give(dir: &Path, owner: u32) {
    for path in crate::leaks::tree(dir).iter().map(Path::new).chain([dir]) {
        std::os::unix::fs::lchown(path, Some(owner), Some(owner)).expect("chown");
    }
    // Its way there.
    for above in dir.ancestors().skip(1).take(2) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("mode");
        chown(above, Some(0), Some(0)).expect("chown");
    }
}

/// What a run has left.
fn left(path: &Path) -> String {
    let target = fs::read_link(path).map(|target| format!(" to {}", target.display())).unwrap_or_default();
    match fs::symlink_metadata(path) {
        Err(error) => format!("left {}: {error}", path.display()),
        Ok(meta) => format!("left {}: {:o} {}:{}{target}", path.display(), meta.mode(), meta.uid(), meta.gid()),
    }
}

/// A merge patch; what `NAME+` has is added to the array `NAME`.
fn patch(value: &mut Value, change: &Value) {
    let Some(change) = change.as_object() else {
        if !change.is_null() {
            *value = change.clone();
        }
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (name, change) in change {
        if let Some(name) = name.strip_suffix('+') {
            let added = change.as_array().cloned().unwrap_or_default();
            if let Some(array) = value[name].as_array_mut() {
                array.extend(added);
            }
        } else if change.is_null() {
            value.as_object_mut().expect("an object").remove(name);
        } else {
            patch(&mut value[name], change);
        }
    }
}
