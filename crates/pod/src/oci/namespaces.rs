//! Which namespaces a container makes and which it joins, and in what order.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::config::{Config, NamespaceEntry, NamespaceKind};
use crate::error::{Context, Error, Result};
use crate::kernel::facts::Facts;
use crate::kernel::idmap::{IdMap, parse_map};
use crate::kernel::namespace::Namespace;
use crate::kernel::procfs::{MountNamespace, mount_namespace_of, sees_all_pids};
use crate::kernel::{files, syscalls};
use crate::spec::users::Users;
use crate::spec::{ContainerSpec, NamespaceMode};

/// The namespaces of a container to be.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*`.
    pub made: u64,
    /// In the order to join them.
    pub joined: Vec<(Namespace, File)>,
    pub mounts: OpenedMntns,
    pub users: Users,
}

impl Namespaces {
    /// Whether it makes one of this kind.
    pub fn makes(&self, namespace: Namespace) -> bool {
        self.made & namespace.flag() != 0
    }
}

/// Whose mount namespace it is.
#[derive(Debug)]
pub(super) enum OpenedMntns {
    /// Its own.
    Own,
    /// This one, which is there.
    Joined(File),
    /// The caller's.
    Callers(File, MountNamespace),
}

impl OpenedMntns {
    /// Whether only the container is in there.
    pub fn are_own(&self) -> bool {
        matches!(self, OpenedMntns::Own)
    }

    /// What its process has to join for it.
    pub fn file(&self) -> Option<&File> {
        match self {
            OpenedMntns::Own => None,
            OpenedMntns::Joined(file) | OpenedMntns::Callers(file, _) => Some(file),
        }
    }
}

/// Opens what is to be joined, and looks whether it is what it should be.
pub(super) fn prepare(config: &Config, facts: &Facts) -> Result<Namespaces> {
    let made = config.namespaces.iter().filter(|entry| entry.path.is_none());
    let made = made.fold(0, |flags, entry| flags | entry.kind.flag());
    let mut joined = Vec::new();
    for entry in &config.namespaces {
        if let (Some(path), Some(namespace)) = (&entry.path, shared(entry.kind)) {
            joined.push((namespace, open(path, namespace.flag(), namespace.name())?));
        }
    }
    order(&mut joined);
    let mounts = match config.namespace(NamespaceKind::Mount) {
        Some(NamespaceEntry { path: None, .. }) => OpenedMntns::Own,
        Some(NamespaceEntry { path: Some(path), .. }) => OpenedMntns::Joined(open_mounts(path, config, &joined)?),
        None => callers_mounts(config, facts)?,
    };
    let users = users(config, facts)?;
    Ok(Namespaces { made, joined, mounts, users })
}

/// A mount namespace to join: all processes in there get the container's root.
fn open_mounts(path: &Path, config: &Config, joined: &[(Namespace, File)]) -> Result<File> {
    let refuse = |reason: &str| Err(Error::invalid("linux.namespaces[].path", path.to_string_lossy(), reason));
    let file = open(path, libc::CLONE_NEWNS as u64, "mnt")?;
    if is_same(&file, "/proc/self/ns/mnt") == Some(true) {
        let reason = "this program's own mount namespace: its root would become the container's for everybody in \
                      there; leave out the entry `mount` to be in it with a root of its own";
        return refuse(reason);
    }
    match is_of_process_1(&file) {
        Some(false) => {}
        Some(true) => {
            let reason = "the mount namespace of process 1: its root would become the container's for the whole \
                          machine; run podlet-oci in there, and leave out the entry `mount`";
            return refuse(reason);
        }
        None => {
            let reason = "it may be the mount namespace of process 1, which this program may not look at: give it \
                          CAP_SYS_PTRACE";
            return refuse(reason);
        }
    }
    let user = joined.iter().find(|(namespace, _)| *namespace == Namespace::User).map(|(_, file)| file);
    match (config.namespace(NamespaceKind::User), user) {
        (Some(_), Some(user)) if !belongs_to(&file, user) => refuse(
            "this mount namespace belongs to another user namespace than the one to join, from which nothing can be \
             mounted in it: give the path of that, or leave out the entry `user`",
        ),
        (Some(_), None) => refuse(
            "nothing can be mounted in this mount namespace from a new user namespace: give the path of the one that \
             it belongs to, or leave out the entry `user`",
        ),
        // Its owner could take away under the container what it relies on.
        (None, _) if !belongs_to(&file, &File::open(OWN_USERNS).doing(|| format!("opening {OWN_USERNS}"))?) => refuse(
            "this mount namespace belongs to another user namespace than this program is in: give the path of that as \
             the entry `user`, too",
        ),
        _ => Ok(file),
    }
}

const OWN_USERNS: &str = "/proc/self/ns/user";

/// The machine's first mount namespace, by inode (linux/nsfs.h); before Linux
/// 6.17 it was one of the first that were counted.
const INITIAL_MOUNTS: [u64; 3] = [0xEFFF_FFF8, 0xF000_0000, 0xF000_0001];

/// Whether it is the mount namespace of process 1; `None` if that cannot be told.
fn is_of_process_1(file: &File) -> Option<bool> {
    // The machine's own process 1 is in the first one.
    let is_initial = || sees_all_pids().then_some(INITIAL_MOUNTS.contains(&file.metadata().ok()?.ino()));
    is_same(file, "/proc/1/ns/mnt").or_else(is_initial)
}

