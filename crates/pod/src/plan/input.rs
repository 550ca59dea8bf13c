//! Everything that the plan of a container depends on.

use std::path::{Path, PathBuf};

use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{Container, Mount, MountKind, NamespaceMode, PodOptions};

/// Where the root is attached in a copy of pause's.
pub const IN_PAUSE: &str = "/root";

/// Where a container's root comes from, as decided for this pod and caller.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// A directory.
    Dir {
        /// Which.
        path: &'a Path,
        /// Its files belong to this machine's root, not to the pod's: they
        /// are to appear as the latter's.
        idmapped: bool,
    },
    /// An overlay on the machine's root.
    Overlay {
        /// What the container changes.
        upper: &'a Path,
        /// overlayfs' own.
        work: &'a Path,
    },
    /// The machine's root, which cannot be written.
    ReadOnlyHost,
}

/// What a bind mount's source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Where device nodes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// There are no rules for devices: the machine's own nodes are bound into
    /// a fresh `/dev`, and no others can be opened, because everything else
    /// is mounted `nodev`.
    Bound,
    /// There are rules (a BPF program of its cgroup): nodes are made, in a
    /// user namespace bound, and mounts have the options that are asked for
    /// and no others.
    Made,
}

/// Everything the plan of a container depends on.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// The pod.
    pub pod: &'a PodShape<'a>,
    /// The container, as checked.
    pub container: &'a Container,
    /// Its root.
    pub image: Image<'a>,
    /// Its user, as looked up.
    pub ids: &'a Ids,
    /// For each of the container's mounts: what its source is, if it has one.
    pub sources: &'a [Option<Source>],
    /// The system calls it may make.
    pub filter: Option<&'a Filter>,
    /// The machine has `/dev/mqueue`.
    pub has_host_mqueue: bool,
    /// Where its device nodes come from.
    pub nodes: Nodes,
    /// For each of the container's devices: where the machine has it, if it
    /// has to be bound.
    pub nodes_outside: &'a [Option<PathBuf>],
    /// Where the root is attached before it becomes `/`; on a mount that is
    /// not shared.
    pub attach: &'a Path,
    /// Facts for the old order, where the new calls are denied.
    pub old_order: Option<&'a LegacyMounts>,
    /// The slot in the exit table.
    pub entry: usize,
}

