//! What depends on the processor: the entry point, the system call
//! instruction, call numbers, and the few memory routines the compiler expects.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("podlet's sealed program has no arch file for this processor yet");

/// Ends the process; by a signal, if a seccomp filter forbids to exit.
pub fn exit(code: usize) -> ! {
    // SAFETY: exit_group has no memory arguments.
    unsafe { syscall(nr::EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    trap()
}

/// All signals to their default action, all blocked.
///
/// Handlers do not survive `execve`, ignored signals do: a caller that ignores
/// SIGCHLD would make pause blind to every exit. Signals stay blocked until
/// the plan unblocks them, so that nothing ends a half-made container but
/// SIGKILL.
pub fn reset_signals() {
    const SIG_SETMASK: usize = 2;
    let all = u64::MAX;
    let default = [0usize; 4];
    // SAFETY: both structures outlive the calls and have the kernel's layout:
    // a 64-bit mask; handler, flags, restorer, mask.
    unsafe {
        syscall(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const all as usize, 0, 8, 0, 0]);
        for signal in 1..=64 {
            // SIGKILL and SIGSTOP refuse, and are always at their default.
            syscall(nr::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, 8, 0, 0]);
        }
    }
}
