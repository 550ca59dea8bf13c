//! Steps that change who a process is, and what it may do.

use super::{Arg, NULL, SECCOMP, Step, StepKind, arg_text};
use crate::kernel::capabilities::CapabilitySet;

/// `prctl(2)` with one argument.
pub fn prctl(option: i32, name: &'static str, value: u64) -> Step {
    let mut args = vec![Arg::Word(option.into(), name), Arg::Num(value)];
    args.extend([Arg::Num(0), Arg::Num(0), Arg::Num(0)]);
    Step::new(StepKind::Prctl, libc::SYS_prctl, args)
}

/// `prctl(PR_SET_DUMPABLE, 0)`: no other process may read this one's memory
/// or follow its links in /proc, unless it has CAP_SYS_PTRACE over it.
pub fn undumpable() -> Step {
    Step::new(
        StepKind::Prctl,
        libc::SYS_prctl,
        vec![Arg::Word(libc::PR_SET_DUMPABLE.into(), "PR_SET_DUMPABLE"), Arg::Num(0)],
    )
}

/// `prctl(PR_SET_DUMPABLE, 1)`: whoever may trace this process may.
pub fn dumpable() -> Step {
    Step::new(
        StepKind::Prctl,
        libc::SYS_prctl,
        vec![Arg::Word(libc::PR_SET_DUMPABLE.into(), "PR_SET_DUMPABLE"), Arg::Num(1)],
    )
}

/// `prctl(PR_SET_PDEATHSIG, SIGKILL)`; forgotten at a change of ids.
pub fn die_with_parent() -> Step {
    let option = Arg::Word(libc::PR_SET_PDEATHSIG.into(), "PR_SET_PDEATHSIG");
    Step::new(StepKind::Prctl, libc::SYS_prctl, vec![option, Arg::Word(libc::SIGKILL.into(), "SIGKILL")])
}

/// `prctl(PR_SET_PDEATHSIG, 0)`: from now on whatever happens to the parent.
pub fn survive_parent() -> Step {
    let option = Arg::Word(libc::PR_SET_PDEATHSIG.into(), "PR_SET_PDEATHSIG");
    Step::new(StepKind::Prctl, libc::SYS_prctl, vec![option, Arg::Num(0)])
}

/// `prctl(PR_SET_NAME)`: at most 15 bytes.
pub fn set_name(name: &str) -> Step {
    Step::new(
        StepKind::Prctl,
        libc::SYS_prctl,
        vec![Arg::Word(libc::PR_SET_NAME.into(), "PR_SET_NAME"), arg_text(name)],
    )
}

/// `prctl(PR_CAPBSET_DROP)` of capabilities `first` to `last`.
pub fn drop_bounding(first: u64, last: u64) -> Step {
    let step = prctl(libc::PR_CAPBSET_DROP, "PR_CAPBSET_DROP", first);
    Step { repeat: (last - first) as u16, ..step }
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)`.
pub fn raise_ambient(capability: u64) -> Step {
    let option = Arg::Word(libc::PR_CAP_AMBIENT.into(), "PR_CAP_AMBIENT");
    let raise = Arg::Word(libc::PR_CAP_AMBIENT_RAISE.into(), "PR_CAP_AMBIENT_RAISE");
    Step::new(StepKind::Prctl, libc::SYS_prctl, vec![option, raise, Arg::Num(capability), Arg::Num(0), Arg::Num(0)])
}

/// `capset(2)`.
pub fn capset(effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet) -> Step {
    let [effective, permitted, inheritable] = [effective, permitted, inheritable].map(CapabilitySet::bits);
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    let mut data = Vec::with_capacity(24);
    for half in [0, 32] {
        for set in [effective, permitted, inheritable] {
            data.extend_from_slice(&((set >> half) as u32).to_ne_bytes());
        }
    }
    let shown = format!("{{effective={effective:#x} permitted={permitted:#x} inheritable={inheritable:#x}}}");
    let header = Arg::Blob(header, "{VERSION_3, self}".into());
    Step::new(StepKind::Capset, libc::SYS_capset, vec![header, Arg::Blob(data, shown)])
}

/// `setgroups(2)`.
pub fn setgroups(groups: &[u32]) -> Step {
    let bytes = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
    let list = Arg::Blob(bytes, format!("{groups:?}"));
    Step::new(StepKind::Setgroups, libc::SYS_setgroups, vec![Arg::Num(groups.len() as u64), list])
}

/// `setresgid(2)`, all three the same.
pub fn setresgid(gid: u32) -> Step {
    Step::new(StepKind::Setresgid, libc::SYS_setresgid, vec![Arg::Num(gid.into()); 3])
}

/// `setresuid(2)`, all three the same.
pub fn setresuid(uid: u32) -> Step {
    Step::new(StepKind::Setresuid, libc::SYS_setresuid, vec![Arg::Num(uid.into()); 3])
}

/// `setfsgid(2)`, which tells the id before and never fails: what is done as
/// that group does.
pub fn setfsgid(gid: u32) -> Step {
    Step::new(StepKind::Setfsgid, libc::SYS_setfsgid, vec![Arg::Num(gid.into())])
}

/// `setfsuid(2)`, the same.
pub fn setfsuid(uid: u32) -> Step {
    Step::new(StepKind::Setfsuid, libc::SYS_setfsuid, vec![Arg::Num(uid.into())])
}

/// `setregid(2)` without a change: the id for files becomes the effective one.
pub fn setregid_to_same() -> Step {
    Step::new(StepKind::Setregid, libc::SYS_setregid, vec![Arg::Word(-1, "-1"); 2])
}

/// `setreuid(2)`, the same.
pub fn setreuid_to_same() -> Step {
    Step::new(StepKind::Setreuid, libc::SYS_setreuid, vec![Arg::Word(-1, "-1"); 2])
}

/// `setrlimit(2)` by `prlimit64`.
pub fn setrlimit(resource: u32, name: &'static str, soft: u64, hard: u64) -> Step {
    let bytes = [soft.to_ne_bytes(), hard.to_ne_bytes()].concat();
    let shown = format!("{{soft={soft} hard={hard}}}");
    let args = vec![Arg::Num(0), Arg::Word(resource.into(), name), Arg::Blob(bytes, shown), NULL];
    Step::new(StepKind::Prlimit64, libc::SYS_prlimit64, args)
}

/// `seccomp(2)` with a filter of 8-byte instructions.
pub fn seccomp(filter: Vec<u8>, flags: u32) -> Step {
    let mode = Arg::Word(1, "SECCOMP_SET_MODE_FILTER");
    let flags = Arg::Flags(flags.into(), SECCOMP);
    Step::new(StepKind::Seccomp, libc::SYS_seccomp, vec![mode, flags, Arg::Filter(filter)])
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: a session keyring of its own.
pub fn join_session_keyring() -> Step {
    Step::new(StepKind::Keyctl, libc::SYS_keyctl, vec![Arg::Word(1, "KEYCTL_JOIN_SESSION_KEYRING"), NULL])
}
