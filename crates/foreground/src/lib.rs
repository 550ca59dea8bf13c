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
//! With a terminal of its own the process gets keys as they are: ours is in
//! [raw mode](RawMode) meanwhile. Without one it has the command's own streams,
//! and what a key means reaches it as a signal that is passed on.
#![deny(missing_docs)]

mod raw;
mod relay;
mod signals;

pub use raw::RawMode;
pub use relay::{Input, Relay, own_size};
pub use signals::Signals;
