//! A command may be killed as it begins any of its system calls, and any call of
//! it, its launcher or pause may fail: what is said then is true, nothing hangs,
//! and `rm -f` removes everything.
//!
//! The short form takes some of the calls, others at each run: with the
//! `PODLET_TEST_TURN` of an earlier one the same. `--every 1` takes all
//! (`make test-kill`).

use std::os::unix::process::parent_id;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getsid};
use serde_json::Value;

use crate::bed::Bed;
use crate::harness::{every, patience, turn};
use crate::leaks::{self, Seen, Snapshot};
use crate::tracer::{self, Traced, What, faults};

/// A command, and what it is done to.
pub struct Scene {
    /// What is there before.
    pub before: &'static [&'static str],
    pub line: &'static str,
    /// Its exit code.
    pub code: i32,
    /// What is so once it has succeeded: `web` or `web/a`, and its state;
    /// nothing of the kind with the state `gone`.
    pub after: (&'static str, &'static str),
    /// Removes what stays when pod `web` is gone, and looks that it went.
    pub clear: fn(&Bed),
}

const POD: &str = "create web";
const CREATED: &str = "container create --pod web --name a --rootfs ROOT /probe echo main-a , block";
const POD_WITHOUT_PID: &str = "create web --share net,ipc,uts";
const A: &str = "run -d --pod web --name a --rootfs ROOT /probe echo main-a , ignore TERM , orphan block , block";
const ENDED: &str = "run -d --pod web --name a --rootfs ROOT /probe echo main-a , exit 7";
const WAIT: &str = "wait web/a";

/// Tests of this name, of [`killed`] and of [`failing`].
macro_rules! scenes {
    ($($killed:ident, $failing:ident: $before:expr, $line:expr => $code:expr, $after:expr;)*) => {
        &[$(
            (stringify!($killed), |bed| killed(bed, &Scene { before: $before, line: $line, code: $code, after: $after, clear: |_| () })),
            (stringify!($failing), |bed| failing(bed, &Scene { before: $before, line: $line, code: $code, after: $after, clear: |_| () })),
        )*]
    };
}

