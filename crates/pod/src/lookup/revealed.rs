//! What of the machine's mounts has to go where its root stays below the
//! container's.
//!
//! Whoever makes a user namespace in a container may mount a new proc or sysfs
//! if the kernel finds one in the mount namespace that shows everything
//! (`mnt_already_visible`, fs/namespace.c), no matter by which path it can be
//! reached: the machine's would undo what is masked in the container's own.

use std::path::PathBuf;

use crate::kernel::procfs::Seen;
use crate::plan::input::MachineMount;

pub(crate) fn of(seen: &Seen) -> MachineMount {
    MachineMount { point: seen.point.clone(), reveals: reveals(seen) }
}

fn reveals(seen: &Seen) -> bool {
    matches!(seen.kind.as_str(), "proc" | "sysfs") && seen.root == "/"
}

/// In a copy of the caller's mounts, which nobody else is in: all of them.
pub(crate) fn in_a_copy(table: &[Seen]) -> Vec<MachineMount> {
    let is_root = |seen: &Seen| seen.point.parent().is_none();
    let parent = |seen: &Seen| table.iter().find(|other| other.number == seen.parent);
    // With those that are on the root the others go, unless they are held fast.
    let goes = |seen: &&Seen| !is_root(seen) && (parent(seen).is_none_or(is_root) || reveals(seen));
    outermost_first(table, &table.iter().filter(goes).collect::<Vec<_>>())
}

/// In a mount namespace where others go on: what reveals something, or the
/// mount point of one that nobody could reach.
pub(crate) fn in_a_joined(table: &[Seen]) -> Result<Vec<MachineMount>, PathBuf> {
    let found: Vec<_> = table.iter().filter(|seen| reveals(seen)).collect();
    match found.iter().find(|seen| is_hidden(table, seen)) {
        Some(hidden) => Err(hidden.point.clone()),
        None => Ok(outermost_first(table, &found)),
    }
}

/// Whether a mount further out, which it is not in, hides a mount's path.
fn is_hidden(table: &[Seen], seen: &Seen) -> bool {
    let mut within = vec![seen.number];
    let mut next = seen.parent;
    while let Some(above) = table.iter().find(|other| other.number == next && !within.contains(&next)) {
        within.push(above.number);
        next = above.parent;
    }
    let over = |other: &&Seen| seen.point != other.point && seen.point.starts_with(&other.point);
    table.iter().filter(over).any(|other| !within.contains(&other.number))
}

/// Once for each mount that is on one of these points, so that nothing is left
/// there. One that hides another comes before it.
fn outermost_first(table: &[Seen], wanted: &[&Seen]) -> Vec<MachineMount> {
    let mut all: Vec<_> = table.iter().filter(|seen| wanted.iter().any(|other| other.point == seen.point)).collect();
    // Of those on one point the last is the uppermost.
    all.reverse();
    all.sort_by_key(|seen| seen.point.components().count());
    all.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::parse_mount;

    const TABLE: &str = "20 1 0:2 / / rw - rootfs rootfs rw\n\
                         21 20 0:5 / /proc rw - proc proc rw\n\
                         22 20 8:1 / /data rw - ext4 /dev/sda rw\n\
                         23 22 0:5 / /data/a/proc rw - proc proc rw\n\
                         24 22 0:5 /sys /data/sys rw - proc proc rw\n\
                         25 21 0:6 / /proc rw - tmpfs tmpfs rw\n\
                         26 22 0:7 / /data/a rw - tmpfs tmpfs rw\n\
                         27 20 0:8 / /sys rw - sysfs sysfs rw";

    fn table(lines: usize) -> Vec<Seen> {
        TABLE.lines().take(lines).filter_map(parse_mount).collect()
    }

    fn shown(below: &[MachineMount]) -> Vec<(&str, bool)> {
        below.iter().map(|below| (below.point.to_str().expect("a path"), below.reveals)).collect()
    }

    #[test]
    fn all_that_is_on_the_machines_root_goes() {
        let expected = [("/sys", true), ("/proc", false), ("/data", false), ("/proc", true), ("/data/a/proc", true)];
        assert_eq!(shown(&in_a_copy(&table(8))), expected);
    }

    #[test]
    fn among_others_only_what_reveals_something_goes() {
        assert_eq!(shown(&in_a_joined(&table(4)).expect("none is hidden")), [("/proc", true), ("/data/a/proc", true)]);
        assert_eq!(in_a_joined(&table(7)), Err("/data/a/proc".into()));
    }
}
