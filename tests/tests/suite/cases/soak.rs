//! One thing again and again, and many at once: what a command returned from has
//! happened, and no command fails because another was quicker.
//!
//! Some rounds of each; `--every 1` is a thousand, and a minute of 32 at once
//! (`make test-soak`).

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Said};
use crate::harness::every;
use crate::leaks;

crate::tests![
    what_was_waited_for_can_be_started_again,
    what_was_waited_for_in_a_pod_can_be_started_again,
    the_name_of_what_was_waited_for_is_free,
    the_name_of_what_was_waited_for_in_a_pod_is_free,
    lists_beside_a_wait_take_it_no_exit_code,
    lists_beside_a_wait_in_a_pod_take_it_no_exit_code,
    starts_at_once_do_not_fail,
    starts_at_once_in_a_pod_do_not_fail,
];

/// In the long form.
const ROUNDS: usize = 1000;
const AT_ONCE: usize = 32;
const A_MINUTE: Duration = Duration::from_secs(60);

/// Plays rounds, and counts those that went wrong: one race is lost now and then.
pub fn soak(bed: &Bed, short: u32, mut round: impl FnMut() -> Result<(), String>) {
    let rounds = every().map_or(bed.rounds(short) as usize, |every| ROUNDS / every).max(1);
    let wrong: Vec<_> = (0..rounds).filter_map(|_| round().err()).collect();
    println!("{} of {rounds} rounds went wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {rounds} rounds went wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
}

/// Whether a command said what it was to say.
fn expect(said: Said, code: i32, out: &str) -> Result<(), String> {
    match said.status.code() == Some(code) && said.out == out {
        true => Ok(()),
        false => Err(format!("{}: {}: {:?} {:?}", said.command, said.status, said.out, said.err.trim())),
    }
}

fn started_again(bed: &Bed, target: &str) {
    soak(bed, 40, || {
        expect(bed.podlet(&format!("wait {target}")), 0, "7\n")?;
        expect(bed.podlet(&format!("start {target}")), 0, "")
    });
    bed.podlet(&format!("wait {target}")).ok();
    bed.podlet("rm -f web").ok();
}

fn what_was_waited_for_can_be_started_again(bed: &Bed) {
    bed.podlet("run -d --name web --rootfs ROOT /probe exit 7").ok();
    started_again(bed, "web");
}

fn what_was_waited_for_in_a_pod_can_be_started_again(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("run -d --pod web --name a --rootfs ROOT /probe exit 7").ok();
    started_again(bed, "web/a");
}

/// Whether a process waits for another one: it sleeps in `poll` or `futex`.
fn waits(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse::<i64>().ok());
    number.is_some_and(|number| [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_futex].contains(&number))
}

/// Starts what removes itself, waits for it, and ends it once there is a waiter.
fn waited(bed: &Bed, run: &str, target: &str) -> Result<(), String> {
    let go = bed.inside("go");
    fs::remove_file(&go).ok();
    expect(bed.podlet(&format!("{run} --rootfs ROOT /probe wait-file /go , exit 7")), 0, &format!("{target}\n"))?;
    let waiter = bed.spawn(&format!("wait {target}"));
    let has_ended = || leaks::processes().iter().any(|seen| seen.pid == waiter.pid() && seen.state == 'Z');
    bed.until("a waiter", || waits(waiter.pid()) || has_ended());
    fs::write(&go, "").expect("a file");
    expect(waiter.wait(), 0, "7\n")
}

fn the_name_of_what_was_waited_for_is_free(bed: &Bed) {
    soak(bed, 30, || waited(bed, "run -d --rm --name web", "web"));
}

fn the_name_of_what_was_waited_for_in_a_pod_is_free(bed: &Bed) {
    bed.podlet("create web").ok();
    soak(bed, 30, || waited(bed, "run -d --rm --pod web --name a", "web/a"));
}

/// Does it beside commands that list, and sweep, all the time.
fn beside_lists(bed: &Bed, what: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let list = || {
        while !done.load(Ordering::SeqCst) {
            let output = bed.command(&["ps", "-a"]).output().expect("podlet runs");
            assert!(output.status.success(), "ps: {output:?}");
        }
    };
    std::thread::scope(|scope| {
        let lists = [scope.spawn(list), scope.spawn(list)];
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        done.store(true, Ordering::SeqCst);
        lists.into_iter().for_each(|list| list.join().expect("a list without errors"));
        played.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn lists_beside_a_wait_take_it_no_exit_code(bed: &Bed) {
    beside_lists(bed, || soak(bed, 30, || waited(bed, "run -d --rm --name web", "web")));
}

fn lists_beside_a_wait_in_a_pod_take_it_no_exit_code(bed: &Bed) {
    bed.podlet("create web").ok();
    beside_lists(bed, || soak(bed, 30, || waited(bed, "run -d --rm --pod web --name a", "web/a")));
}

/// Threads that start something again and again.
fn at_once(bed: &Bed, options: &str) {
    let began = Instant::now();
    let ended = AtomicU32::new(0);
    let start = |thread: usize| {
        let line = format!("run --rm {options} --name t{thread} --rootfs ROOT /probe exit 7");
        let mut wrong = Vec::new();
        for round in 0.. {
            let is_over = match every() {
                Some(every) => began.elapsed() * every as u32 > A_MINUTE,
                None => round >= bed.rounds(2).max(1),
            };
            if is_over {
                break;
            }
            wrong.extend(expect(bed.podlet(&line), 7, "").err());
            ended.fetch_add(1, Ordering::SeqCst);
        }
        wrong
    };
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|thread| {
                scope.spawn({
                    let start = &start;
                    move || start(thread)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let ended = ended.into_inner();
    println!("{} of {ended} starts went wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {ended} starts went wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
}

fn starts_at_once_do_not_fail(bed: &Bed) {
    at_once(bed, "");
}

fn starts_at_once_in_a_pod_do_not_fail(bed: &Bed) {
    bed.podlet("create web").ok();
    at_once(bed, "--pod web");
}
