//! The plan: everything a new process will do, decided before it is born.
//!
//! A [`Plan`] is a flat list of [`Step`]s, nearly all of them one system call
//! with its arguments. Making one is pure: the same container, pod and
//! [`Facts`](crate::kernel::facts::Facts) give the same plan, which prints itself, one
//! strace-like line a step, and is compared with golden files in the tests.
//! Then it is encoded for the sealed program, which only does what it says.
//!
//! - [`pod`](mod@pod): the plan of a pod: of its maker, and of pause, whose last step
//!   is hold.
//! - [`container`]: the plan of a container: of H, H2 and C, whose last step is
//!   `execve`.
//! - [`removal`]: the plan of removing what containers with other ids have made.
//! - [`userns`]: the plan of a user namespace for an idmapped mount.
//! - [`exec`]: the plan of another process in a running container.
//! - [`copier`](mod@copier): the plan of who keeps what a container writes.
//! - [`placeholder`]: the plan of a process that only is there.
//! - [`oci_create`]: the plan of a container without a pod, a child of its
//!   creator; [`oci_exec`]: of another process in one.

mod birth;
pub(crate) mod container;
pub(crate) mod copier;
mod encode;
pub(crate) mod exec;
#[cfg(test)]
mod golden;
mod ids;
pub(crate) mod input;
pub(crate) mod mounts;
mod nested;
pub(crate) mod oci_create;
pub(crate) mod oci_exec;
pub(crate) mod placeholder;
pub(crate) mod pod;
mod print;
mod process;
mod program;
pub(crate) mod removal;
pub(crate) mod step;
pub(crate) mod supervisor;
mod terminal;
pub(crate) mod userns;

pub(crate) use step::{Arg, Step};

use pause::wire::Slot;

use crate::error::{Purpose, StepKind};
use crate::kernel::namespace::Namespace;

/// A descriptor the new process is born with. Its slot is its place in
/// [`Plan::given`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// Descriptor 0.
    Stdin,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
    /// The plan itself.
    Plan,
    /// Where launch records go.
    Report,
    /// The pod's lock: while a launch holds it, nobody else changes the pod.
    Lock,
    /// The container to execute something in.
    Container,
    /// The exit table's file.
    Table,
    /// pause.
    Pause,
    /// pause's mount namespace, where a pidfd does not suffice.
    PauseMounts,
    /// The pod's user namespace, for idmapped mounts.
    PauseUsers,
    /// The sealed program.
    Program,
    /// The copier's program.
    Copier,
    /// The program of a pod's supervisor.
    Supervisor,
    /// Where a copier passes on what was typed.
    Input,
    /// Where the clients of a copier come.
    Listener,
    /// The socket into which what pause is to keep of streams is put.
    KeepIn,
    /// The socket in which that waits.
    KeepOut,
    /// pause's end of the socket pair on which the library says how the pod ends.
    Lifeline,
    /// The process that owns an attached pod.
    Owner,
    /// One end of a socket pair between who makes something and who waits for
    /// it: pause and its maker, or C and H.
    Maker,
    /// The other end.
    Made,
    /// `cgroup.procs` of pause's own leaf.
    Leaf,
    /// The socket at which a created container waits to be started.
    StartSocket,
    /// One of the descriptors a container is to keep, from 3 on.
    Preserved(u16),
    /// A namespace to join.
    Namespace(Namespace),
    /// The mount namespace that the container's process is to be in.
    Mounts,
    /// Where the root is to be in the caller's mount namespace.
    Place,
    /// The root that the container has, where its mount namespace has another.
    Root,
    /// The user namespace whose ids the mount of this number has.
    MountUsers(u16),
    /// A detached tmpfs, filled, for the mount of this number.
    Copied(u16),
}

impl Given {
    fn name(self) -> &'static str {
        match self {
            Given::Stdin => "stdin",
            Given::Stdout => "stdout",
            Given::Stderr => "stderr",
            Given::Plan => "plan",
            Given::Report => "report",
            Given::Lock => "lock",
            Given::Container => "container",
            Given::Table => "table",
            Given::Pause => "pause",
            Given::PauseMounts => "pause_mnt",
            Given::PauseUsers => "pause_user",
            Given::Program => "program",
            Given::Copier => "copier",
            Given::Supervisor => "supervisor_program",
            Given::Input => "input",
            Given::Listener => "listener",
            Given::KeepIn => "keep_in",
            Given::KeepOut => "keep_out",
            Given::Lifeline => "lifeline",
            Given::Owner => "owner",
            Given::Maker => "maker",
            Given::Made => "made",
            Given::Leaf => "leaf",
            Given::StartSocket => "gate",
            Given::Preserved(_) => "preserved",
            Given::Namespace(kind) => kind.name(),
            Given::Mounts => "mnt",
            Given::Place => "place",
            Given::Root => "root",
            Given::MountUsers(_) => "mount_users",
            Given::Copied(_) => "copied",
        }
    }
}

