//! The program's logic, on the build machine: the table's bookkeeping and the
//! shape of what crosses the border. That it works as pause and as a launcher
//! is for the integration tests to show, on real kernels.

use core::sync::atomic::Ordering::Relaxed;

use crate::table::*;
use crate::{COPIER, PROGRAM};

fn running(pid: u32, kind: u32) -> Entry {
    let entry = Entry::default();
    entry.pid.store(pid, Relaxed);
    entry.state.store(RUNNING | kind, Relaxed);
    entry
}

#[test]
fn the_program_is_small_and_static() {
    assert!(PROGRAM.len() <= 16 * 1024, "{} bytes", PROGRAM.len());
    assert!(PROGRAM.starts_with(b"\x7fELF"));
    // e_phnum: one segment to load and the stack's flags; no interpreter.
    assert_eq!(u16::from_le_bytes([PROGRAM[56], PROGRAM[57]]), 2);
    // The flags of the first: read and execute, never write.
    assert_eq!(PROGRAM[64 + 4], 5);
}

#[test]
fn the_copier_is_on_two_pages() {
    assert!(COPIER.len() <= 2 * 4096, "{} bytes", COPIER.len());
}

#[test]
fn every_wait_status_is_recorded_as_it_was() {
    for code in 0..=255u32 {
        let entry = running(7, 0);
        assert!(entry.record(7, code << 8, 99));
        let seen = (entry.code.load(Relaxed), entry.status.load(Relaxed), entry.time.load(Relaxed), entry.phase());
        assert_eq!(seen, (CLD_EXITED, code, 99, EXITED));
    }
    for signal in 1..=64u32 {
        for (flag, code) in [(0, CLD_KILLED), (0x80, CLD_DUMPED)] {
            let entry = running(7, EXEC_KIND);
            assert!(entry.record(7, signal | flag, 1));
            assert_eq!((entry.code.load(Relaxed), entry.status.load(Relaxed)), (code, signal));
            assert_eq!(entry.state.load(Relaxed), EXITED | EXEC_KIND);
        }
    }
}

#[test]
fn only_the_process_of_the_slot_counts() {
    let entry = running(7, 0);
    assert!(!entry.record(8, 0, 1), "another pid");
    assert!(entry.record(7, 0, 1));
    assert!(!entry.record(7, 1 << 8, 2), "the same pid again, an orphan's by now");
    assert_eq!(entry.status.load(Relaxed), 0);
    let reserved = Entry::default();
    reserved.pid.store(7, Relaxed);
    reserved.state.store(RESERVED, Relaxed);
    assert!(!reserved.record(7, 0, 1), "not born yet");
}

#[test]
fn execs_do_not_keep_a_pod_alive() {
    let table = Table { head: Head::default(), entries: core::array::from_fn(|_| Entry::default()) };
    assert!(!table.has_containers());
    table.entries[3].state.store(RUNNING | EXEC_KIND, Relaxed);
    assert!(!table.has_containers());
    table.entries[4].state.store(RESERVED, Relaxed);
    assert!(table.has_containers());
    table.entries[4].state.store(EXITED, Relaxed);
    assert!(!table.has_containers());
    table.entries[126].state.store(RUNNING, Relaxed);
    assert!(table.has_containers());
}
