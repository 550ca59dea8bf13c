//! Work in a pod's network namespace, done by a thread that enters it and ends:
//! the caller's threads stay where they are.

use std::os::fd::BorrowedFd;
use std::thread;

use nix::sched::{CloneFlags, setns};
use pod::{Error, Result};

/// Does `work` in the network namespace; `/proc/sys/net` is that namespace's, too.
///
/// # Errors
/// [`Error::Os`] if it cannot be entered; those of `work`.
pub(crate) fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let doing = "entering the pod's network namespace";
    let entered = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::failed(doing, errno))?;
        work()
    };
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, entered) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(error) => Err(Error::failed(doing, error)),
    })
}
