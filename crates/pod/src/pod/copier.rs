//! Coming to a copier, by its socket.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use pause::log::packet;

use crate::error::{Context, Result};
use crate::kernel::syscalls;
use crate::store::records::ATTACH;

/// A copier whose container has ended is done after so long at most, unless it is
/// stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Comes to a copier, by the socket in its container's directory; `None` if nobody
/// listens there.
pub(super) fn connect_to(container: &Path) -> nix::Result<Option<OwnedFd>> {
    let Ok(place) = File::open(container) else { return Ok(None) };
    let copier = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    // However long the path of the state directory is.
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{ATTACH}", place.as_raw_fd()).as_str())?;
    // One that is done does not listen any more.
    Ok(connect(copier.as_raw_fd(), &address).is_ok().then_some(copier))
}

/// Asks a copier, by the socket in its container's directory, for what stands in
/// [`packet`], and waits for the answer; without a word, until it has copied what was
/// written before. False if there is none, or it does not answer.
pub(super) fn ask_copier(container: &Path, word: Option<u8>) -> Result<bool> {
    let context = || format!("asking the copier at {}", container.display());
    let Some(copier) = connect_to(container).doing(context)? else { return Ok(false) };
    let flags = MsgFlags::MSG_NOSIGNAL;
    if word.is_some_and(|word| send(copier.as_raw_fd(), &[word], flags).is_err()) {
        return Ok(false);
    }
    // It greets, too.
    let mut answers = 1 + usize::from(word.is_some());
    let end = Instant::now() + PATIENCE;
    while answers > 0 {
        let left = end.saturating_duration_since(Instant::now());
        let mut packet = [0];
        if left.is_zero() || !syscalls::wait_readable(&copier, Some(left)).doing(context)? {
            return Ok(false);
        }
        match recv(copier.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(1) => answers -= usize::from(packet[0] == packet::HELLO),
            _ => return Ok(false),
        }
    }
    Ok(true)
}