/// The caller's own, where there is no entry.
fn callers_mounts(config: &Config, facts: &Facts) -> Result<OpenedMntns> {
    let field = "linux.namespaces";
    if !facts.privileged {
        let reason = "missing, and in this program's own mount namespace an ordinary user cannot mount: add it, and \
                      `user`";
        return Err(Error::invalid(field, "mount", reason));
    }
    if config.namespace(NamespaceKind::User).is_some() {
        let reason = "missing, and in this program's own mount namespace nothing can be mounted from another user \
                      namespace: add it, or remove `user`";
        return Err(Error::invalid(field, "mount", reason));
    }
    let path = "/proc/self/ns/mnt";
    let file = File::open(path).doing(|| format!("opening {path}"))?;
    let known = mount_namespace_of(&file).doing(|| format!("looking at {path}"))?;
    Ok(OpenedMntns::Callers(file, known))
}

/// `None` if one of the two cannot be looked at.
fn is_same(file: &File, path: &str) -> Option<bool> {
    let number = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    Some(file.metadata().map(number).ok()? == std::fs::metadata(path).map(number).ok()?)
}

fn shared(kind: NamespaceKind) -> Option<Namespace> {
    Namespace::ALL.into_iter().find(|namespace| namespace.flag() == kind.flag())
}

fn open(path: &Path, flag: u64, name: &str) -> Result<File> {
    let wrong = |reason: String| Error::invalid("linux.namespaces[].path", path.to_string_lossy(), reason);
    let found = files::look(path).map_err(|errno| wrong(errno.desc().into()).because(errno))?;
    let no_namespace = || wrong(format!("not a {name} namespace"));
    // Anything else is not opened.
    if !fstatfs(&found).is_ok_and(|system| system.filesystem_type() == NSFS_MAGIC) {
        return Err(no_namespace());
    }
    let file = files::reopen(&File::from(found)).map_err(|error| wrong(error.to_string()).because(error))?;
    match syscalls::namespace_kind(&file) {
        Ok(kind) if kind == flag => Ok(file),
        _ => Err(no_namespace()),
    }
}

/// Namespaces that do not belong to the user namespace to join come before it:
/// once inside there would be no right to join them. The pid namespace counts for
/// children only, so its position does not matter.
fn order(joined: &mut [(Namespace, File)]) {
    let user = joined.iter().find(|(namespace, _)| *namespace == Namespace::User);
    let Some(user) = user.and_then(|(_, file)| file.try_clone().ok()) else { return };
    joined.sort_by_key(|(namespace, file)| match namespace {
        Namespace::User => 1,
        _ if belongs_to(file, &user) => 2,
        _ => 0,
    });
}

/// Whether a user namespace owns this one.
fn belongs_to(namespace: &File, user: &File) -> bool {
    let owner = syscalls::namespace_owner(namespace.as_fd()).ok().map(File::from).and_then(|file| file.metadata().ok());
    owner.zip(user.metadata().ok()).is_some_and(|(owner, user)| owner.ino() == user.ino())
}

fn users(config: &Config, facts: &Facts) -> Result<Users> {
    let (uids, gids) = (config.uid_maps.clone(), config.gid_maps.clone());
    match config.namespace(NamespaceKind::User) {
        None if !facts.privileged => {
            let reason = "an ordinary user's container needs one: add `user`, with linux.uidMappings and gidMappings";
            Err(Error::invalid("linux.namespaces", "user", reason))
        }
        None => Ok(Users::Caller),
        Some(NamespaceEntry { path: Some(path), .. }) => {
            // The maps can be read where it is given as /proc/<pid>/ns/user.
            let read = |file: &str| {
                let dir = path.to_str().and_then(|path| path.strip_suffix("/ns/user"));
                dir.and_then(|dir| std::fs::read_to_string(format!("{dir}/{file}")).ok()).unwrap_or_default()
            };
            let or = |maps: Vec<IdMap>, file| if maps.is_empty() { parse_map(&read(file)) } else { maps };
            let (uids, gids) = (or(uids, "uid_map"), or(gids, "gid_map"));
            match read("setgroups").trim() {
                "deny" => Ok(Users::Nested { uids, gids, by_helper: false, apart: false }),
                _ => Ok(Users::New { uids, gids }),
            }
        }
        Some(_) if facts.privileged => Ok(Users::New { uids, gids }),
        Some(_) => {
            let single =
                |maps: &[IdMap], own: u32| matches!(maps, [IdMap { outside, count: 1, .. }] if *outside == own);
            let by_helper = !(single(&uids, facts.uid) && single(&gids, facts.gid));
            Ok(Users::Nested { uids, gids, by_helper, apart: false })
        }
    }
}

/// Where the container's namespaces are, as plans of mounts see it.
pub(super) fn place(container: &mut ContainerSpec, config: &Config) {
    let mode = |kind| if config.namespace(kind).is_some() { NamespaceMode::Own } else { NamespaceMode::Host };
    container.net = mode(NamespaceKind::Network);
    container.ipc = mode(NamespaceKind::Ipc);
    container.cgroup = mode(NamespaceKind::Cgroup);
    container.pid = NamespaceMode::Own;
}