/// What a new process will do, step by step.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    given: Vec<Given>,
    /// `CLONE_NEW*`.
    born_in: u64,
    names: Vec<&'static str>,
    /// Slots that can be used again.
    free: Vec<Slot>,
    /// What the steps from a number on serve.
    purposes: Vec<(usize, Option<Purpose>)>,
    resume: usize,
}

/// Up to here slots are not worth closing one by one.
const PLENTY: usize = 256;

impl Plan {
    fn new(given: &[Given]) -> Plan {
        let names = given.iter().map(|given| given.name()).collect();
        Plan {
            steps: Vec::with_capacity(256),
            given: given.to_vec(),
            born_in: 0,
            names,
            free: Vec::new(),
            purposes: Vec::new(),
            resume: 0,
        }
    }

    /// The descriptors the process must be born with, in the order of their
    /// numbers.
    pub(crate) fn given(&self) -> &[Given] {
        &self.given
    }

    /// The new namespaces its process is born in (`CLONE_NEW*`): then that is
    /// the container's own, and nobody clones it.
    pub(crate) fn born_in(&self) -> u64 {
        self.born_in
    }

    /// The steps.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps behind the one at which a container waits to be started:
    /// their numbers, how they are shown, and what they are. The last one is
    /// `execve`.
    pub(crate) fn late_steps(&self) -> Vec<((u32, String), StepKind)> {
        let gate = self.steps.iter().position(|step| step.kind() == StepKind::Accept);
        let late = gate.map_or(self.steps.len(), |gate| gate + 1)..;
        late.take_while(|&number| number < self.steps.len() && !self.steps[number - 1].is_exec())
            .map(|number| ((number as u32, self.call(number)), self.steps[number].kind()))
            .collect()
    }

    /// The slot of a descriptor the process is born with.
    fn slot_of(&self, wanted: Given) -> Slot {
        let place = self.given.iter().position(|&given| given == wanted);
        Slot(place.expect("the plan asks for this descriptor") as u16)
    }

    /// A new slot, shown as `name`; or an old one of that name, so that the
    /// printed plan stays true.
    fn slot(&mut self, name: &'static str) -> Slot {
        let of_that_name = |slot: &Slot| self.names[usize::from(slot.0)] == name;
        if let Some(place) = self.free.iter().position(of_that_name) {
            return self.free.swap_remove(place);
        }
        self.names.push(name);
        Slot((self.names.len() - 1) as u16)
    }

    /// A descriptor that is not needed any more. Few are left to the
    /// `close_range` at the end; of many each is closed and its slot used again.
    fn free(&mut self, slot: Slot) {
        if self.names.len() > PLENTY {
            self.push(step::close(slot));
            self.free.push(slot);
        }
    }

    /// The steps from here on serve this.
    fn begin_part(&mut self, purpose: Purpose) {
        self.purposes.push((self.steps.len(), Some(purpose)));
    }

    /// The steps from here on serve nothing in particular.
    fn end_part(&mut self) {
        self.purposes.push((self.steps.len(), None));
    }

    /// What step `number` serves.
    pub(crate) fn purpose(&self, number: usize) -> Option<&Purpose> {
        let begun = self.purposes.partition_point(|(first, _)| *first <= number);
        self.purposes.get(begun.checked_sub(1)?)?.1.as_ref()
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// `step`, whose result goes into a new slot.
    fn keep(&mut self, name: &'static str, step: Step) -> Slot {
        let slot = self.slot(name);
        self.push(step.into_slot(slot));
        slot
    }

    /// Adds `step`, then what `rest` adds; the latter is skipped where `step`
    /// fails with an error it tolerates.
    fn if_ok(&mut self, step: Step, rest: impl FnOnce(&mut Plan)) {
        let at = self.steps.len();
        self.push(step);
        rest(self);
        self.steps[at].skip_err = (self.steps.len() - at - 1) as u16;
    }

    /// Adds `step`, then what `rest` adds; the latter is done only where
    /// `step` fails with an error it tolerates.
    fn if_not(&mut self, step: Step, rest: impl FnOnce(&mut Plan)) {
        let at = self.steps.len();
        self.push(step);
        rest(self);
        self.steps[at].skip_ok = (self.steps.len() - at - 1) as u16;
    }

    /// After a tolerated error these steps go on behind what was added last.
    fn skip_to_here(&mut self, steps: &[usize]) {
        for &at in steps {
            self.steps[at].skip_err = (self.steps.len() - at - 1) as u16;
        }
    }

    /// Clones: the child does what `child` adds, which must not come to an
    /// end; the parent what is added afterwards.
    ///
    /// The pidfd and the pid are in the slot `into` and in the one behind it.
    fn fork(&mut self, step: Step, into: Slot, child: impl FnOnce(&mut Plan)) -> usize {
        let at = self.steps.len();
        self.push(step.into_slot(into));
        // The parent's part stands behind the child's; it skips that.
        child(self);
        self.steps[at].args[1] = Arg::Label(at + 1);
        self.steps[at].skip_ok = (self.steps.len() - at - 1) as u16;
        at
    }
}
