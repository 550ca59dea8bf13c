//! Which namespaces a container makes and which it joins, and in what order.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::config::{Config, NamespaceEntry, NamespaceKind};
use crate::error::{Error, Result};
use crate::facts::{Facts, IdMap, parse_map};
use crate::plan::hold::Users;
use crate::spec::{Container, Namespace, Place};
use crate::sys;

/// The namespaces of a container to be.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*`.
    pub made: u64,
    /// In the order to join them.
    pub joined: Vec<(Namespace, File)>,
    pub users: Users,
}

/// Opens what is to be joined, and looks whether it is what it should be.
pub(super) fn prepare(config: &Config, facts: &Facts) -> Result<Namespaces> {
    let mounts = config.namespace(NamespaceKind::Mount);
    match mounts {
        Some(NamespaceEntry { path: None, .. }) => {}
        Some(NamespaceEntry { path: Some(path), .. }) => {
            let reason = "a container needs a mount namespace of its own: changing its root would change that of \
                          everybody in there; remove the path";
            return Err(Error::invalid("linux.namespaces[].path", path.to_string_lossy(), reason));
        }
        None => {
            let reason = "missing, and the machine's own cannot get another root: add it";
            return Err(Error::invalid("linux.namespaces", "mount", reason));
        }
    }
    let made = config.namespaces.iter().filter(|entry| entry.path.is_none());
    let made = made.fold(0, |flags, entry| flags | entry.kind.flag());
    let mut joined = Vec::new();
    for entry in &config.namespaces {
        if let (Some(path), Some(namespace)) = (&entry.path, shared(entry.kind)) {
            joined.push((namespace, open(path, namespace)?));
        }
    }
    order(&mut joined);
    let users = users(config, facts)?;
    Ok(Namespaces { made, joined, users })
}

fn shared(kind: NamespaceKind) -> Option<Namespace> {
    Namespace::ALL.into_iter().find(|namespace| namespace.flag() == kind.flag())
}

fn open(path: &Path, namespace: Namespace) -> Result<File> {
    let wrong = |reason: String| Error::invalid("linux.namespaces[].path", path.to_string_lossy(), reason);
    // A pipe there would keep us waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| wrong(error.to_string()))?;
    match sys::namespace_kind(&file) {
        Ok(flag) if flag == namespace.flag() => Ok(file),
        _ => Err(wrong(format!("not a {} namespace", namespace.name()))),
    }
}

/// Those that do not belong to the user namespace to join come before it:
/// once inside there would be no right to. The pid namespace counts for
/// children only, so its place does not matter.
fn order(joined: &mut [(Namespace, File)]) {
    let user = joined.iter().find(|(namespace, _)| *namespace == Namespace::User);
    let Some(user) = user.and_then(|(_, file)| file.metadata().ok()) else { return };
    let belongs = |file: &File| {
        let owner = sys::namespace_owner(file.as_fd()).ok().map(File::from).and_then(|file| file.metadata().ok());
        owner.is_some_and(|owner| owner.ino() == user.ino())
    };
    joined.sort_by_key(|(namespace, file)| match namespace {
        Namespace::User => 1,
        _ if belongs(file) => 2,
        _ => 0,
    });
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
            // Of one that is given as /proc/<pid>/ns/user more can be read.
            let read = |file: &str| {
                let dir = path.to_str().and_then(|path| path.strip_suffix("/ns/user"));
                dir.and_then(|dir| std::fs::read_to_string(format!("{dir}/{file}")).ok()).unwrap_or_default()
            };
            let or = |maps: Vec<IdMap>, file| if maps.is_empty() { parse_map(&read(file)) } else { maps };
            let (uids, gids) = (or(uids, "uid_map"), or(gids, "gid_map"));
            match read("setgroups").trim() {
                "deny" => Ok(Users::Nested { uids, gids, by_helper: false }),
                _ => Ok(Users::New { uids, gids }),
            }
        }
        Some(_) if facts.privileged => Ok(Users::New { uids, gids }),
        Some(_) => {
            let single =
                |maps: &[IdMap], own: u32| matches!(maps, [IdMap { outside, count: 1, .. }] if *outside == own);
            let by_helper = !(single(&uids, facts.uid) && single(&gids, facts.gid));
            Ok(Users::Nested { uids, gids, by_helper })
        }
    }
}

/// Where the container's namespaces are, as plans of mounts see it.
pub(super) fn place(container: &mut Container, config: &Config) {
    let place = |kind| if config.namespace(kind).is_some() { Place::Own } else { Place::Host };
    container.net = place(NamespaceKind::Network);
    container.ipc = place(NamespaceKind::Ipc);
    container.cgroup = place(NamespaceKind::Cgroup);
    container.pid = Place::Own;
}