pub const CASES: &[crate::Case] = scenes! {
    a_detached_run_killed_at_any_call, a_detached_run_any_call_of_which_fails:
        &[], "run -d --name web --rootfs ROOT /probe echo main-web , orphan block , block" => 0, ("web/web", "running");
    a_run_with_a_terminal_killed_at_any_call, a_run_with_a_terminal_any_call_of_which_fails:
        &[POD], "run -dt --pod web --name a --rootfs ROOT /probe echo main-a , orphan block , block" => 0, ("web/a", "running");
    a_run_killed_at_any_call, a_run_any_call_of_which_fails:
        &[], "run --name web --rootfs ROOT /probe echo main-web , orphan block , exit 7" => 7, ("web", "exited");
    a_run_of_the_host_killed_at_any_call, a_run_of_the_host_any_call_of_which_fails:
        &[], "run --rm --name web host /bin/false" => 1, ("web", "gone");
    a_run_in_a_pod_killed_at_any_call, a_run_in_a_pod_any_call_of_which_fails:
        &[POD], A => 0, ("web/a", "running");
    a_run_with_its_own_pids_killed_at_any_call, a_run_with_its_own_pids_any_call_of_which_fails:
        &[POD_WITHOUT_PID], A => 0, ("web/a", "running");
    an_exec_with_its_own_pids_killed_at_any_call, an_exec_with_its_own_pids_any_call_of_which_fails:
        &[POD_WITHOUT_PID, A], "exec web/a /probe exit 7" => 7, ("web/a", "running");
    a_removed_run_in_a_pod_killed_at_any_call, a_removed_run_in_a_pod_any_call_of_which_fails:
        &[POD], "run --rm --pod web --name a --rootfs ROOT /probe echo main-a , exit 7" => 7, ("web/a", "gone");
    a_create_killed_at_any_call, a_create_any_call_of_which_fails:
        &[], POD => 0, ("web", "running");
    a_created_container_killed_at_any_call, a_created_container_any_call_of_which_fails:
        &[POD], CREATED => 0, ("web/a", "created");
    a_start_of_a_created_one_killed_at_any_call, a_start_of_a_created_one_any_call_of_which_fails:
        &[POD, CREATED], "start web/a" => 0, ("web/a", "running");
    an_exec_killed_at_any_call, an_exec_any_call_of_which_fails:
        &[POD, A], "exec web/a /probe exit 7" => 7, ("web/a", "running");
    a_start_killed_at_any_call, a_start_any_call_of_which_fails:
        &[POD, A, "stop -t 0 web/a"], "start web/a" => 0, ("web/a", "running");
    a_start_of_a_pod_killed_at_any_call, a_start_of_a_pod_any_call_of_which_fails:
        &[POD, A, "stop -t 0 web"], "start web" => 0, ("web/a", "running");
    a_restart_killed_at_any_call, a_restart_any_call_of_which_fails:
        &[POD, A], "restart -t 0 web/a" => 0, ("web/a", "running");
    a_stop_killed_at_any_call, a_stop_any_call_of_which_fails:
        &[POD, A], "stop -t 0 web/a" => 0, ("web/a", "exited");
    a_stop_of_a_pod_killed_at_any_call, a_stop_of_a_pod_any_call_of_which_fails:
        &[POD, A], "stop -t 0 web" => 0, ("web", "exited");
    a_wait_killed_at_any_call, a_wait_any_call_of_which_fails:
        &[POD, ENDED, WAIT], WAIT => 0, ("web/a", "exited");
    a_removal_killed_at_any_call, a_removal_any_call_of_which_fails:
        &[POD, ENDED, WAIT], "rm web/a" => 0, ("web/a", "gone");
    a_removal_by_force_killed_at_any_call, a_removal_by_force_any_call_of_which_fails:
        &[POD, A], "rm -f web/a" => 0, ("web/a", "gone");
    a_removal_of_a_pod_killed_at_any_call, a_removal_of_a_pod_any_call_of_which_fails:
        &[POD, A], "rm -f web" => 0, ("web", "gone");
    a_start_on_a_terminal_killed_at_any_call, a_start_on_a_terminal_any_call_of_which_fails:
        &[POD], "embed terminal web a echo main-a , exit 7" => 7, ("web/a", "exited");
    a_list_that_sweeps_killed_at_any_call, a_list_that_sweeps_any_call_of_which_fails:
        &["run -d --rm --name web --rootfs ROOT /probe echo main-web , exit 7"], "ps -a" => 0, ("web", "gone");
};

/// In mode vm.
pub const ON_A_WHOLE_MACHINE: &[crate::Case] = scenes! {
    an_update_killed_at_any_call, an_update_any_call_of_which_fails:
        &[POD, A], "update --memory 64m --pids-limit 50 web/a" => 0, ("web/a", "running");
    a_limited_run_killed_at_any_call, a_limited_run_any_call_of_which_fails:
        &[POD], "run -d --pod web --name a --memory 64m --pids-limit 50 --rootfs ROOT /probe echo main-a , block" => 0,
        ("web/a", "running");
};

/// With which of many things to begin, from 0, and every how manieth follows:
/// `short` without `--every`.
pub fn steps(short: usize) -> (usize, usize) {
    let every = every().unwrap_or(short * patience() as usize);
    println!("every {every}. (PODLET_TEST_TURN={})", turn());
    (turn() % every, every)
}

/// The moments at which a command is killed, until it has none: `kill` says
/// whether it was, and cleans up.
pub fn at_moments(rounds: &mut Rounds, kill: impl Fn(usize) -> bool, clean_up: impl Fn()) {
    let (begin, every) = steps(101);
    let mut moment = begin + 1;
    let mut is_through = false;
    while !is_through {
        let round = || {
            let is_hit = kill(moment);
            is_through = !is_hit;
            is_hit
        };
        rounds.play(round, &clean_up);
        match rounds.is_empty() && moment > 1 {
            // It began after the end.
            true => (moment, is_through) = (moment / 2, false),
            false => moment += every,
        }
    }
}

/// How a command ended that was to succeed.
pub fn told(traced: &Traced) -> String {
    let hit = traced.hit.as_deref().unwrap_or("nothing");
    format!("{}: {hit}: {:?} {:?}: {}", traced.said.command, traced.code, traced.signal, traced.said.err.trim())
}

