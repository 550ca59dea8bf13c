//! What happened between two looks at a pod.

use std::time::SystemTime;

use super::seen::{Labels, SeenContainer, SeenPod, SeenRun};
use crate::spec::Health;
use crate::store::exits::{Exit, Phase};
use crate::store::snapshot::KeptTable;

/// What has happened to a pod or a container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, as far as that is recorded: when a pod or container was made, a pod's
    /// pause or a container's run began, and a run ended. Else when a [`Watch`](crate::Watch)
    /// noticed it.
    pub time: SystemTime,
    /// The pod's name.
    pub pod: String,
    /// The container's name; `None` if it happened to the pod.
    pub container: Option<String>,
    /// What.
    pub kind: EventKind,
    /// The pod's labels.
    pub pod_labels: Labels,
    /// The container's labels; empty if it happened to the pod.
    pub labels: Labels,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A pod has a record.
    PodCreated,
    /// Its pause lives, for the first time or anew.
    PodStarted,
    /// Its pause has ended, and all in the pod with it.
    PodEnded,
    /// It and its records are gone.
    PodRemoved,
    /// A container has a record.
    Created,
    /// Its main process lives, for the first time or anew.
    Started,
    /// Its main process has ended.
    Died {
        /// How; `None` if that was not to be found out any more: the container was
        /// started anew twice since, or removed while its entry in the exit table
        /// had to be given to another one.
        exit: Option<Exit>,
    },
    /// The kernel has killed a process of it, because its memory, the pod's or the
    /// machine's was used up. [`Died`](EventKind::Died) follows if it ends of that.
    OutOfMemory,
    /// It is frozen: by [`Container::pause`](crate::Container::pause), or by another program
    /// that wrote to its cgroup or one above.
    Paused,
    /// It goes on.
    Unpaused,
    /// It and its records are gone.
    Removed,
    /// By its checks it does well now, or does not.
    Health {
        /// How it does: not that it starts, which [`Started`](EventKind::Started) says.
        health: Health,
    },
}

impl EventKind {
    /// The names of all kinds.
    pub const NAMES: [&str; 12] = [
        "pod-created",
        "pod-started",
        "pod-ended",
        "pod-removed",
        "created",
        "started",
        "died",
        "out-of-memory",
        "paused",
        "unpaused",
        "removed",
        "health",
    ];

    /// Its name, one of [`NAMES`](EventKind::NAMES).
    pub fn name(&self) -> &'static str {
        let index = match self {
            EventKind::PodCreated => 0,
            EventKind::PodStarted => 1,
            EventKind::PodEnded => 2,
            EventKind::PodRemoved => 3,
            EventKind::Created => 4,
            EventKind::Started => 5,
            EventKind::Died { .. } => 6,
            EventKind::OutOfMemory => 7,
            EventKind::Paused => 8,
            EventKind::Unpaused => 9,
            EventKind::Removed => 10,
            EventKind::Health { .. } => 11,
        };
        EventKind::NAMES[index]
    }
}

/// Events of one pod, in the order in which they happened.
pub(crate) struct Story<'a> {
    pub pod: &'a str,
    /// When the pod was looked at.
    pub now: SystemTime,
    /// Each with the time by which it is sorted: its own, but not before that of
    /// what it follows.
    pub events: Vec<(SystemTime, Event)>,
}

/// What is told of a container, before it is put among that of others.
type Told = Vec<(SystemTime, EventKind)>;

