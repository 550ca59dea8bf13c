//! Where `podlet-oci` does not do as runc does, and why it may.

/// A difference, and its reason.
#[derive(Debug)]
pub struct Known {
    /// The bundle, or all of them.
    bundle: &'static str,
    /// The line, `-` for runc's, `+` for ours, `?` for both; `*` is anything.
    line: &'static str,
    #[allow(dead_code, reason = "shown where an explanation is idle")]
    reason: &'static str,
}

impl Known {
    pub fn explains(&self, bundle: &str, line: &str) -> bool {
        let sign = self.line.strip_prefix('?').map(|rest| format!("{}{rest}", &line[..1]));
        fits(self.bundle, bundle) && fits(sign.as_deref().unwrap_or(self.line), line)
    }
}

/// `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| fits(rest, &text[at..]))
        }),
    }
}

const fn known(bundle: &'static str, line: &'static str, reason: &'static str) -> Known {
    Known { bundle, line, reason }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    // cgroups
    known("*", "? text /proc/self/cgroup: *", "runc uses cgroup v1 on this machine; podlet knows cgroup v2 alone"),
    known("default", "? mount /sys/fs/cgroup*", "the same: runc mounts every hierarchy, podlet cgroup v2"),
    known("default", "? path /sys/fs/cgroup: *", "the same"),
    // The process
    known("*", "- status SigIgn: 0000000080000000", "runc passes on what its caller ignores; podlet does not"),
    known("*", "+ status SigIgn: 0000000000000000", "the same"),
    known("*", "- keyring \"keyring;*;3f1b0000;_ses.@ID\"", "runc's has a name, by which others can join it"),
    known("*", "+ keyring \"keyring;*;3f030000;_ses\"", "podlet's has none: each process gets one of its own"),
    known(
        "user-namespace*",
        "- keyring \"keyring;*;3f130008;_ses.@ID\"",
        "runc's has a name, and odd permissions here",
    ),
    known("user-namespace*", "? fd * Some((*", "runc copies the streams through pipes that it gives to the group, too"),
    known(
        "terminal*",
        "? fd * /dev/pts/* flags *",
        "podlet opens the terminal by TIOCGPTPEER, which keeps O_CLOEXEC visible",
    ),
    known(
        "user-of-one-group",
        "? status Groups: 7 *",
        "runc passes a repeated group on once, crun as often as it stands there",
    ),
    known("masked", "? env \"HOME\" *", "podlet looks the user up before /etc/passwd is masked"),
    known("path-none", "*", "runc finds nothing without PATH; podlet looks where execvp(3) does"),
    // Mounts
    known("*", "- mount /* root / ro,relatime - tmpfs tmpfs ro", "runc's mask of a directory"),
    known(
        "*",
        "+ mount /* root / ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro,size=4k,nr_inodes=1",
        "podlet's is stricter",
    ),
    known("user-namespace*", "- mount /* root / ro,relatime - tmpfs tmpfs ro,uid=200000,gid=200000", "the same masks"),
    known(
        "user-namespace*",
        "+ mount /* root / ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro,size=4k,*",
        "the same",
    ),
    known("user-namespace*", "? entry /dev/mqueue: *", "of runc's the group is nobody's"),
    known("*", "- mount /* tmpfs tmpfs rw", "runc changes the mode of a tmpfs to the image's after mounting it"),
    known("*", "- mount /* tmpfs tmpfs rw,size=*k", "the same"),
    known("*", "+ mount /* tmpfs tmpfs rw*,mode=755", "podlet mounts it with that mode"),
    known("tmpfs", "? path /tmp: *", "runc prefers the image's mode to the one that is asked for"),
    known("tmpfs", "? entry /tmp: *", "the same"),
    known(
        "masked",
        "? mount /sub/a/b *",
        "podlet masks before it makes read-only, and binds the mask with what it is in",
    ),
    known(
        "dev-bound",
        "? mount /proc/keys *",
        "runc masks with the container's null device, podlet with the machine's",
    ),
    known("remount", "? mount /tmp *", "a remount that is no bind changes the file system, too"),
    known(
        "propagation-shared",
        "? mount /s*",
        "podlet's shared mount is shared with the machine, as is said; runc's only if the root is, too",
    ),
    known("root-private", "? mount /srv*", "runc leaves shared what is mounted from a shared mount"),
    known("root-slave", "? mount /srv*", "the same"),
    known("root-shared", "? mount / *", "runc's root is not shared, though that is asked for"),
    known("*", "- left DIR/rootfs/*: 100755 0:0", "a file to mount on is empty, and no program"),
    known("*", "+ left DIR/rootfs/*: 100644 0:0", "the same"),
    // Hooks
    known("hook*", "? hook * pipe 1", "runc passes the state by a pipe"),
    known("hook*", "? hook * /memfd 1", "podlet passes it by a file that can be read again"),
    // Errors
];