/// What was done again and again, and what was wrong with it: all of it is told.
#[derive(Default)]
pub struct Rounds {
    played: usize,
    hits: usize,
    wrong: Vec<String>,
}

impl Rounds {
    /// Plays a round, which says whether it hit; `clean_up` follows if it went
    /// wrong.
    pub fn play(&mut self, round: impl FnOnce() -> bool, clean_up: impl FnOnce()) {
        /// More is more of the same.
        const ENOUGH: usize = 20;
        self.played += 1;
        match catch_unwind(AssertUnwindSafe(round)) {
            Ok(hit) => self.hits += usize::from(hit),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                self.wrong.push(text.or(panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default());
                assert!(self.wrong.len() < ENOUGH, "enough is wrong: {:#?}", self.wrong);
                clean_up();
            }
        }
    }

    /// Whether none has hit or gone wrong.
    fn is_empty(&self) -> bool {
        self.hits == 0 && self.wrong.is_empty()
    }

    /// None went wrong, and many of them hit: the calls of a round that looks
    /// through the machine's processes are others than those of the last one.
    pub fn judge(&self, what: &str) {
        println!("{what} {} times in {} rounds", self.hits, self.played);
        assert!(self.wrong.is_empty(), "wrong {} of {} times: {:#?}", self.wrong.len(), self.played, self.wrong);
        assert!(self.hits * 5 >= self.played || self.played < 8, "{what} {} of {} times", self.hits, self.played);
    }
}

fn prepare(bed: &Bed, scene: &Scene) {
    for line in scene.before {
        bed.podlet(line);
    }
}

/// What `ps -a` says of a pod, or of a container in it.
fn found<'a>(list: &'a Value, target: &str) -> Option<&'a Value> {
    let (pod, container) = target.split_once('/').map_or((target, None), |(pod, name)| (pod, Some(name)));
    let pod = list.as_array()?.iter().find(|found| found["name"] == pod)?;
    match container {
        None => Some(pod),
        Some(name) => pod["containers"].as_array()?.iter().find(|found| found["name"] == name),
    }
}

/// Main processes of containers that live: what they say, and that they lead
/// their session.
fn mains() -> Vec<(String, Seen)> {
    let main = |seen: Seen| {
        let name = seen.title.split(' ').find_map(|word| word.strip_prefix("main-"))?.to_string();
        let pid = Pid::from_raw(seen.pid as i32);
        (seen.title.contains("probe echo") && getsid(Some(pid)) == Ok(pid)).then_some((name, seen))
    };
    leaks::descendants(parent_id()).into_iter().filter_map(main).collect()
}

/// What is not so of what `ps -a` says.
fn lie(list: &Value) -> Option<String> {
    let mut mains = mains();
    for pod in list.as_array().expect("a list") {
        for container in pod["containers"].as_array().expect("containers") {
            let name = container["name"].as_str().expect("a name");
            let pid = container["pid"].as_u64();
            let lives = mains.iter().position(|(main, _)| main == name).map(|index| mains.swap_remove(index).1);
            let state = container["state"].as_str().expect("a state");
            let code = container["exit_code"].as_u64();
            match (state, lives) {
                ("running", Some(seen)) if pid == Some(seen.pid.into()) && code.is_none() => {}
                // So they end, or by a signal: SIGTERM may come before it is ignored.
                // 125 is C, which found nothing to report to; 129 is SIGHUP, and 99
                // what cannot be written, where nobody has the terminal any more.
                ("exited", None) if pid.is_none() && matches!(code, Some(1 | 7 | 99 | 125 | 129 | 137 | 143)) => {}
                ("created", None) if pid.is_none() && code.is_none() => {}
                (state, lives) => {
                    let lives = lives.map(|seen| seen.to_string());
                    return Some(format!("{name} is {state}, its pid {pid:?}, its code {code:?}: lives {lives:?}"));
                }
            }
        }
    }
    mains.first().map(|(name, seen)| format!("nobody knows {name}: {seen}"))
}

/// What is on its way has this long. Times [`patience`].
const SOON: Duration = Duration::from_secs(8);

/// Waits for what is on its way; not as long as for what others do.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON * patience();
    while !done() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `ps -a` tells the truth; what is just happening may take a moment.
