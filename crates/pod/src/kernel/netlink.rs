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
use std::os::fd::{AsRawFd, BorrowedFd};

use ::netlink::{Family, Message, Reply, Socket, attributes, find, number};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

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
struct Route(Socket);

const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// The sizes of struct ifinfomsg and struct ifaddrmsg.
const LINK: usize = 16;
const ADDRESS: usize = 8;

impl Route {
    fn open() -> nix::Result<Route> {
        Socket::open(Family::Route).map(Route).map_err(|error| error.errno)
    }

    fn index_of(&mut self, name: &str) -> nix::Result<Option<i32>> {
        let question = link(libc::RTM_GETLINK, 0, 0, 0).with(|with| {
            with.str(libc::IFLA_IFNAME, name);
        });
        match self.ask(&question) {
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
            Ok(replies) => Ok(replies.iter().find_map(|reply| number(&reply.body, 4)).map(|index| index as i32)),
        }
    }

    fn addresses_of(&mut self, index: i32) -> nix::Result<Vec<Address>> {
        let question = Message::new("", libc::RTM_GETADDR, &[0; ADDRESS]).flags(libc::NLM_F_DUMP);
        let replies = self.ask(&question)?;
        let read = |body: &[u8]| {
            let (family, prefix, scope) = (*body.first()?, *body.get(1)?, *body.get(3)?);
            let attributes = attributes(body, ADDRESS);
            let flags = find(&attributes, libc::IFA_FLAGS);
            let flags = flags.and_then(|value| number(value, 0)).unwrap_or_else(|| body[2].into());
            let ours = number(body, 4)? as i32 == index;
            let given = scope == libc::RT_SCOPE_UNIVERSE && flags & libc::IFA_F_PERMANENT != 0;
            let kept = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
            let attributes = attributes.into_iter().filter(|(kind, _)| kept.contains(kind));
            let attributes = attributes.map(|(kind, value)| (kind, value.to_vec())).collect();
            (ours && given).then_some(Address { family, prefix, flags, attributes })
        };
        Ok(replies.iter().filter_map(|reply| read(&reply.body)).collect())
    }

    fn move_link(&mut self, index: i32, new_name: &str, to: BorrowedFd<'_>) -> nix::Result<()> {
        // The kernel renames only what is down.
        self.ask(&link(libc::RTM_NEWLINK, index, 0, libc::IFF_UP as u32))?;
        let request = link(libc::RTM_NEWLINK, index, 0, 0).with(|with| {
            with.u32(libc::IFLA_NET_NS_FD, to.as_raw_fd() as u32).str(libc::IFLA_IFNAME, new_name);
        });
        self.ask(&request).map(drop)
    }

    fn settle(&mut self, name: &str, addresses: &[Address]) -> nix::Result<()> {
        let index = self.index_of(name)?.ok_or(Errno::ENODEV)?;
        addresses.iter().try_for_each(|address| self.add_address(index, address))?;
        self.ask(&link(libc::RTM_NEWLINK, index, libc::IFF_UP as u32, libc::IFF_UP as u32)).map(drop)
    }

    fn add_address(&mut self, index: i32, address: &Address) -> nix::Result<()> {
        let mut fixed = vec![address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE];
        fixed.extend_from_slice(&index.to_ne_bytes());
        // No other machine had the address when it was given first.
        let flags = address.flags & (libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE) | libc::IFA_F_NODAD;
        let request = Message::new("", libc::RTM_NEWADDR, &fixed).flags(NEW).with(|with| {
            for (kind, value) in &address.attributes {
                with.bytes(*kind, value);
            }
            with.u32(libc::IFA_FLAGS, flags);
        });
        self.ask(&request).map(drop)
    }

    /// Sends one request; what is answered. The caller says what was being done.
    fn ask(&mut self, request: &Message) -> nix::Result<Vec<Reply>> {
        self.0.ask(request).map_err(|error| error.errno)
    }
}

/// A request about a link, by struct ifinfomsg: family, type, index, flags, which
/// of them change.
fn link(kind: u16, index: i32, flags: u32, change: u32) -> Message {
    let mut fixed = vec![0; LINK];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&change.to_ne_bytes());
    Message::new("", kind, &fixed)
}
