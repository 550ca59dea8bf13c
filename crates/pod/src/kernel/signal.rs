//! Signals, by number and name.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A signal of Linux (signal(7)): 1 to 64, those from 34 on real-time ones.
///
/// It is read by its name, in any case, with or without `SIG`, or its number:
/// `TERM`, `SIGTERM`, `15`, `RTMIN+1`, `SIGRTMAX-2`. It is shown as `SIGTERM`, and
/// kept in records as its number.
///
/// ```
/// use pod::Signal;
/// assert_eq!("term".parse(), Ok(Signal::TERM));
/// assert_eq!("RTMIN+1".parse::<Signal>().unwrap().number(), 35);
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(i32);

/// The first and the last real-time signal; those before the first are the C
/// library's.
const REAL_TIME: (i32, i32) = (34, 64);

macro_rules! signals {
    ($($name:ident = $number:ident,)*) => {
        impl Signal {
            $(#[doc = concat!("`", stringify!($number), "`.")] pub const $name: Signal = Signal(libc::$number);)*

            /// Those that have names.
            const NAMED: &[(&str, Signal)] = &[$((stringify!($name), Signal::$name)),*];
        }
    };
}

signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT, BUS = SIGBUS, FPE = SIGFPE,
    KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2, PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM,
    STKFLT = SIGSTKFLT, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU,
    URG = SIGURG, XCPU = SIGXCPU, XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH, IO = SIGIO,
    PWR = SIGPWR, SYS = SIGSYS,
}

/// Other names of some.
const ALIASES: [(&str, Signal); 3] = [("IOT", Signal::ABRT), ("CLD", Signal::CHLD), ("POLL", Signal::IO)];

impl Signal {
    /// None: sent to a process it asks whether that is there (kill(2)), and does
    /// nothing.
    pub const NONE: Signal = Signal(0);

    /// The signal of this number.
    ///
    /// # Errors
    /// [`Error::Invalid`] but for 1 to 64.
    pub fn new(number: i32) -> Result<Signal, Error> {
        match number {
            1..=64 => Ok(Signal(number)),
            _ => Err(refused(&number.to_string())),
        }
    }

    /// The signal that the kernel calls by this number.
    pub(crate) const fn of_kernel(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// A real-time signal, by its distance from the first or the last.
    fn real_time(name: &str) -> Option<Signal> {
        let distance = |rest: &str, sign: char| match rest.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
            None if rest.is_empty() => Some(0),
            _ => None,
        };
        let (first, last) = REAL_TIME;
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => first.checked_add(distance(rest, '+')?)?,
            (_, Some(rest)) => last.checked_sub(distance(rest, '-')?)?,
            _ => return None,
        };
        (first..=last).contains(&number).then_some(Signal(number))
    }
}

fn refused(text: &str) -> Error {
    Error::invalid("signal", text, "not a signal: a name of signal(7), such as TERM, SIGTERM or RTMIN+1, or 1 to 64")
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Signal, Error> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map_err(|_| refused(text))
                .and_then(|number| Signal::new(number).map_err(|_| refused(text)));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = Signal::NAMED.iter().chain(&ALIASES).find(|(known, _)| *known == name).map(|(_, signal)| *signal);
        named.or_else(|| Signal::real_time(name)).ok_or_else(|| refused(text))
    }
}

impl Display for Signal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = REAL_TIME;
        match Signal::NAMED.iter().find(|(_, signal)| signal == self) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == first => f.write_str("SIGRTMIN"),
            None if self.0 == last => f.write_str("SIGRTMAX"),
            None if (first..last).contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - first),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// As it is shown.
impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("Int", 2),
            ("IOT", 6),
            ("SIGCLD", 17),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("rtmax", 64),
            ("64", 64),
        ] {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
        let odd = ["", "0", "65", "-1", "+1", "99999999999", "SIG", "SIGNOPE", "SIGSIGTERM", "RTMIN+99", "RTMIN-3"];
        for text in odd.into_iter().chain(["RTMIN\u{e9}", "RTMIN+", "RTMIN++1", "RTMAX+1", "9x", " TERM"]) {
            let refused = text.parse::<Signal>();
            assert!(matches!(&refused, Err(Error::Invalid { value, .. }) if value == text), "{text}: {refused:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for number in (1..=64).filter(|number| ![32, 33].contains(number)) {
            let signal = Signal::new(number).expect("a signal");
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        assert_eq!(serde_json::to_string(&Signal::TERM).expect("JSON"), "15");
    }
}
