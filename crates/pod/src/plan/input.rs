//! Everything that the plan of a container depends on.

use std::path::{Path, PathBuf};

use crate::kernel::facts::Facts;
use crate::kernel::namespace::Namespace;
use crate::kernel::terminal::WindowSize;
use crate::seccomp::Filter;
use crate::spec::users::{Ids, Users};
use crate::spec::{ContainerSpec, Mount, MountKind, NamespaceMode};

/// Where the root is attached in a copy of pause's.
pub const IN_PAUSE: &str = "/root";

/// Where a container's root comes from, as decided for this pod and caller.
#[derive(Clone, Copy, Debug)]
pub enum RootSource<'a> {
    /// A directory.
    Dir {
        /// Which.
        path: &'a Path,
        /// Its files belong to this machine's root, not to the pod's: they
        /// are to appear as the latter's.
        idmapped: bool,
    },
    /// An overlay.
    Overlay(Overlay<'a>),
    /// The machine's root, which cannot be written.
    ReadOnlyHost,
}

impl RootSource<'_> {
    /// Whether what belongs to this machine's root appears as the pod's.
    pub(crate) fn is_idmapped(&self) -> bool {
        matches!(self, RootSource::Dir { idmapped: true, .. } | RootSource::Overlay(Overlay { idmapped: true, .. }))
    }
}

/// An overlay of directories, for overlayfs of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// What is only read, the topmost first.
    pub lower: &'a [PathBuf],
    /// What the container changes.
    pub upper: &'a Path,
    /// overlayfs' own.
    pub work: &'a Path,
    /// As of a directory: its files are to appear as the pod's.
    pub idmapped: bool,
}

/// What a bind mount's source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Whose rules a container follows, where those of pods and of OCI bundles
/// differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Those of pods. There are no rules for devices, and a container may have
    /// the capability to make nodes: so everything is mounted `nodev`, but for
    /// terminals and for devices that are bound by their names. Files of an
    /// image that belong to the machine's ids appear as the pod's.
    Pod,
    /// Those of the OCI runtime specification. Which devices may be opened is
    /// said by rules (a BPF program of the cgroup); mounts have the options
    /// that are asked for and no others, files keep their owners, and the
    /// image's own `/dev` gets the usual nodes, too.
    Oci,
}

impl Policy {
    /// `MS_NODEV` where every mount has it, asked for or not; else 0.
    pub(crate) fn nodev(self) -> u64 {
        match self {
            Policy::Pod => libc::MS_NODEV,
            Policy::Oci => 0,
        }
    }
}

/// Where device nodes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceNodes {
    /// The machine's own are bound.
    Bound,
    /// They are made in their places.
    Made,
    /// The usual ones are bound. The container's own are made outside, by the
    /// caller, who may, with the owner that the container's user namespace has
    /// them belong to, and bound.
    MadeOutside,
}

impl DeviceNodes {
    /// Where the device nodes of a container come from. They are made only
    /// where rules say which of them may be opened. What is made in another
    /// user namespace than the initial one cannot be opened, so there it is the
    /// caller who makes them, if it is able to and knows whose they are to be.
    pub fn decide(policy: Policy, isolation: &Isolation<'_>, facts: &Facts) -> DeviceNodes {
        let needed = [caps::Capability::CAP_MKNOD, caps::Capability::CAP_CHOWN];
        let able = needed.into_iter().all(|capability| facts.capabilities.contains(capability));
        let may = facts.privileged && facts.initial_users && facts.calls.new_mount_api() && able;
        match (policy, isolation.users) {
            (Policy::Pod, _) => DeviceNodes::Bound,
            (Policy::Oci, _) if isolation.in_initial_users(facts) => DeviceNodes::Made,
            (Policy::Oci, Users::New { uids, gids }) if may && !uids.is_empty() && !gids.is_empty() => {
                DeviceNodes::MadeOutside
            }
            (Policy::Oci, _) => DeviceNodes::Bound,
        }
    }
}

/// How a container is kept apart from others, but for what it says itself: as
/// the pod that it is in has it, or the bundle that it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Isolation<'a> {
    /// `CLONE_NEW*` of the namespaces that the containers of its pod share; 0
    /// without a pod.
    pub shared: u64,
    /// Its user namespaces.
    pub users: &'a Users,
    /// It is in a cgroup of its own. Without one its processes are found by
    /// their mount namespace.
    pub cgroup: bool,
    /// Its host name, if its uts namespace is made for it and it has none
    /// itself; else it is the machine's.
    pub hostname: Option<&'a str>,
}

impl<'a> Isolation<'a> {
    /// Of a container without a pod.
    pub fn of_bundle(users: &'a Users, cgroup: bool) -> Isolation<'a> {
        Isolation { shared: 0, users, cgroup, hostname: None }
    }

    /// `CLONE_NEW*` of what the pod's containers share and a launcher joins
    /// with one `setns` to pause: without user, which must be joined first or
    /// not at all, and without pid, which pause always has.
    pub fn joined(&self) -> u64 {
        let joined = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Time];
        self.shared & joined.into_iter().fold(0, |flags, namespace| flags | namespace.flag())
    }

