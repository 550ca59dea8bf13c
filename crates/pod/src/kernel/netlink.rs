//! Network interfaces that go from one network namespace to another
//! (`linux.netDevices`), by rtnetlink(7).
//!
//! The kernel keeps an interface's hardware address and MTU, and forgets its
//! addresses; those that an administrator gave it, with global scope, are
//! given back, and it is set up. Each side is worked on by a thread of its
//! own, which enters the namespace and ends: the caller's threads stay where
//! they are.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::error::{Context, Error, Result, io_error};

/// Moves interfaces, by their names in `from`, to the names they get in `to`.
/// An interface that has its new name there already has been moved before.
///
/// # Errors
/// [`Error::Invalid`] if there is none of that name, and why the kernel does
/// not let it go. Those moved before it are moved back.
pub(crate) fn transfer(
    devices: &BTreeMap<String, String>,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
) -> Result<BTreeMap<String, String>> {
    let mut moved = BTreeMap::new();
    for (name, new_name) in devices {
        match transfer_one(name, new_name, from, to) {
            Ok(false) => {}
            Ok(true) => drop(moved.insert(new_name.clone(), name.clone())),
            Err(error) => {
                give_back(&moved, from, to);
                return Err(error);
            }
        }
    }
    Ok(moved)
}

/// Undoes a [`transfer`] that returned `moved`, as far as it can be.
pub(crate) fn give_back(moved: &BTreeMap<String, String>, from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    for (name, old_name) in moved {
        // What made this necessary is what will be told.
        transfer_one(name, old_name, to, from).ok();
    }
}

fn transfer_one(name: &str, new_name: &str, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool> {
    let context = || format!("moving the network interface {name} into the network namespace");
    let found = inside(from, |route| route.index_of(name)).doing(context)?;
    let taken = inside(to, |route| route.index_of(new_name)).doing(context)?;
    let index = match (found, taken) {
        (None, Some(_)) => return Ok(false),
        (None, None) => return Err(Error::invalid("netDevices", name, "there is no network interface of that name")),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("netDevices", new_name, "the network namespace has one of that name"));
        }
        (Some(index), None) => index,
    };
    let addresses = inside(from, |route| {
        let addresses = route.addresses_of(index)?;
        route.move_link(index, new_name, to)?;
        Ok(addresses)
    })
    .doing(context)?;
    let settled = inside(to, |route| route.settle(new_name, &addresses));
    if settled.is_err() {
        // What went wrong first is what will be told.
        inside(to, |route| route.index_of(new_name)?.map_or(Ok(()), |index| route.move_link(index, name, from))).ok();
        inside(from, |route| route.settle(name, &addresses)).ok();
    }
    settled.doing(context).map(|()| true)
}

/// Does `work` in a thread that has entered the namespace.
fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce(&mut Route) -> nix::Result<T> + Send) -> io::Result<T> {
    let enter = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work(&mut Route::open()?)
    };
    let entered = || enter().map_err(io_error);
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, entered) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread for it panicked"))),
        Err(error) => Err(error),
    })
}

/// An address to be given again.
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_LOCAL`, `IFA_ADDRESS`, `IFA_BROADCAST`.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A conversation with the kernel.
struct Route {
    socket: OwnedFd,
    sequence: u32,
}

const ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
const NEW: u16 = ACK | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

impl Route {
    fn open() -> nix::Result<Route> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Route { socket, sequence: 0 })
    }

    fn index_of(&mut self, name: &str) -> nix::Result<Option<i32>> {
        let mut body = link(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        match self.ask(libc::RTM_GETLINK, ACK, &body) {
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
            Ok(replies) => Ok(replies.iter().find_map(|(_, body)| word(body, 4)).map(|index| index as i32)),
        }
    }

    fn addresses_of(&mut self, index: i32) -> nix::Result<Vec<Address>> {
        let replies = self.ask(libc::RTM_GETADDR, DUMP, &[0; 8])?;
        let read = |body: &[u8]| {
            let (family, prefix, scope) = (*body.first()?, *body.get(1)?, *body.get(3)?);
            let attributes = attributes(body.get(8..)?);
            let flags = attributes.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
            let flags = flags.and_then(|(_, value)| word(value, 0)).unwrap_or_else(|| body[2].into());
            let ours = word(body, 4)? as i32 == index;
            let given = scope == libc::RT_SCOPE_UNIVERSE && flags & libc::IFA_F_PERMANENT != 0;
            let kept = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
            let attributes = attributes.into_iter().filter(|(kind, _)| kept.contains(kind)).collect();
            (ours && given).then_some(Address { family, prefix, flags, attributes })
        };
        Ok(replies.iter().filter_map(|(_, body)| read(body)).collect())
    }

    fn move_link(&mut self, index: i32, new_name: &str, to: BorrowedFd<'_>) -> nix::Result<()> {
        // The kernel renames only what is down.
        self.ask(libc::RTM_NEWLINK, ACK, &link(index, 0, libc::IFF_UP as u32))?;
        let mut body = link(index, 0, 0);
        attribute(&mut body, libc::IFLA_NET_NS_FD, &to.as_raw_fd().to_ne_bytes());
        attribute(&mut body, libc::IFLA_IFNAME, &[new_name.as_bytes(), b"\0"].concat());
        self.ask(libc::RTM_NEWLINK, ACK, &body).map(drop)
    }

    fn settle(&mut self, name: &str, addresses: &[Address]) -> nix::Result<()> {
        let index = self.index_of(name)?.ok_or(Errno::ENODEV)?;
        addresses.iter().try_for_each(|address| self.add_address(index, address))?;
        self.ask(libc::RTM_NEWLINK, ACK, &link(index, libc::IFF_UP as u32, libc::IFF_UP as u32)).map(drop)
    }

    fn add_address(&mut self, index: i32, address: &Address) -> nix::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE];
        body.extend_from_slice(&index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        // No other machine had the address when it was given first.
        let flags = address.flags & (libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE) | libc::IFA_F_NODAD;
        attribute(&mut body, libc::IFA_FLAGS, &flags.to_ne_bytes());
        self.ask(libc::RTM_NEWADDR, NEW, &body).map(drop)
    }

    /// Sends one request; the replies, by kind, up to the one that ends them.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<Vec<(u16, Vec<u8>)>> {
        self.sequence += 1;
        // struct nlmsghdr: length, type, flags, sequence, port.
        let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut replies = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let size = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..size];
            while let (Some(length), Some(kind)) = (word(rest, 0), rest.get(4..6)) {
                let length = (length as usize).clamp(16, rest.len().max(16));
                let body = rest.get(16..length).ok_or(Errno::EBADMSG)?;
                match i32::from(u16::from_ne_bytes([kind[0], kind[1]])) {
                    libc::NLMSG_DONE => return Ok(replies),
                    libc::NLMSG_ERROR => match word(body, 0).ok_or(Errno::EBADMSG)? as i32 {
                        0 => return Ok(replies),
                        error => return Err(Errno::from_raw(-error)),
                    },
                    kind => replies.push((kind as u16, body.to_vec())),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// struct ifinfomsg: family, type, index, flags, which of them change.
fn link(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]), value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
