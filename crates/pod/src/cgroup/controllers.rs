//! Controllers, enabled from the root of the hierarchy down to a cgroup, or
//! the reason why they are not there.
//!
//! A cgroup has the files of a controller if every cgroup above it passes the
//! controller on, which is written into their `cgroup.subtree_control`; and
//! (but for the root) a cgroup that does may have no processes of its own.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::error::{Error, Result};
use crate::resources::Write;

const PASSED_ON: &str = "cgroup.subtree_control";

/// Whether a file of a cgroup lists this word.
fn lists(dir: &Path, file: &str, word: &str) -> bool {
    fs::read_to_string(dir.join(file)).is_ok_and(|text| text.split_whitespace().any(|listed| listed == word))
}

/// The cgroups above `dir`, the root first.
fn above(root: &Path, dir: &Path) -> Vec<PathBuf> {
    let mut list: Vec<_> = dir.ancestors().skip(1).take_while(|dir| dir.starts_with(root)).map(PathBuf::from).collect();
    list.reverse();
    list
}

fn refused(write: &Write, reason: String) -> Error {
    Error::invalid(&write.field, &write.content, reason)
}

/// Whether the controller that `write` needs can be had in `dir`, which may
/// have to be made first. Changes nothing.
///
/// # Errors
/// [`Error::Invalid`] with the cure.
pub(super) fn check(root: &Path, dir: &Path, write: &Write) -> Result<()> {
    let Some(controller) = write.controller() else { return Ok(()) };
    if !lists(root, "cgroup.controllers", controller) {
        let cgroups = fs::read_to_string("/proc/cgroups").unwrap_or_default();
        return Err(refused(write, why_missing(controller, &cgroups)));
    }
    for level in above(root, dir).iter().filter(|level| level.exists() && !lists(level, PASSED_ON, controller)) {
        let shown = level.display();
        if access(&level.join(PASSED_ON), AccessFlags::W_OK).is_err() {
            let reason = format!(
                "the {controller} controller is not delegated to you: {shown} does not pass it on \
                 (with systemd: Delegate={controller} for user@.service)"
            );
            return Err(refused(write, reason));
        }
        if level.join("cgroup.type").exists()
            && fs::read_to_string(level.join("cgroup.procs")).is_ok_and(|p| !p.is_empty())
        {
            return Err(refused(write, has_processes(controller, level)));
        }
    }
    Ok(())
}

fn has_processes(controller: &str, level: &Path) -> String {
    format!(
        "the {controller} controller cannot be passed on by the cgroup {}, because it has processes of its own: \
         move them to one below it",
        level.display()
    )
}

/// Why version 2 lacks a controller; `cgroups` is the text of `/proc/cgroups`.
fn why_missing(controller: &str, cgroups: &str) -> String {
    let name = if controller == "io" { "blkio" } else { controller };
    let row = cgroups.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row.first() == Some(&name));
    let not_available = format!("the {controller} controller is not available in cgroup v2 here");
    match row.as_deref() {
        Some([_, .., "0"]) => format!("{not_available} (switched off): boot with cgroup_enable={name}"),
        Some([_, hierarchy, ..]) if *hierarchy != "0" => {
            format!(
                "{not_available} (it is bound to v1): boot with systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1=all"
            )
        }
        Some(_) => format!("{not_available}: whoever made this cgroup namespace has to pass it on"),
        None => format!("{not_available}: this kernel was built without it"),
    }
}

/// Enables the controller that `write` needs, for `dir`.
///
/// # Errors
/// As [`check`].
pub(super) fn enable(root: &Path, dir: &Path, write: &Write) -> Result<()> {
    let Some(controller) = write.controller() else { return Ok(()) };
    check(root, dir, write)?;
    for level in above(root, dir).iter().filter(|level| !lists(level, PASSED_ON, controller)) {
        fs::write(level.join(PASSED_ON), format!("+{controller}")).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => refused(write, has_processes(controller, level)).because(error),
            _ => refused(write, format!("cannot pass on the {controller} controller in {}: {error}", level.display()))
                .because(error),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_read_from_proc_cgroups() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t20\t1\nblkio\t7\t3\t1\nmemory\t0\t9\t0\npids\t0\t9\t1\n";
        for (controller, words) in [
            ("cpu", "bound to v1"),
            ("io", "bound to v1"),
            ("memory", "cgroup_enable=memory"),
            ("pids", "pass it on"),
            ("rdma", "built without"),
        ] {
            let reason = why_missing(controller, table);
            assert!(reason.contains(words) && reason.contains(&format!("the {controller} controller")), "{reason}");
        }
    }

    #[test]
    fn the_cgroups_above_come_from_the_root_down() {
        let list = above(Path::new("/cg"), Path::new("/cg/podlet/web/ctr"));
        assert_eq!(list, ["/cg", "/cg/podlet", "/cg/podlet/web"].map(PathBuf::from));
    }
}
