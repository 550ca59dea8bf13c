//! A process for a cgroup that is made for processes only: it is there, does
//! nothing, and ends with us.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::run_plan::seal;
use crate::error::{Context, Result};
use crate::kernel::spawn::{self, Child};
use crate::kernel::syscalls;
use crate::plan::{Given, placeholder};

/// The process, until this is dropped.
#[derive(Debug)]
pub(crate) struct Placeholder {
    child: Child,
    /// When this is closed, be it because we are killed, it ends. A child that was
    /// forked meanwhile, and executes nothing, has it, too.
    _lifeline: OwnedFd,
}

impl Placeholder {
    /// Has one born, in our own cgroup. `title` is what `ps` shows; `program_dirs`
    /// as for a launch.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn new(title: &str, program_dirs: &[PathBuf]) -> Result<Placeholder> {
        let context = || format!("starting {title}");
        let program = syscalls::program_file(c"podlet", pause::PROGRAM, program_dirs).doing(context)?;
        let (lifeline, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).doing(context)?;
        let null = File::options().read(true).write(true).open("/dev/null").doing(context)?;
        let plan = placeholder::plan();
        let sealed = seal(&plan)?;
        let given = plan.given().iter().map(|given| match given {
            Given::Plan => sealed.as_fd(),
            Given::Report => theirs.as_fd(),
            _ => null.as_fd(),
        });
        let title = CString::new(title).unwrap_or_default();
        let place = spawn::Birthplace { cgroup: None, namespaces: 0, waits: false };
        let child = spawn::spawn(program.as_fd(), &title, &given.collect::<Vec<_>>(), place).doing(context)?;
        Ok(Placeholder { child, _lifeline: lifeline })
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Moves it to a cgroup below its own, which is made.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os).
    pub fn move_to(&self, cgroup: &Path) -> Result<()> {
        crate::cgroup::make(cgroup)?;
        std::fs::write(cgroup.join("cgroup.procs"), self.pid().to_string())
            .doing(|| format!("moving to the cgroup {}", cgroup.display()))
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        self.child.kill();
        self.child.reap();
    }
}
