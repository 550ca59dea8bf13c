//! One connection: messages there, and what comes back (the [D-Bus
//! specification](https://dbus.freedesktop.org/doc/dbus-specification.html)).
//!
//! Who listens is systemd itself, at a socket of its own, or the message bus,
//! which passes messages on. To both one is the user that the kernel says, so no
//! name of a user is given, which another user namespace would have changed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, socket,
};
use serde::Serialize;
use zbus::wire::DynamicType;

use crate::message::{ERROR, METHOD_RETURN, Message, SIGNAL, Target, decode, encode, malformed, size};
use crate::{Error, Result};

/// An answer is waited for this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a queue of connections that is full is tried again: the kernel tells
/// of no end of that.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// No answer of systemd's comes near to this.
const LONGEST: usize = 16 << 20;

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    socket: Socket,
    /// systemd's own socket, with no bus between.
    pub direct: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Path(Vec<u8>),
    Abstract(Vec<u8>),
}

impl Address {
    /// A socket's path.
    pub fn path(path: impl AsRef<std::path::Path>, direct: bool) -> Address {
        Address { socket: Socket::Path(path.as_ref().as_os_str().as_encoded_bytes().to_vec()), direct }
    }

    /// The first Unix socket of a list of addresses, as
    /// `$DBUS_SESSION_BUS_ADDRESS` has it.
    pub fn of_bus(text: &str) -> Option<Address> {
        text.split(';').find_map(|address| {
            let mut keys = address.trim().strip_prefix("unix:")?.split(',');
            let socket = keys.find_map(|pair| match pair.split_once('=')? {
                ("path", value) => Some(Socket::Path(unescaped(value)?)),
                ("abstract", value) => Some(Socket::Abstract(unescaped(value)?)),
                _ => None,
            })?;
            Some(Address { socket, direct: false })
        })
    }

