//! A process of a pod in the foreground of a command: what a command needs that
//! stands between a user and a process.
//!
//! ```text
//!   the user's terminal                                   the process
//!   ───────────────────                                   ───────────
//!   keys ────────────────► stdin ─┐           ┌─ pty(7) ──► /dev/pts/0
//!   screen ◄──────────── stdout ◄─┴─ Relay ◄──┘
//!   Ctrl-C, kill(1) ─────────────► Signals ───► Process::signal
//!   window size ── SIGWINCH ─────► Signals ───► Relay::resize
//! ```
//!
//! What stands between may be the copier of a terminal that is kept: the user then
//! leaves by the [detach keys](DetachKeys), and the process goes on.
//!
//! With a terminal of its own the process gets keys as they are: ours is in
//! [raw mode](RawMode) meanwhile. Without one it has the command's own streams,
//! and what a key means reaches it as a signal that is passed on.
#![deny(missing_docs)]

mod detach;
mod raw;
mod relay;
mod screen;
mod signals;

pub use detach::DetachKeys;
pub use raw::RawMode;
pub use relay::{Input, Relay, own_size};
pub use screen::Screen;
pub use signals::Signals;
