//! The root of the sealed program, compiled by `build.rs`.
//!
//! Started by `execveat` from a sealed memfd with the plan as descriptor 3.
//! `argv[0]` is the name `ps` shows. Where there is another argument, a word on the
//! report is waited for first: until then somebody moves the process to the cgroup
//! that it could not be born in. An environment that is not empty asks to begin at
//! the plan's `resume` step: that is how an ordinary user's pod executes the program
//! anew inside its outer user namespace.
#![no_std]
#![no_main]
#![allow(dead_code)]

mod arch;
mod empty;
mod hold;
mod run;
mod table;
mod wire;

use arch::{nr, syscall};
use wire::{Header, MAGIC, PLAN_BASE, PLAN_MAX, Slot};

/// The first Rust code of the process; `stack` points at `argc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel put argc on top of the stack, then argv and its null,
    // then the environment.
    let (waits, resumed) = unsafe { (*stack > 1, *stack.add(*stack + 2) != 0) };
    arch::reset_signals();
    if waits {
        let mut word = 0u8;
        // SAFETY: the word outlives the call.
        let size = unsafe { syscall(nr::READ, [Slot::REPORT as usize, &raw mut word as usize, 1, 0, 0, 0]) };
        if size < 1 {
            arch::exit(125);
        }
    }

    // The plan stands at a fixed address, so that the library can write
    // pointers into it. Mapping more than the file has is harmless: nothing
    // behind its end is touched.
    const PROT_READ: usize = 1;
    const MAP_PRIVATE: usize = 2;
    const MAP_FIXED_NOREPLACE: usize = 0x10_0000;
    // SAFETY: nothing is mapped at PLAN_BASE; the program is linked far below.
    let at = unsafe {
        let flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
        syscall(nr::MMAP, [PLAN_BASE, PLAN_MAX, PROT_READ, flags, Slot::PLAN as usize, 0])
    };
    if at != PLAN_BASE as isize {
        arch::exit(125);
    }
    // SAFETY: the library sealed the plan and it begins with a Header.
    let header = unsafe { &*(PLAN_BASE as *const Header) };
    if header.magic != MAGIC {
        arch::exit(125);
    }
    let first = if resumed { header.resume } else { 0 };
    // SAFETY: the library sealed the plan, well-formed and for this address; `run`
    // owns the process from here.
    unsafe { run::run(header, first as usize) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    arch::exit(125)
}