    fn shown(&self) -> String {
        match &self.socket {
            Socket::Path(path) => String::from_utf8_lossy(path).into_owned(),
            Socket::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// `%41` is an A.
fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (16 * digit(bytes.next())? + digit(bytes.next())?) as u8
            }
            byte => byte,
        });
    }
    Some(plain)
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: OwnedFd,
    shown: String,
    pub direct: bool,
    serial: u32,
    /// What was received and not read yet.
    received: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects, and says who we are; that we are there, too, where there is a bus
    /// between.
    pub fn connect(address: &Address) -> Result<Bus> {
        let shown = address.shown();
        let failed = |errno: Errno| Error::Io { doing: format!("connecting to {shown}"), error: errno.into() };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        let name = match &address.socket {
            Socket::Path(path) => UnixAddr::new(path.as_slice()),
            Socket::Abstract(name) => UnixAddr::new_abstract(name),
        };
        let name = name.map_err(failed)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match connect(socket.as_raw_fd(), &name) {
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < end => std::thread::sleep(TRY_AGAIN),
                result => break result.map_err(failed)?,
            }
        }
        let (direct, received, signals) = (address.direct, Vec::new(), VecDeque::new());
        let mut bus = Bus { socket, shown, direct, serial: 0, received, signals };
        bus.authenticate(end)?;
        if !direct {
            let hello = Target {
                destination: "org.freedesktop.DBus",
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                method: "Hello",
            };
            bus.call(hello, &())?;
        }
        Ok(bus)
    }

    /// Who listens there, as our pid namespace numbers it (unix(7), `SO_PEERCRED`);
    /// `None` for one that has no number in it.
    pub fn peer(&self) -> Option<u32> {
        let pid = getsockopt(&self.socket, PeerCredentials).ok()?.pid();
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    /// All that is said goes out at once, as libsystemd has it.
    fn authenticate(&mut self, end: Instant) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", end)?;
        for wanted in ["DATA", "OK"] {
            let line = loop {
                match self.received.windows(2).position(|two| two == b"\r\n") {
                    Some(at) => break self.received.drain(..at + 2).collect::<Vec<_>>(),
                    None => self.receive(end)?,
                }
            };
            let line = String::from_utf8_lossy(&line).trim_end().to_string();
            if line.split(' ').next() != Some(wanted) {
                let error = io::Error::new(io::ErrorKind::PermissionDenied, format!("it says {line:?}"));
                return Err(Error::Io { doing: format!("saying to {} who we are", self.shown), error });
            }
        }
        Ok(())
    }

    /// Calls a method, and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Refused`] if that is the answer.
    pub fn call<B: Serialize + DynamicType>(&mut self, to: Target<'_>, body: &B) -> Result<Message> {
        let end = Instant::now() + PATIENCE;
        self.serial += 1;
        let serial = self.serial;
        let message = encode(serial, to, self.direct, body).map_err(|error| malformed(to.method, &error))?;
        self.send(&message, end)?;
        loop {
            let Some(message) = self.next(end)? else {
                return Err(Error::Deadline { what: format!("answer to {}", to.method), after: PATIENCE });
            };
            match message.kind {
                METHOD_RETURN if message.reply_to == Some(serial) => return Ok(message),
                ERROR if message.reply_to == Some(serial) => {
                    let text = message.read::<(String,)>().map(|(text,)| text).unwrap_or_default();
                    return Err(Error::Refused { method: to.method.into(), name: message.error, message: text });
                }
                SIGNAL => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next signal; `None` if there is none until then.
    pub fn signal(&mut self, end: Instant) -> Result<Option<Message>> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(Some(signal));
        }
        loop {
            match self.next(end)? {
                Some(message) if message.kind != SIGNAL => {}
                message => return Ok(message),
            }
        }
    }

    /// The next message; `None` if there is none until then.
    fn next(&mut self, end: Instant) -> Result<Option<Message>> {
        loop {
            let doing = || format!("reading from {}", self.shown);
            if let Some(size) = size(&self.received) {
                if size > LONGEST {
                    let error = io::Error::new(io::ErrorKind::InvalidData, format!("a message of {size} bytes"));
                    return Err(Error::Io { doing: doing(), error });
                }
                if self.received.len() >= size {
                    let bytes: Vec<u8> = self.received.drain(..size).collect();
                    return decode(&bytes).map(Some).map_err(|error| malformed(&doing(), &error));
                }
            }
            match self.receive(end) {
                Err(Error::Deadline { .. }) => return Ok(None),
                result => result?,
            }
        }
    }

    fn send(&self, mut bytes: &[u8], end: Instant) -> Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::EAGAIN | Errno::EINTR) => self.wait(PollFlags::POLLOUT, end)?,
                Err(errno) => return Err(self.failed("writing to", errno)),
            }
        }
        Ok(())
    }

    /// Receives something.
    fn receive(&mut self, end: Instant) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(self.failed("reading from", Errno::ECONNRESET)),
                Ok(size) => {
                    self.received.extend_from_slice(&bytes[..size]);
                    return Ok(());
                }
                Err(Errno::EAGAIN | Errno::EINTR) => self.wait(PollFlags::POLLIN, end)?,
                Err(errno) => return Err(self.failed("reading from", errno)),
            }
        }
    }

    fn wait(&self, what: PollFlags, end: Instant) -> Result<()> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Deadline { what: format!("word from {}", self.shown), after: PATIENCE });
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("waiting for", errno)),
        }
    }

    fn failed(&self, doing: &str, errno: Errno) -> Error {
        Error::Io { doing: format!("{doing} {}", self.shown), error: errno.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_specification_has_them() {
        let path = |text: &str| Address::of_bus(text).map(|address| address.shown());
        assert_eq!(path("unix:path=/run/user/1000/bus").as_deref(), Some("/run/user/1000/bus"));
        assert_eq!(path("tcp:host=a;unix:guid=1,path=/run/a%20b").as_deref(), Some("/run/a b"));
        assert_eq!(path("unix:abstract=/tmp/x,guid=2").as_deref(), Some("@/tmp/x"));
        for none in ["", "unix:", "tcp:host=a", "unix:tmpdir=/tmp", "unix:path=/a%2"] {
            assert_eq!(path(none), None, "{none}");
        }
    }
}
