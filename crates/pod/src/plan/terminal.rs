//! Steps that give a process a terminal, of a pod's container or a bundle's.
//!
//! The pair is made from the container's own devpts, so its name is right
//! inside. The other end is taken from the first by `TIOCGPTPEER`, not opened
//! by its name: whatever the image has put at `/dev/pts/0` is never looked at.
//!
//! It takes the place of the standard streams at once: no other descriptor has
//! to be kept until the process is there whose controlling terminal it becomes.

use pause::wire::{Record, Slot};

use super::input::{ContainerInput, TerminalOptions};
use super::step::{self, Arg, Step};
use super::{Given, Plan, mounts};
use crate::error::{Purpose, StepKind};
use crate::kernel::facts::Facts;
use crate::kernel::terminal::WindowSize;

/// A container's terminal, if it gets one: of the devpts that is mounted in its
/// root by now, and bound to its `/dev/console`.
pub(super) fn make_in_root(p: &mut Plan, launch: &ContainerInput<'_>, root: Slot) {
    if let Some(options) = launch.terminal {
        make(p, launch.facts, root, options, launch.ids.uid);
        bind(p, root);
    }
}

/// Makes a terminal, sends its controlling end to the library, and has the
/// other as standard streams. `root` is the container's, with a devpts in it.
pub(super) fn make(p: &mut Plan, facts: &Facts, root: Slot, options: TerminalOptions, owner: u32) {
    let TerminalOptions { size, keeps_newlines } = options;
    p.begin_part(Purpose::Terminal);
    let ptmx = open_ptmx(p, facts, root);
    p.push(unlock(ptmx));
    let terminal = p.keep("terminal", peer(ptmx));
    if size != WindowSize::default() {
        p.push(set_size(terminal, size));
    }
    if keeps_newlines {
        p.push(keep_newlines(terminal));
    }
    p.push(step::fchown(terminal, owner));
    p.push(step::report(Record::CONSOLE, "CONSOLE", Some(ptmx)));
    p.push(step::close(ptmx));
    for number in 0..3 {
        p.push(step::dup_to(terminal, number));
    }
    p.push(step::close(terminal));
    p.end_part();
}

fn open_ptmx(p: &mut Plan, facts: &Facts, root: Slot) -> Slot {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    if facts.calls.openat2 {
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
        return p.keep("ptmx", step::openat2(root, "dev/pts/ptmx", flags, 0, resolve));
    }
    // Part by part, without any links.
    let mut dir = root;
    for part in ["dev", "pts"] {
        let directory = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        dir = p.keep("dir", step::openat(Arg::Slot(dir), part, directory));
    }
    p.keep("ptmx", step::openat(Arg::Slot(dir), "ptmx", flags | libc::O_NOFOLLOW))
}

/// Shows the terminal as /dev/console.
pub(super) fn bind(p: &mut Plan, root: Slot) {
    p.begin_part(Purpose::Terminal);
    let dev = p.keep("dev", mounts::open_strict(root, "dev".as_ref(), libc::O_DIRECTORY));
    p.push(step::mknodat(dev, "console", libc::S_IFREG | 0o666, 0).tolerate(&[libc::EEXIST]));
    let console = p.keep("console", mounts::open_strict(dev, "console".as_ref(), 0));
    let tree = p.keep("tree", step::open_tree_at(p.slot_of(Given::Stdin), false));
    p.push(step::move_mount(tree, console));
    p.end_part();
}

/// Makes it the controlling terminal of this session, of which the caller is
/// the leader.
pub(super) fn control(p: &mut Plan) {
    p.push(ioctl(p.slot_of(Given::Stdin), libc::TIOCSCTTY, "TIOCSCTTY", Arg::Num(0)));
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
fn set_size(terminal: Slot, WindowSize { rows, columns }: WindowSize) -> Step {
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