    /// Whether `container` has its pod's namespace of this kind.
    pub(crate) fn shares(&self, container: &ContainerSpec, namespace: Namespace) -> bool {
        self.shared & namespace.flag() != 0 && container.mode_of(namespace) == NamespaceMode::Pod
    }

    /// Whether its root's overlay is made in another user namespace than the
    /// initial one, where overlayfs' extended attributes have to be `user.*`.
    pub(crate) fn overlays_in_users(&self, facts: &Facts) -> bool {
        !facts.initial_users || matches!(self.users, Users::Nested { .. })
    }

    /// Whether its user namespace is the initial one (user_namespaces(7)).
    ///
    /// Only there can device nodes be made, and can the machine's own file
    /// systems be mounted afresh. Elsewhere they are bound: the machine's root
    /// cannot be the lower layer of an overlay in a user namespace, whose mounts
    /// are locked together, nor its queues be shown there.
    pub(crate) fn in_initial_users(&self, facts: &Facts) -> bool {
        facts.initial_users && *self.users == Users::Caller
    }
}

/// What a terminal is to be like.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TerminalOptions {
    /// Its size.
    pub size: WindowSize,
    /// A newline comes out as that and not as carriage return and newline:
    /// whoever shows it has a terminal that does so itself, or none.
    pub keeps_newlines: bool,
}

/// Everything the plan of a container depends on.
#[derive(Debug)]
pub struct ContainerInput<'a> {
    /// The machine and the caller.
    pub facts: &'a Facts,
    /// How it is kept apart from others.
    pub isolation: Isolation<'a>,
    /// Whose rules it follows.
    pub policy: Policy,
    /// The container, as checked.
    pub container: &'a ContainerSpec,
    /// Its root.
    pub image: RootSource<'a>,
    /// Its user, as looked up.
    pub ids: &'a Ids,
    /// For each of the container's mounts: what its source is, if it has one.
    pub sources: &'a [Option<Source>],
    /// The system calls it may make.
    pub filter: Option<&'a Filter>,
    /// The machine has `/dev/mqueue`.
    pub has_host_mqueue: bool,
    /// Where its device nodes come from.
    pub nodes: DeviceNodes,
    /// For each of the container's devices: where the machine has it, if it
    /// has to be bound.
    pub nodes_outside: &'a [Option<PathBuf>],
    /// Where the root is attached before it becomes `/`; on a mount that is
    /// not shared.
    pub attach: &'a Path,
    /// It gets such a terminal.
    pub terminal: Option<TerminalOptions>,
    /// Facts for the legacy mount API, where the new calls are denied.
    pub legacy_mounts: Option<&'a LegacyMounts>,
    /// The slot in the exit table.
    pub entry: usize,
}

impl ContainerInput<'_> {
    /// Whether it is in the initial user namespace.
    pub(crate) fn in_initial_users(&self) -> bool {
        self.isolation.in_initial_users(self.facts)
    }

    pub(crate) fn host_net(&self) -> bool {
        self.container.net == NamespaceMode::Host
    }

    pub(crate) fn host_ipc(&self) -> bool {
        self.container.ipc == NamespaceMode::Host
    }

    pub(crate) fn shares(&self, namespace: Namespace) -> bool {
        self.isolation.shares(self.container, namespace)
    }

    /// Whether its pid namespace is nested under pause's.
    pub(crate) fn own_pid(&self) -> bool {
        !self.shares(Namespace::Pid)
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
        if self.legacy_mounts.is_some() {
            // In there nobody can go.
            return None;
        }
        match kind {
            MountKind::Proc if !self.own_pid() => Some("/proc"),
            MountKind::Sysfs if self.shares(Namespace::Net) => Some("/sys"),
            MountKind::Mqueue if self.shares(Namespace::Ipc) => Some("/mqueue"),
            MountKind::Shm if self.shares(Namespace::Ipc) => Some("/shm"),
            _ => None,
        }
    }

    /// The file system's options: a terminal's group only where it exists.
    pub(crate) fn data_of(&self, mount: &Mount) -> String {
        let gids = self.isolation.users.gids();
        let has_tty = if gids.is_empty() { self.facts.tty_group } else { gids.iter().any(|map| map.contains(5)) };
        if mount.kind != MountKind::Devpts || has_tty {
            return mount.data.clone();
        }
        mount.data.split(',').filter(|option| *option != "gid=5").collect::<Vec<_>>().join(",")
    }

    /// Namespaces to join: pause's, of the kinds this container shares.
    pub(crate) fn joined(&self) -> u64 {
        let left_out = [Namespace::Net, Namespace::Ipc, Namespace::Cgroup];
        let left_out = left_out.into_iter().filter(|&namespace| !self.shares(namespace));
        self.isolation.joined() & left_out.fold(!0, |mask, namespace| mask & !namespace.flag())
    }

    /// Namespaces to make, besides mnt and pid.
    pub(crate) fn own(&self) -> u64 {
        let kinds = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup];
        let is_own = |kind: Namespace| self.container.mode_of(kind) != NamespaceMode::Host && !self.shares(kind);
        kinds.into_iter().filter(|&kind| is_own(kind)).fold(0, |flags, kind| flags | kind.flag())
    }
}

/// What the legacy mount API needs to know of the machine's mounts besides.
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