impl Story<'_> {
    /// What happened between two looks. `before` is the exit table of the first
    /// one, which still says what is in no record any more.
    pub(crate) fn tell(&mut self, old: Option<&SeenPod>, new: Option<&SeenPod>, before: Option<&KeptTable>) {
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.id != old.id)) {
            let now = self.now;
            // Before another one of its name was made.
            self.now = new.map_or(now, |new| new.created.min(now));
            self.tell_containers(Some(old), None, before);
            if old.is_alive() {
                self.tell_pod_end(old);
            }
            self.tell_pod(old, self.now, EventKind::PodRemoved);
            self.now = now;
        }
        let Some(new) = new else { return };
        let old = old.filter(|old| old.id == new.id);
        if old.is_none() {
            self.tell_pod(new, new.created, EventKind::PodCreated);
        }
        let pause = |pod: &SeenPod| pod.pause.map(|pause| pause.process);
        let was_alive = old.is_some_and(SeenPod::is_alive);
        let is_another = old.and_then(pause) != pause(new);
        let mut known = old;
        let ended;
        if let Some(old) = old.filter(|_| was_alive && is_another) {
            // Its life before: first its containers ended, and then it did.
            let now = self.now;
            self.now = new.pause.map_or(now, |pause| pause.started.min(now));
            ended = new.before(self.now);
            self.tell_containers(Some(old), Some(&ended), before);
            self.tell_pod_end(old);
            self.now = now;
            known = Some(&ended);
        }
        if let Some(pause) = new.pause.filter(|_| is_another) {
            self.tell_pod(new, pause.started, EventKind::PodStarted);
        }
        self.tell_containers(known, Some(new), before);
        let lived = new.pause.is_some() && is_another || was_alive && !is_another;
        if lived && !new.is_alive() {
            self.tell_pod_end(new);
        }
    }

    fn tell_containers(&mut self, old: Option<&SeenPod>, new: Option<&SeenPod>, before: Option<&KeptTable>) {
        let begin = self.events.len();
        for (name, container) in old.iter().flat_map(|pod| pod.containers.iter()) {
            let other = new.and_then(|pod| pod.containers.get(name));
            let mut told = Told::new();
            match other.filter(|now| now.id == container.id) {
                Some(now) => tell_runs(&mut told, Some(container), now, before, self.now),
                None => {
                    // Before another one of its name was made.
                    let gone = other.map_or(self.now, |other| other.created.min(self.now));
                    let exit = last_word(container, before);
                    if let Some(run) = container.running() {
                        tell_end(&mut told, run, exit, 0, gone);
                    } else if let Some(started) = container.begins.filter(|_| exit.is_some()) {
                        // It was about to begin, and it did.
                        told.push((started, EventKind::Started));
                        let run = SeenRun { started, exit: None, frozen: false, kills: 0, health: None };
                        tell_end(&mut told, &run, exit, 0, gone);
                    }
                    told.push((gone, EventKind::Removed));
                }
            }
            if let Some(pod) = new.or(old) {
                self.put(pod, name, &container.labels, told);
            }
        }
        for (name, container) in new.iter().flat_map(|pod| pod.containers.iter()) {
            let was = old.and_then(|pod| pod.containers.get(name)).filter(|was| was.id == container.id);
            if was.is_none() {
                let mut told = vec![(container.created, EventKind::Created)];
                tell_runs(&mut told, None, container, before, self.now);
                if let Some(pod) = new {
                    self.put(pod, name, &container.labels, told);
                }
            }
        }
        self.sort_from(begin);
    }

    /// By time. Of what was only noticed, removals come last; all else that has the
    /// same time stays as it was put.
    fn sort_from(&mut self, begin: usize) {
        let now = self.now;
        self.events[begin..].sort_by_key(|(key, event)| (*key, *key >= now && event.kind == EventKind::Removed));
    }

    /// A pod's end takes its containers' with it; they are removed afterwards, as far
    /// as is known.
    fn tell_pod_end(&mut self, pod: &SeenPod) {
        let is_after = |(key, event): &(SystemTime, Event)| *key >= self.now && event.kind == EventKind::Removed;
        let after = self.events.iter().rev().take_while(|event| is_after(event)).count();
        let removed = self.events.split_off(self.events.len() - after);
        self.tell_pod(pod, self.now, EventKind::PodEnded);
        self.events.extend(removed);
    }

    fn tell_pod(&mut self, pod: &SeenPod, time: SystemTime, kind: EventKind) {
        let key = self.events.iter().map(|(key, _)| *key).max().map_or(time, |last| last.max(time));
        let (pod_labels, labels) = (pod.labels.clone(), Labels::new());
        self.events.push((key, Event { time, pod: self.pod.into(), container: None, kind, pod_labels, labels }));
    }

    fn put(&mut self, pod: &SeenPod, name: &str, labels: &Labels, told: Told) {
        // What happened to the pod came before, or a clock was set back.
        let after = self.events.iter().rev().find(|(_, event)| event.container.is_none()).map(|(key, _)| *key);
        let mut last = after;
        for (time, kind) in told {
            let key = last.map_or(time, |last| last.max(time));
            last = Some(key);
            let (pod_labels, labels) = (pod.labels.clone(), labels.clone());
            let container = Some(name.to_string());
            self.events.push((key, Event { time, pod: self.pod.into(), container, kind, pod_labels, labels }));
        }
    }
}

/// What the exit table says of a container that ran at the last look and has no
/// record of that run any more.
fn last_word(container: &SeenContainer, before: Option<&KeptTable>) -> Option<Exit> {
    match before?.phase(container.reservation?) {
        Phase::Exited(exit) => Some(exit),
        // Only pause's end ends a process of which pause tells nothing.
        Phase::Running(1..) => Some(Exit::with_the_pod()),
        Phase::Reserved | Phase::Running(0) | Phase::Lost => None,
    }
}

