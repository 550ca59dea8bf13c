//! The agent, a program that decides what a seccomp filter asks
//! (`linux.seccomp.listenerPath`).
//!
//! The container's process loads its filter, hands the filter's descriptor to
//! the library by the report, and the library passes it on, with the state of
//! the container: runtime-spec, The Container Process State. A container that
//! waits to be started does so before it waits.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use serde_json::json;

use super::record::State;
use crate::error::{Context, Error, Result};
use crate::kernel::files;
use crate::seccomp::{Filter, Profile, Seccomp};

/// What a process does under its filter that waits to be started, besides the
/// `sendmsg` by which the filter's descriptor is handed over.
const AT_THE_GATE: [&str; 8] =
    ["close", "accept4", "getsockopt", "recvfrom", "fcntl", "dup3", "rt_sigprocmask", "execve"];

/// Refuses a profile under which the descriptor could not be handed over, or
/// the container not be started.
pub(super) fn check(seccomp: &Seccomp, waits: bool) -> Result<()> {
    let Seccomp::Profile(profile) = seccomp else { return Ok(()) };
    let refused = |call: &str, reason: &str| Err(Error::invalid("linux.seccomp.syscalls", call, reason));
    if profile.listener_path.is_none() {
        return Ok(());
    }
    let allows = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    if !lets_through(profile, "sendmsg", allows) {
        let reason = "with a listener this call must be allowed whatever its arguments: by it the filter's descriptor \
                      is handed over";
        return refused("sendmsg", reason);
    }
    // The agent, or a tracer, can let it pass.
    let may_allow = |action: &str| allows(action) || matches!(action, "SCMP_ACT_NOTIFY" | "SCMP_ACT_TRACE");
    let denied = AT_THE_GATE.iter().find(|call| !lets_through(profile, call, may_allow));
    match denied.filter(|_| waits) {
        Some(call) => refused(
            call,
            "with a listener this call must be allowed whatever its arguments: the filter is in force while the \
             container waits to be started",
        ),
        None => Ok(()),
    }
}

/// Whether such an action is what a call comes to, whatever its arguments.
fn lets_through(profile: &Profile, call: &str, passes: impl Fn(&str) -> bool) -> bool {
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
    let dir = files::look(path.parent().unwrap_or(Path::new("/"))).doing(context)?;
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