impl Launch<'_> {
    /// Whether the machine's file systems can be mounted, or must be bound.
    pub(crate) fn can_mount_afresh(&self) -> bool {
        self.facts.initial_users && self.in_callers_users()
    }

    pub(crate) fn in_callers_users(&self) -> bool {
        *self.pod.users == Users::Caller
    }

    /// Whether device nodes can be made, and may.
    pub(crate) fn makes_nodes(&self) -> bool {
        self.nodes == Nodes::Made && self.can_mount_afresh()
    }

    /// Whether they are made outside, by who may, with the owner that the
    /// container's user namespace has them belong to, and bound.
    pub(crate) fn makes_nodes_outside(&self) -> bool {
        let Launch { nodes, facts, pod, .. } = self;
        *nodes == Nodes::Made && makes_nodes_for(pod.users, facts)
    }

    pub(crate) fn host_net(&self) -> bool {
        self.container.net == NamespaceMode::Host
    }

    pub(crate) fn host_ipc(&self) -> bool {
        self.container.ipc == NamespaceMode::Host
    }

    pub(crate) fn shares(&self, namespace: Namespace, place: NamespaceMode) -> bool {
        place == NamespaceMode::Pod && self.pod.options.shares(namespace)
    }

    /// Whether its pid namespace is nested under pause's.
    pub(crate) fn own_pid(&self) -> bool {
        !self.shares(Namespace::Pid, self.container.pid)
    }

    /// Whether what its procfs shows as process 1 is pause.
    pub(crate) fn sees_pause(&self) -> bool {
        !self.own_pid()
    }

    pub(crate) fn source_of(&self, mount: &Mount) -> Option<Source> {
        let place = self.container.mounts.iter().position(|other| std::ptr::eq(other, mount))?;
        *self.sources.get(place)?
    }

    pub(crate) fn is_file(&self, mount: &Mount) -> bool {
        self.source_of(mount) == Some(Source::File)
    }

    /// Where pause keeps the pod's own of this kind.
    pub(crate) fn pods_own(&self, kind: &MountKind) -> Option<&'static str> {
        let container = self.container;
        if self.old_order.is_some() {
            // In there nobody can go.
            return None;
        }
        match kind {
            MountKind::Proc if !self.own_pid() => Some("/proc"),
            MountKind::Sysfs if self.shares(Namespace::Net, container.net) => Some("/sys"),
            MountKind::Mqueue if self.shares(Namespace::Ipc, container.ipc) => Some("/mqueue"),
            MountKind::Shm if self.shares(Namespace::Ipc, container.ipc) => Some("/shm"),
            _ => None,
        }
    }

    /// The file system's options: a terminal's group only where it exists.
    pub(crate) fn data_of(&self, mount: &Mount) -> String {
        let gids = self.pod.users.gids();
        let has_tty = if gids.is_empty() { self.facts.tty_group } else { gids.iter().any(|map| map.contains(5)) };
        if mount.kind != MountKind::Devpts || has_tty {
            return mount.data.clone();
        }
        mount.data.split(',').filter(|option| *option != "gid=5").collect::<Vec<_>>().join(",")
    }

    /// Namespaces to join: pause's, of the kinds this container shares.
    pub(crate) fn joined(&self) -> u64 {
        let container = self.container;
        let left_out =
            [(Namespace::Net, container.net), (Namespace::Ipc, container.ipc), (Namespace::Cgroup, container.cgroup)];
        let left_out = left_out.iter().filter(|(_, place)| *place != NamespaceMode::Pod);
        self.pod.joined() & left_out.fold(!0, |mask, (namespace, _)| mask & !namespace.flag())
    }

    /// Namespaces to make, besides mnt and pid.
    pub(crate) fn own(&self) -> u64 {
        let container = self.container;
        let kinds = [
            (Namespace::Net, container.net),
            (Namespace::Ipc, container.ipc),
            (Namespace::Uts, NamespaceMode::Pod),
            (Namespace::Cgroup, container.cgroup),
        ];
        let own = kinds.iter().filter(|(kind, place)| *place != NamespaceMode::Host && !self.shares(*kind, *place));
        own.fold(0, |flags, (kind, _)| flags | kind.flag())
    }
}

/// A pod as plans see it.
#[derive(Clone, Debug)]
pub struct PodShape<'a> {
    /// As asked for.
    pub options: &'a PodOptions,
    /// As decided.
    pub users: &'a Users,
    /// The pod has a cgroup.
    pub cgroup: bool,
}

impl PodShape<'_> {
    /// `CLONE_NEW*` of what the pod's containers share and a launcher joins
    /// with one `setns` to pause: without user, which must be joined first or
    /// not at all, and without pid, which pause always has.
    pub fn joined(&self) -> u64 {
        let joined = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Time];
        let shared = joined.into_iter().filter(|&namespace| self.options.shares(namespace));
        shared.fold(0, |flags, namespace| flags | namespace.flag())
    }
}

/// What the old order needs to know of the machine's mounts besides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LegacyMounts {
    /// Of the root.
    pub root: Vec<Below>,
    /// Of each of the container's mounts, if it has a source.
    pub sources: Vec<Vec<Below>>,
}

/// A mount of the machine, below a source or the source's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Below {
    /// Where, from the source; empty: the source's own.
    pub path: PathBuf,
    /// Its `MS_*` flags, which a remount has to repeat.
    pub flags: u64,
}

/// A mount to take away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineMount {
    /// Where it is.
    pub point: PathBuf,
    /// It is a whole proc or sysfs: if it cannot be taken away it is covered.
    pub reveals: bool,
}

/// Whether the caller may make device nodes, and knows whose they are to be in
/// this other user namespace.
pub(crate) fn makes_nodes_for(users: &Users, facts: &Facts) -> bool {
    let needed = caps::Capability::CAP_MKNOD.bitmask() | caps::Capability::CAP_CHOWN.bitmask();
    let able = facts.capabilities & needed == needed;
    let may = facts.privileged && facts.initial_users && facts.calls.new_order() && able;
    may && matches!(users, Users::New { uids, gids } if !uids.is_empty() && !gids.is_empty())
}
