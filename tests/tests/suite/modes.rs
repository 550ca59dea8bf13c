//! The user that runs a test: the caller, root of a user namespace, an ordinary
//! user.
//!
//! Entered by a process of its own, before anything of the test happens.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode as Permissions, SFlag, mknod};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// The user of an unprivileged mode when the suite is run as root.
const USER: u32 = 1000;
/// Ids of no user of this machine, for [`Mode::Delegated`].
const SUB_IDS: &str = "1000:3000000:65536\n";

/// How a test is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The machine's root, in a mount and cgroup namespace of its own.
    Root,
    /// Root of a user namespace that an ordinary user made (`unshare -Urm`).
    Mapped,
    /// An ordinary user, nothing else.
    User,
    /// An ordinary user with sub-ids and a cgroup of its own, as a login of a
    /// current distribution gives them.
    Delegated,
    /// As `Root`, on a machine where nothing is missing: every controller is
    /// in cgroup v2, root has every capability, and networks are made on the machine
    /// itself. Only if it is asked for.
    Vm,
}

impl Mode {
    /// Those that any machine has, if its owner is root.
    pub const USUAL: [Mode; 4] = [Mode::Root, Mode::Mapped, Mode::User, Mode::Delegated];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::Mapped => "mapped",
            Mode::User => "user",
            Mode::Delegated => "delegated",
            Mode::Vm => "vm",
        }
    }

    pub fn parse(name: &str) -> Option<Mode> {
        Mode::USUAL.into_iter().chain([Mode::Vm]).find(|mode| mode.name() == name)
    }

    /// The modes of a list of names; `all` are the possible ones and vm.
    pub fn chosen(names: &str, possible: &[Mode]) -> Vec<Mode> {
        if names == "all" {
            return possible.iter().copied().chain([Mode::Vm]).collect();
        }
        let choose = |name| {
            let mode = Mode::parse(name).unwrap_or_else(|| panic!("no mode {name}"));
            assert!(mode == Mode::Vm || possible.contains(&mode), "this caller cannot have mode {name}");
            mode
        };
        names.split(',').map(choose).collect()
    }

    /// What the caller can run. The others need root to be prepared.
    pub fn possible() -> Vec<Mode> {
        if !Uid::effective().is_root() {
            return vec![Mode::User, Mode::Mapped];
        }
        let mut modes = Mode::USUAL.to_vec();
        if !["/usr/bin/newuidmap", "/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists()) {
            println!("mode delegated left out: it needs newuidmap, /etc/subuid and /etc/subgid (package uidmap)");
            modes.retain(|mode| *mode != Mode::Delegated);
        }
        modes
    }

    /// The user whose files the test's are; `None` if that is the caller.
    pub fn owner(self) -> Option<u32> {
        (!matches!(self, Mode::Root | Mode::Vm) && Uid::effective().is_root()).then_some(USER)
    }

    /// Whether pods get cgroups.
    pub fn has_cgroups(self) -> bool {
        matches!(self, Mode::Root | Mode::Delegated | Mode::Vm) && hierarchy().is_some()
    }

    /// Whether a pod gets a user namespace though none was asked for.
    pub fn nests_users(self) -> bool {
        matches!(self, Mode::User | Mode::Delegated)
    }

    /// Whether containers can have more ids than 0.
    pub fn has_ids(self) -> bool {
        matches!(self, Mode::Root | Mode::Delegated | Mode::Vm)
    }

    /// Becomes what the mode says. `cgroup` is a name that no other test has.
    pub fn enter(self, dir: &Path, cgroup: &str) {
        match self {
            Mode::Root | Mode::Vm => {
                if let Some(mount_point) = hierarchy()
                    && move_to(&mount_point.join(cgroup)).is_ok()
                {
                    unshare(CloneFlags::CLONE_NEWCGROUP).expect("a cgroup namespace");
                    move_to(&mount_point.join(cgroup).join("harness")).expect("a cgroup below our own");
                    own_mounts();
                    // Instead of it, for the kernel refuses the same one on top.
                    umount2(&mount_point, MntFlags::MNT_DETACH).expect("unmounting cgroup2");
                    let none: Option<&str> = None;
                    mount(Some("cgroup2"), &mount_point, Some("cgroup2"), MsFlags::empty(), none).expect("cgroup2");
                } else {
                    own_mounts();
                }
            }
            Mode::User => {
                give_tun(dir);
                become_user();
            }
            Mode::Mapped => {
                become_user();
                let (uid, gid) = (Uid::effective(), Gid::effective());
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).expect("a user namespace");
                fs::write("/proc/self/setgroups", "deny").expect("setgroups");
                fs::write("/proc/self/uid_map", format!("0 {uid} 1")).expect("uid_map");
                fs::write("/proc/self/gid_map", format!("0 {gid} 1")).expect("gid_map");
            }
            Mode::Delegated => {
                if let Some(mount_point) = hierarchy() {
                    let top = mount_point.join(cgroup);
                    let own = top.join("harness");
                    if move_to(&top).and_then(|()| move_to(&own)).is_ok() {
                        for dir in [top, own] {
                            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                                chown(dir.join(file), Some(USER), Some(USER)).expect("delegating a cgroup");
                            }
                        }
                    }
                }
                own_mounts();
                for file in ["/etc/subuid", "/etc/subgid"] {
                    let ours = dir.join(file.trim_start_matches("/etc/"));
                    fs::write(&ours, SUB_IDS).expect("sub-ids");
                    let none: Option<&str> = None;
                    mount(Some(&ours), file, none, MsFlags::MS_BIND, none).expect("covering /etc/subuid");
                }
                become_user();
            }
        }
    }
}

fn become_user() {
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
        setgroups(&[]).expect("setgroups");
        setresgid(gid, gid, gid).expect("setresgid");
        setresuid(uid, uid, uid).expect("setresuid");
        // Or the files of /proc/self would be root's until the next execve.
        nix::sys::prctl::set_dumpable(true).expect("dumpable");
    }
}

/// Everybody may open /dev/net/tun, as udev has it; a machine without that lets only
/// root.
fn give_tun(dir: &Path) {
    let tun = Path::new("/dev/net/tun");
    let is_everybodys = |meta: fs::Metadata| meta.permissions().mode() & 0o006 == 0o006;
    if !Uid::effective().is_root() || !tun.exists() || fs::metadata(tun).is_ok_and(is_everybodys) {
        return;
    }
    own_mounts();
    let (ours, none): (_, Option<&str>) = (dir.join("tun"), None);
    let device = fs::metadata(tun).expect("the device").rdev();
    mknod(&ours, SFlag::S_IFCHR, Permissions::empty(), device).expect("a device");
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o666)).expect("mode");
    mount(Some(&ours), tun, none, MsFlags::MS_BIND, none).expect("covering /dev/net/tun");
}

fn own_mounts() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
}

/// The mount point of cgroup v2.
pub fn hierarchy() -> Option<PathBuf> {
    let candidates = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    candidates.into_iter().find(|path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC))
}

fn move_to(cgroup: &Path) -> std::io::Result<()> {
    fs::create_dir_all(cgroup)?;
    fs::write(cgroup.join("cgroup.procs"), "0")
}

/// Removes what [`Mode::enter`] made, once no process is in there.
pub fn remove_cgroup(name: &str) {
    if let Some(mount_point) = hierarchy() {
        remove_tree(&mount_point.join(name));
    }
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(dir).ok();
}
