//! The root of the copier, compiled by `build.rs`: see [`log`].
//!
//! Started by `execveat` from a memfd, with its descriptors in their places.
#![no_std]
#![no_main]
#![allow(dead_code)]

mod arch;
mod log;

/// The first Rust code of the process; `stack` points at `argc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel put argc on top of the stack, then argv and its null; the
    // plan gives all arguments.
    unsafe { log::run(stack.add(1).cast()) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    arch::exit(125)
}
