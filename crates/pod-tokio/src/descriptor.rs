//! Descriptors of the library, registered with tokio.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pod::{Cause, Error, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A duplicate of a descriptor that becomes readable, in the runtime of the task
/// that calls this.
///
/// # Errors
/// What the kernel says, such as EMFILE.
#[allow(unsafe_code)] // tokio wants it vouched for that a descriptor stays open.
pub(crate) fn register(descriptor: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let own = descriptor.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and whoever has the result owns it.
    Ok(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?)
}

/// Waits until a descriptor is readable that stays so, as a pidfd does.
pub(crate) async fn readable(descriptor: &impl AsFd, doing: &str) -> Result<()> {
    let wait = async { register(descriptor)?.readable().await.map(|mut ready| ready.retain_ready()) };
    wait.await.map_err(|error| failed(doing, error))
}

/// With the kernel's number, as the library has it.
pub(crate) fn failed(doing: &str, error: io::Error) -> Error {
    let (doing, cause) = (doing.to_string(), Cause::from(error));
    match cause.number() {
        Some(errno) => Error::Os { doing, errno, cause },
        None => Error::Failed { doing, cause },
    }
}
