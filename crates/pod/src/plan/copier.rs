//! The plan of a copier, which outlives whoever starts it and is outside of the
//! pod: with nothing but its descriptors, and few system calls.

use std::ffi::CString;

use caps::Capability;
use pause::wire::Record;

use super::step;
use super::{Given, Plan};
use crate::kernel::capabilities::CapabilitySet;
use crate::kernel::facts::Facts;

/// What a copier may ask of the kernel. `execveat` is how it becomes one.
const CALLS: [libc::c_long; 21] = [
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_clock_gettime,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_accept4,
    libc::SYS_fstat,
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_renameat,
    libc::SYS_unlinkat,
    libc::SYS_close,
    libc::SYS_ioctl,
    libc::SYS_mmap,
    libc::SYS_madvise,
    libc::SYS_prctl,
    libc::SYS_execveat,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit_group,
];

/// The plan: a process of a session of its own that executes the copier with these
/// arguments. The first of them is what `ps` shows.
///
/// Where the log is in a directory `elsewhere`, root's copier may write there
/// whoever owns it.
pub fn plan(argv: Vec<CString>, elsewhere: bool, facts: &Facts) -> Plan {
    let mut plan = Plan::new(&[
        Given::Stdin,
        Given::Stdout,
        Given::Stderr,
        Given::Plan,
        Given::Report,
        Given::Container,
        Given::Input,
        Given::Listener,
        Given::Copier,
    ]);
    let p = &mut plan;
    let copier = p.slot("copier");
    let _copier_pid = p.slot("copier_pid");
    // Its parent ends: it belongs to whoever adopts orphans, as pause does.
    p.fork(step::clone(0, 0), copier, |p| {
        p.push(step::set_name("podlet:log"));
        p.push(step::setsid());
        p.push(step::chdir("/"));
        p.push(step::umask(0o077));
        p.push(step::dup3(p.slot_of(Given::Listener), p.slot_of(Given::Plan)));
        p.push(step::close_from_at_exec(p.slot_of(Given::Listener)));
        let kept = if elsewhere { [Capability::CAP_DAC_OVERRIDE].into_iter().collect() } else { CapabilitySet::EMPTY };
        let own = facts.capabilities;
        let kept = own.intersection(kept);
        // Root's would be lost with the bounding set when the program is executed, but
        // for those that are inherited, and these have to be in it now.
        p.push(step::capset(own, own, kept));
        // An ordinary user may not, and has none to lose.
        p.push(step::drop_bounding(0, facts.last_capability).tolerate(&[libc::EPERM]));
        p.push(step::capset(kept, kept, kept));
        p.push(step::prctl(libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1));
        // Until it is written down which process this is: nobody would find it.
        p.push(step::await_message(p.slot_of(Given::Report)));
        let filter = ::seccomp::allow_only(CALLS.map(|call| call as u16));
        p.push(step::seccomp(filter.program, filter.flags));
        p.push(step::report(Record::EXEC, "EXEC", None));
        // It closes the report itself.
        p.push(step::execveat(p.slot_of(Given::Copier), argv, Vec::new()));
    });
    p.push(step::report(Record::BORN, "BORN", Some(copier)));
    p.push(step::exit(0));
    plan
}
