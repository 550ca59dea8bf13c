//! Our own terminal in raw mode.

use std::io::stdin;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// As the terminal was; while there is a [`RawMode`].
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal that is our standard input, in raw mode (termios(3)) as long as this
/// lives: keys come as they are, and mean nothing to it.
///
/// It is put back when this is dropped and when the program panics. What SIGKILL
/// ends puts nothing back: `stty sane` does.
#[derive(Debug)]
pub struct RawMode {
    raw: Termios,
}

impl RawMode {
    /// `None` if standard input is no terminal. With `newlines` a newline that is
    /// printed still goes to the beginning of the next line, for a process whose own
    /// terminal does not see to that.
    pub fn enter(newlines: bool) -> Option<RawMode> {
        static HOOK: Once = Once::new();
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        if newlines {
            raw.output_flags |= before.output_flags & OutputFlags::OPOST;
        }
        *lock() = Some(before);
        HOOK.call_once(|| {
            let inner = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                put_back();
                inner(info);
            }));
        });
        let mode = RawMode { raw };
        mode.renew();
        Some(mode)
    }

    /// Once more, after somebody else used the terminal: the shell, while we were
    /// stopped.
    pub fn renew(&self) {
        // Without it the terminal's echo is double, no more.
        tcsetattr(stdin(), SetArg::TCSANOW, &self.raw).ok();
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        put_back();
    }
}

fn put_back() {
    if let Some(before) = lock().take() {
        tcsetattr(stdin(), SetArg::TCSANOW, &before).ok();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}