fn true_list(bed: &Bed, after: &str) -> Value {
    let end = Instant::now() + SOON * patience();
    loop {
        let list = bed.list();
        match lie(&list) {
            None => return list,
            Some(lie) => assert!(Instant::now() < end, "a lie: {lie}\n  after {after}\n  {list}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a command that has succeeded has done.
fn true_success(bed: &Bed, scene: &Scene, after: &str) {
    let list = true_list(bed, after);
    let (target, state) = scene.after;
    let is_so = |list: &Value| match found(list, target) {
        None => state == "gone",
        Some(found) => found["state"] == state,
    };
    if !is_so(&list) {
        // pause may be about to end.
        until(&format!("{target} {state} after {after}"), || is_so(&bed.list()));
    }
}

fn remove(bed: &Bed, scene: &Scene, before: &Snapshot, after: &str) {
    bed.podlet("rm -f web").ok();
    assert_eq!(bed.list(), serde_json::json!([]), "left after {after}");
    (scene.clear)(bed);
    bed.is_clean();
    let body = std::process::id();
    until(&format!("the end of every process after {after}"), || {
        leaks::descendants(parent_id()).iter().all(|seen| seen.pid == body)
    });
    let differences = before.compare();
    if !differences.is_empty() {
        until(&format!("the end of {differences:?} after {after}"), || before.compare().is_empty());
    }
}

/// After a round that went wrong, so that the next one is not wrong for it.
fn clean_up(bed: &Bed, scene: &Scene) {
    bed.podlet("rm -f web");
    catch_unwind(AssertUnwindSafe(|| (scene.clear)(bed))).ok();
}

/// The command of a scene, or a program that embeds the library.
fn command(bed: &Bed, scene: &Scene) -> Command {
    match scene.line.strip_prefix("embed ") {
        Some(line) => bed.embed(line),
        None => bed.command(&bed.expand(scene.line)),
    }
}

/// The command is killed at its moments.
pub fn killed(bed: &Bed, scene: &Scene) {
    let command = || command(bed, scene);
    let mut rounds = Rounds::default();
    let kill = |moment| {
        let before = Snapshot::take();
        prepare(bed, scene);
        let traced = tracer::run(bed, &command(), &What::Kill(moment));
        let after = told(&traced);
        if traced.hit.is_none() {
            assert_eq!(traced.code, Some(scene.code), "{after}");
            true_success(bed, scene, &after);
        } else {
            assert_eq!(traced.signal, Some(Signal::SIGKILL), "{after}");
            true_list(bed, &after);
            // The next command repairs, or says why not.
            let again = bed.finish(command());
            assert!(matches!(again.status.code(), Some(0 | 1 | 7 | 125)), "{again:?} after {after}");
            assert!(again.status.code() != Some(125) || !again.err.is_empty(), "no message after {after}");
            true_list(bed, &after);
        }
        remove(bed, scene, &before, &after);
        traced.hit.is_some()
    };
    at_moments(&mut rounds, kill, || clean_up(bed, scene));
    rounds.judge("killed");
}

/// Its calls fail, one in each round.
pub fn failing(bed: &Bed, scene: &Scene) {
    let command = command(bed, scene);
    let before = Snapshot::take();
    prepare(bed, scene);
    let watched = tracer::run(bed, &command, &What::Watch);
    assert_eq!(watched.code, Some(scene.code), "{}", told(&watched));
    remove(bed, scene, &before, "a look");
    let all: Vec<What> = faults::of_all(&watched.calls);
    let (begin, every) = steps(211);
    let mut rounds = Rounds::default();
    for what in all.iter().skip(begin % all.len()).step_by(every) {
        let round = || {
            prepare(bed, scene);
            let traced = tracer::run(bed, &command, what);
            let after = told(&traced);
            println!("{after}");
            if traced.code == Some(scene.code) {
                true_success(bed, scene, &after);
            } else {
                let says_so = matches!(traced.code, Some(125..=127)) && !traced.said.err.trim().is_empty();
                assert!(says_so, "neither success nor an error: {after}");
                true_list(bed, &after);
            }
            remove(bed, scene, &before, &after);
            traced.hit.is_some()
        };
        rounds.play(round, || clean_up(bed, scene));
    }
    rounds.judge("a call failed");
}
