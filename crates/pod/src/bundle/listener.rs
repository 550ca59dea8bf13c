//! Whoever decides what a seccomp filter asks (`linux.seccomp.listenerPath`).
//!
//! The container's process loads its filter, hands the filter's descriptor to
//! the library by the report, and the library passes it on, with the state of
//! the container: runtime-spec, The Container Process State.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use serde_json::json;

use super::record::State;
use crate::error::{Context, Error, Result};
use crate::plain;
use crate::seccomp::{Filter, Profile, Seccomp};

/// Refuses a profile under which the descriptor could not be handed over.
pub(super) fn check(seccomp: &Seccomp) -> Result<()> {
    let Seccomp::Profile(profile) = seccomp else { return Ok(()) };
    if profile.listener_path.is_none() || lets_through(profile, "sendmsg") {
        return Ok(());
    }
    let reason = "with a listener this call must be allowed whatever its arguments: by it the filter's descriptor is \
                  handed over";
    Err(Error::invalid("linux.seccomp.syscalls", "sendmsg", reason))
}

fn lets_through(profile: &Profile, call: &str) -> bool {
    let passes = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    let rules = profile.syscalls.iter().flatten();
    let mut rules = rules.filter(|rule| rule.names.iter().any(|name| name == call)).peekable();
    match rules.peek() {
        None => passes(&profile.default_action),
        Some(_) => rules.all(|rule| passes(&rule.action) && rule.args.iter().flatten().next().is_none()),
    }
}

/// Hands the descriptor of process `pid`'s filter over.
pub(super) fn send(filter: Option<&Filter>, fd: &OwnedFd, pid: u32, state: &State) -> Result<()> {
    let Some(listener) = filter.and_then(|filter| filter.listener.as_ref()) else { return Ok(()) };
    let path = &listener.path;
    let context = || format!("handing the seccomp filter to the listener at {}", path.display());
    let message = json!({
        "ociVersion": state.version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": listener.metadata,
        "state": state,
    });
    let connection = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).doing(context)?;
    let dir = plain::look(path.parent().unwrap_or(Path::new("/"))).doing(context)?;
    // A path of any length fits.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str()).doing(context)?;
    connect(connection.as_raw_fd(), &address).doing(context)?;
    let fds = [fd.as_raw_fd()];
    let text = message.to_string();
    let part = [IoSlice::new(text.as_bytes())];
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(connection.as_raw_fd(), &part, &control, MsgFlags::MSG_NOSIGNAL, None).doing(context)?;
    Ok(())
}
