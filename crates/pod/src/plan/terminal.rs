//! Steps that give a container a terminal.
//!
//! The pair is made from the container's own devpts, so its name is right
//! inside. The other end is taken from the first by `TIOCGPTPEER`, not opened
//! by its name: whatever the image has put at `/dev/pts/0` is never looked at.

use pause::wire::{Record, Slot};

use super::step::{self, Arg, Step};
use super::{Plan, mounts};
use crate::error::StepKind;

/// Rows and columns.
pub type Size = (u16, u16);

/// How a terminal is made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// Its size, if one is given.
    pub size: Option<Size>,
    /// A newline comes out as that and not as carriage return and newline:
    /// whoever shows it has a terminal that does so itself, or none.
    pub keeps_newlines: bool,
}

/// Makes a terminal, sends its controlling end to the library and comes back
/// with the other. `root` is the container's, with a devpts in it.
pub(super) fn make(p: &mut Plan, root: Slot, terminal: Terminal, owner: u32) -> Slot {
    let Terminal { size, keeps_newlines } = terminal;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
    let ptmx = p.keep("ptmx", step::openat2(root, "dev/pts/ptmx", flags, 0, resolve));
    p.push(unlock(ptmx));
    let terminal = p.keep("terminal", peer(ptmx));
    if let Some(size) = size {
        p.push(set_size(terminal, size));
    }
    if keeps_newlines {
        p.push(keep_newlines(terminal));
    }
    p.push(step::fchown(terminal, owner));
    p.push(step::report(Record::CONSOLE, "CONSOLE", Some(ptmx)));
    p.push(step::close(ptmx));
    terminal
}

/// Shows the terminal as /dev/console.
pub(super) fn bind(p: &mut Plan, root: Slot, terminal: Slot) {
    let dev = p.keep("dev", mounts::open_strict(root, "dev".as_ref(), libc::O_DIRECTORY));
    p.push(step::mknodat(dev, "console", libc::S_IFREG | 0o666, 0).tolerate(&[libc::EEXIST]));
    let console = p.keep("console", mounts::open_strict(dev, "console".as_ref(), 0));
    let tree = p.keep("tree", step::open_tree_at(terminal, false));
    p.push(step::move_mount(tree, console));
}

/// Makes it the standard streams and the terminal of this session, of which
/// the caller is the leader.
pub(super) fn take(p: &mut Plan, terminal: Slot) {
    p.push(ioctl(terminal, libc::TIOCSCTTY, "TIOCSCTTY", Arg::Num(0)));
    for number in 0..3 {
        p.push(step::dup_to(terminal, number));
    }
}

fn ioctl(file: Slot, request: libc::Ioctl, name: &'static str, arg: Arg) -> Step {
    Step::new(StepKind::Ioctl, libc::SYS_ioctl, vec![Arg::Slot(file), Arg::Word((request as u32).into(), name), arg])
}

fn unlock(ptmx: Slot) -> Step {
    ioctl(ptmx, libc::TIOCSPTLCK, "TIOCSPTLCK", Arg::Blob(vec![0; 4], "[0]".into()))
}

fn peer(ptmx: Slot) -> Step {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    ioctl(ptmx, libc::TIOCGPTPEER, "TIOCGPTPEER", Arg::Word(flags.into(), "O_RDWR|O_NOCTTY|O_CLOEXEC"))
}

/// `struct winsize`: rows, columns, and two sizes in pixels that nobody uses.
fn set_size(terminal: Slot, (rows, columns): Size) -> Step {
    let bytes = [rows, columns, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    ioctl(terminal, libc::TIOCSWINSZ, "TIOCSWINSZ", Arg::Blob(bytes, format!("{{{rows} rows, {columns} columns}}")))
}

/// `struct termios` as a new terminal has it (`tty_std_termios`, termios(3)),
/// but for ONLCR.
fn keep_newlines(terminal: Slot) -> Step {
    let input = libc::ICRNL | libc::IXON;
    let control = libc::B38400 | libc::CS8 | libc::CREAD;
    let local = libc::ISIG
        | libc::ICANON
        | libc::ECHO
        | libc::ECHOE
        | libc::ECHOK
        | libc::ECHOCTL
        | libc::ECHOKE
        | libc::IEXTEN;
    let mut characters = [0u8; 19];
    for (place, character) in [
        (libc::VINTR, 3),
        (libc::VQUIT, 28),
        (libc::VERASE, 127),
        (libc::VKILL, 21),
        (libc::VEOF, 4),
        (libc::VMIN, 1),
        (libc::VSTART, 17),
        (libc::VSTOP, 19),
        (libc::VSUSP, 26),
        (libc::VREPRINT, 18),
        (libc::VDISCARD, 15),
        (libc::VWERASE, 23),
        (libc::VLNEXT, 22),
    ] {
        characters[place] = character;
    }
    let mut bytes: Vec<u8> = [input, libc::OPOST, control, local].iter().flat_map(|word| word.to_ne_bytes()).collect();
    // The line discipline comes between.
    bytes.push(0);
    bytes.extend(characters);
    ioctl(terminal, libc::TCSETS, "TCSETS", Arg::Blob(bytes, "{usual, -onlcr}".into()))
}
