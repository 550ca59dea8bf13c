//! Requests to nf_tables (`linux/netfilter/nf_tables.h`), and what makes one
//! transaction of them (`NFNL_MSG_BATCH_BEGIN` in `linux/netfilter/nfnetlink.h`).
//!
//! All numbers of nf_tables are in network byte order.

use netlink::{Attributes, Batch, Message};

/// `NFPROTO_INET`: a table for IPv4 and IPv6.
const INET: u8 = 1;
/// The attribute that each item of a list is (`NFTA_LIST_ELEM`).
pub(super) const ITEM: u16 = 1;
/// `NFTA_DATA_VALUE`: what bytes of a comparison, a key, a value are in.
const BYTES: u16 = 1;

/// What can be asked for (`NFT_MSG_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElement = 12,
    DeleteElement = 14,
}

/// A request about a table of the family `inet`, which comes into being if it is
/// to. `doing` says what it does, in an error and in a plan.
pub(super) fn request(doing: impl Into<String>, request: Request) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | request as u16;
    let create = match request {
        Request::DeleteTable | Request::DeleteElement => 0,
        Request::NewRule => libc::NLM_F_CREATE | libc::NLM_F_APPEND,
        _ => libc::NLM_F_CREATE,
    };
    Message::new(doing, kind, &general(INET, 0)).flags(create)
}

/// These, all or none of them. Only the last is acknowledged: acknowledgements
/// of more than some 50 find no room, while each that is refused is told anyway.
pub(super) fn transaction(mut messages: Vec<Message>) -> Batch {
    let mut batch = Batch::new();
    let Some(last) = messages.pop() else { return batch };
    let limit = |doing: &str, kind: i32| {
        Message::new(doing, kind as u16, &general(0, libc::NFNL_SUBSYS_NFTABLES as u16)).unacknowledged()
    };
    batch.push(limit("beginning a transaction of nf_tables", libc::NFNL_MSG_BATCH_BEGIN));
    for message in messages {
        batch.push(message.unacknowledged());
    }
    batch.push(last);
    batch.push(limit("ending a transaction of nf_tables", libc::NFNL_MSG_BATCH_END));
    batch
}

/// struct nfgenmsg: family, version, and in network byte order a resource.
pub(super) fn general(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, libc::NFNETLINK_V0 as u8, high, low]
}

/// An attribute that holds others, marked as such.
pub(super) fn nest(attributes: &mut Attributes<'_>, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
    attributes.nest(kind | libc::NLA_F_NESTED as u16, fill);
}

/// An attribute that holds bytes as a register has them.
pub(super) fn data(attributes: &mut Attributes<'_>, kind: u16, value: &[u8]) {
    nest(attributes, kind, |data| {
        data.bytes(BYTES, value);
    });
}
