//! Descriptors for the program behind `--console-socket` or `--pidfd-socket`.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::sys::stat::Mode;

/// Sends a descriptor to the socket at `path`, with what runc says of it.
pub fn send(path: &Path, said: &str, descriptor: impl AsFd) -> Result<()> {
    let to = || format!("sending a descriptor to {}", path.display());
    let connection = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).with_context(to)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).with_context(to)?;
    // A path of any length fits.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str()).with_context(to)?;
    connect(connection.as_raw_fd(), &address).with_context(to)?;
    let fds = [descriptor.as_fd().as_raw_fd()];
    let part = [IoSlice::new(said.as_bytes())];
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(connection.as_raw_fd(), &part, &control, MsgFlags::MSG_NOSIGNAL, None).with_context(to)?;
    Ok(())
}
