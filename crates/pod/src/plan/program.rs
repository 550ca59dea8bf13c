//! The last of every plan: where a process begins, and the program.

use std::path::{Component, Path, PathBuf};

use pause::wire::{Record, Slot};

use super::{Plan, ids, step};
use crate::kernel::facts::Facts;
use crate::seccomp::Filter;
use crate::spec::{DEFAULT_PATH, ProcessSpec};

/// What is executed.
pub(super) struct Program<'a> {
    /// Where it is, or what is looked for along PATH.
    pub file: &'a str,
    pub cwd: &'a Path,
    pub args: &'a [String],
    pub env: &'a [String],
    /// How the change to the working directory [in advance](go_ahead) went, if
    /// there was one.
    pub reached: Option<Slot>,
}

impl<'a> Program<'a> {
    /// The container's own.
    pub(super) fn of(process: &'a ProcessSpec) -> Program<'a> {
        let ProcessSpec { cwd, args, env, .. } = process;
        Program { file: &args[0], cwd, args, env, reached: None }
    }
}

/// What may be wrong with a working directory, to be told later.
const NOT_REACHED: &[i32] = &[libc::EACCES, libc::ENOENT, libc::ELOOP];
/// Where a path of the container leads.
const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

/// Changes to the working directory before privileges are given up: as with
/// runc and crun a program may begin where its user could not go. How that went
/// is in the slot. What is wrong with it [`go_to`] tells; and what the path
/// means may depend on who goes there.
pub(super) fn go_ahead(p: &mut Plan, facts: &Facts, cwd: &Path, reached: Slot) {
    try_to(p, change_directory(facts, cwd, reached), NOT_REACHED);
}

/// The same in a root that is not this process's yet, but will be.
pub(super) fn go_ahead_below(p: &mut Plan, root: Slot, cwd: &Path, reached: Slot) {
    let path: PathBuf =
        cwd.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).collect();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
    let open = step::openat2(root, path, libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT).into_slot(reached);
    try_to(p, [open, step::fchdir(reached).into_slot(reached)].into_iter(), NOT_REACHED);
}

/// Changes to the working directory, as the user it will be used by. One that
/// may not stays where it is, if that has been reached in advance.
pub(super) fn go_to(p: &mut Plan, facts: &Facts, program: &Program<'_>) {
    let at = p.slot("cwd");
    let go = |p: &mut Plan| change_directory(facts, program.cwd, at).for_each(|step| p.push(step));
    let Some(reached) = program.reached else { return go(p) };
    let done = try_to(p, change_directory(facts, program.cwd, at), &[libc::EACCES, libc::EPERM]);
    p.if_not(step::worked(reached).tolerate(&[libc::EBADF]), go);
    p.steps[done].skip_ok = (p.steps.len() - done - 1) as u16;
}

/// One step after the other, until one fails with such an error. The number of
/// the last.
fn try_to(p: &mut Plan, steps: impl Iterator<Item = step::Step>, errors: &'static [i32]) -> usize {
    let first = p.steps.len();
    steps.for_each(|step| p.push(step.tolerate(errors)));
    p.skip_to_here(&(first..p.steps.len()).collect::<Vec<_>>());
    p.steps.len() - 1
}

/// Each step's result is in the slot.
fn change_directory(facts: &Facts, cwd: &Path, at: Slot) -> impl Iterator<Item = step::Step> {
    // Found without magic links, so it cannot lead out of the container.
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let opened: Vec<_> = match facts.calls.openat2 {
        true => vec![step::openat2_from_cwd(cwd, flags, libc::RESOLVE_NO_MAGICLINKS)],
        // Part by part, without any links.
        false => cwd.iter().map(|part| step::openat(step::CWD, part, flags | libc::O_NOFOLLOW)).collect(),
    };
    opened.into_iter().flat_map(move |open| [open.into_slot(at), step::fchdir(at).into_slot(at)])
}

/// The very last: the program, with the descriptors below `end`.
pub(super) fn start(p: &mut Plan, end: Slot, process: &ProcessSpec, filter: Option<&Filter>, program: &Program<'_>) {
    p.push(step::close_from_at_exec(end));
    p.push(step::unblock_signals());
    p.push(step::report(Record::EXEC, "EXEC", None));
    if let Some(filter) = filter {
        load(p, process, filter);
    }
    let strings = |strings: &[String]| strings.iter().map(step::text).collect::<Vec<_>>();
    let candidates = candidates(program.file, program.env);
    p.push(step::execve(candidates, strings(program.args), strings(program.env)));
}

/// From here on only what the filter lets through can be done.
pub(super) fn load(p: &mut Plan, process: &ProcessSpec, filter: &Filter) {
    let load = step::seccomp(filter.program.clone(), filter.flags);
    if filter.listener.is_some() {
        let listener = p.keep("listener", load);
        p.push(step::report(Record::LISTENER, "LISTENER", Some(listener)));
    } else {
        p.push(load);
    }
    if !ids::kept_for(process, Some(filter)).is_empty() {
        let sets = &process.capabilities;
        p.push(step::capset(sets.effective, sets.permitted, sets.inheritable));
    }
}

/// Whether the program is there, for one that is started later: who makes the
/// container is to hear of it.
pub(super) fn look_for(p: &mut Plan, program: &str, env: &[String]) {
    let candidates = candidates(program, env);
    let Some(last) = candidates.last().cloned() else { return };
    let mut found = Vec::new();
    for (i, candidate) in candidates.iter().enumerate() {
        // Along PATH the next one is tried.
        let elsewhere: &[i32] =
            if i + 1 == candidates.len() { &[] } else { &[libc::ENOENT, libc::ENOTDIR, libc::EACCES] };
        p.if_ok(step::may_execute(candidate.clone()).tolerate(elsewhere), |p| {
            found.push(p.steps.len());
            p.push(step::is_directory(candidate).tolerate(&[libc::ENOTDIR]));
        });
    }
    p.push(step::refuse_program(last));
    p.skip_to_here(&found);
}

/// Where the program may be: as execvp(3) looks for it.
fn candidates(program: &str, env: &[String]) -> Vec<std::ffi::CString> {
    if program.contains('/') {
        return vec![step::text(program)];
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let directory = |directory: &str| if directory.is_empty() { ".".to_string() } else { directory.to_string() };
    path.split(':').map(|dir| step::text(Path::new(&directory(dir)).join(program))).collect()
}