/// What happened to a container that is still there.
fn tell_runs(
    told: &mut Told,
    old: Option<&SeenContainer>,
    new: &SeenContainer,
    before: Option<&KeptTable>,
    now: SystemTime,
) {
    let known = old.and_then(|old| old.runs.last().copied());
    let at = known.and_then(|known| new.runs.iter().position(|run| run.started == known.started));
    if let Some(known) = known {
        match at.map(|at| new.runs[at]) {
            Some(run) if known.exit.is_none() => {
                tell_health(told, &known, &run, now);
                if run.exit.is_some() {
                    tell_end(told, &known, run.exit, run.kills, now);
                } else {
                    tell_going_on(told, &known, &run, now);
                }
            }
            Some(_) => {}
            None if known.exit.is_none() => {
                tell_end(told, &known, old.and_then(|old| last_word(old, before)), 0, now);
            }
            None => {}
        }
    }
    // After a run that failed to begin the record is the one before it again.
    let is_told = |run: &SeenRun| old.is_some_and(|old| old.runs.iter().any(|was| was.started == run.started));
    let fresh = new.runs.iter().rposition(is_told).map_or(0, |at| at + 1);
    for run in &new.runs[fresh..] {
        told.push((run.started, EventKind::Started));
        let fresh = SeenRun { exit: None, frozen: false, kills: 0, health: None, ..*run };
        tell_health(told, &fresh, run, now);
        match run.exit {
            Some(exit) => tell_end(told, &fresh, Some(exit), run.kills, now),
            None => tell_going_on(told, &fresh, run, now),
        }
    }
}

/// That it does otherwise than before, which comes before its end.
fn tell_health(told: &mut Told, known: &SeenRun, run: &SeenRun, now: SystemTime) {
    let time = run.exit.and_then(|exit| exit.finished).unwrap_or(now);
    let told_now = run.health.filter(|health| run.health != known.health && *health != Health::Starting);
    told.extend(told_now.map(|health| (time.min(now), EventKind::Health { health })));
}

/// A run that has ended; `kills` of it were seen at the end.
fn tell_end(told: &mut Told, run: &SeenRun, exit: Option<Exit>, kills: u64, now: SystemTime) {
    let time = exit.and_then(|exit| exit.finished).unwrap_or(now);
    let kills = kills.max(u64::from(exit.is_some_and(|exit| exit.out_of_memory.is_some())));
    if kills > run.kills {
        told.push((time, EventKind::OutOfMemory));
    }
    told.push((time, EventKind::Died { exit }));
}

fn tell_going_on(told: &mut Told, known: &SeenRun, run: &SeenRun, now: SystemTime) {
    if run.kills > known.kills {
        told.push((now, EventKind::OutOfMemory));
    }
    match (known.frozen, run.frozen) {
        (false, true) => told.push((now, EventKind::Paused)),
        (true, false) => told.push((now, EventKind::Unpaused)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::store::exits::{self, ExitTable};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn pod(id: &str, created: u64, containers: &[(&str, SeenContainer)]) -> SeenPod {
        let containers = containers.iter().map(|(name, container)| (name.to_string(), container.clone())).collect();
        SeenPod { id: id.into(), created: at(created), labels: BTreeMap::new(), pause: None, containers }
    }

    fn container(id: &str, created: u64) -> SeenContainer {
        SeenContainer {
            id: id.into(),
            created: at(created),
            labels: BTreeMap::new(),
            reservation: None,
            begins: None,
            runs: Vec::new(),
            cgroup: None,
        }
    }

    fn tell(old: Option<&SeenPod>, new: Option<&SeenPod>, before: Option<&KeptTable>) -> Vec<&'static str> {
        let mut story = Story { pod: "web", now: at(1000), events: Vec::new() };
        story.tell(old, new, before);
        assert!(story.events.is_sorted_by_key(|(key, _)| *key));
        story.events.iter().map(|(_, event)| event.kind.name()).collect()
    }

    #[test]
    fn a_container_that_was_about_to_begin_and_is_gone_is_told_by_the_table() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("table");
        exits::create(&path, false).expect("a table");
        let table = ExitTable::open(&path, None).expect("readable").expect("a table");
        let begins = SeenContainer { reservation: table.reserve(false), begins: Some(at(3)), ..container("a", 2) };
        let kept = KeptTable::open(&path).expect("readable").expect("a table");
        let old = pod("x", 1, &[("a", begins)]);
        assert_eq!(tell(Some(&old), None, Some(&kept)), ["removed", "pod-removed"], "it never began");
        // As pause writes it: its pid, EXITED, CLD_EXITED, 7.
        let head = size_of::<pause::table::Head>();
        let mut bytes = fs::read(&path).expect("the table");
        for (word, value) in [7, pause::table::EXITED, pause::table::CLD_EXITED, 7].into_iter().enumerate() {
            bytes[head + 4 * word..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        fs::write(&path, bytes).expect("the table");
        let kept = KeptTable::open(&path).expect("readable").expect("a table");
        assert_eq!(tell(Some(&old), None, Some(&kept)), ["started", "died", "removed", "pod-removed"]);
    }

    #[test]
    fn another_one_of_its_name_comes_after_it() {
        let old = pod("x", 1, &[("a", container("a", 2))]);
        let new = pod("x", 1, &[("a", container("b", 5))]);
        assert_eq!(tell(Some(&old), Some(&new), None), ["removed", "created"]);
        let other = pod("y", 5, &[("a", container("b", 6))]);
        assert_eq!(tell(Some(&old), Some(&other), None), ["removed", "pod-removed", "pod-created", "created"]);
    }
}
