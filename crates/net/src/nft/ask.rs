//! What there is of rules, ours and others': asked for, never changed.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use netlink::{Message, Reply, Result, Socket, attributes, find};
use nix::errno::Errno;

use super::message::general;
use super::rules::PortRule;
use crate::ports::{PortMapping, Protocol};

/// What can be asked for (`NFT_MSG_GET*`); the answers are of the kind before
/// (`NFT_MSG_NEW*`).
const TABLES: u16 = 1;
const CHAINS: u16 = 4;
const RULES: u16 = 7;
const ELEMENTS: u16 = 13;
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
/// struct nfgenmsg.
const FIXED: usize = 4;
/// `NFPROTO_*`.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
/// `NF_INET_FORWARD`, which bridges number alike.
const FORWARD: u32 = 2;

/// A chain that is asked about each forwarded packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardChain {
    /// `NFPROTO_*`.
    family: u8,
    pub table: String,
    pub name: String,
    /// What no rule of its decides is dropped.
    pub drops: bool,
}

impl ForwardChain {
    /// As nft(8) writes it; `None` for one that sees no packets of pods.
    pub(crate) fn family(&self) -> Option<&'static str> {
        match self.family {
            INET => Some("inet"),
            2 => Some("ip"),
            7 => Some("bridge"),
            10 => Some("ip6"),
            _ => None,
        }
    }
}

/// All chains at the hook `forward`, whoever made them. iptables-nft's are among
/// them, those of iptables-legacy are not.
pub(crate) fn forward_chains(socket: &mut Socket) -> Result<Vec<ForwardChain>> {
    let question = question("looking at the chains of nf_tables", CHAINS, UNSPECIFIED);
    Ok(answers(socket, &question, CHAINS)?.iter().filter_map(forward_chain).collect())
}

fn forward_chain(reply: &Reply) -> Option<ForwardChain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    let chain = attributes(&reply.body, FIXED);
    let hook = attributes(find(&chain, HOOK)?, 0);
    let is_forward = find(&hook, 1).and_then(number) == Some(FORWARD);
    is_forward.then_some(ForwardChain {
        family: *reply.body.first()?,
        table: text(find(&chain, TABLE)?),
        name: text(find(&chain, NAME)?),
        drops: find(&chain, POLICY).and_then(number) == Some(libc::NF_DROP as u32),
    })
}

/// A rule of whomever, as far as it is understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenRule {
    /// `NFPROTO_*`.
    family: u8,
    pub table: String,
    pub chain: String,
    /// What it can be searched for names of links in.
    expressions: Vec<u8>,
    /// It drops or refuses what it is about.
    pub drops: bool,
    /// It is about packets of some links alone.
    pub is_of_links: bool,
    /// The ports of this machine of which it changes where packets go, and of which
    /// protocol if it says so.
    pub sends_on: Option<(Option<Protocol>, RangeInclusive<u16>)>,
}

/// All rules of nf_tables, in the order in which their chains have them.
pub(crate) fn rules(socket: &mut Socket) -> Result<Vec<SeenRule>> {
    let question = question("looking at the rules of nf_tables", RULES, UNSPECIFIED);
    Ok(answers(socket, &question, RULES)?.iter().filter_map(rule).collect())
}

fn rule(reply: &Reply) -> Option<SeenRule> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let rule = attributes(&reply.body, FIXED);
    let expressions = find(&rule, EXPRESSIONS).unwrap_or_default();
    let understood = read_expressions(expressions);
    Some(SeenRule {
        family: *reply.body.first()?,
        table: text(find(&rule, TABLE)?),
        chain: text(find(&rule, CHAIN)?),
        expressions: expressions.to_vec(),
        drops: understood.drops,
        is_of_links: understood.is_of_links,
        sends_on: understood.ports.filter(|_| understood.changes_destination).map(|ports| (understood.protocol, ports)),
    })
}

impl SeenRule {
    /// Whether it is in this chain.
    pub(crate) fn is_in(&self, chain: &ForwardChain) -> bool {
        self.is_beside(chain) && self.chain == chain.name
    }

    fn is_beside(&self, chain: &ForwardChain) -> bool {
        (self.family, &self.table) == (chain.family, &chain.table)
    }

    /// Whether it is in the chain's table and names the link: its owner has thought of
    /// that.
    pub(crate) fn names_link(&self, chain: &ForwardChain, link: &str) -> bool {
        let name = [link.as_bytes(), b"\0"].concat();
        self.is_beside(chain) && self.expressions.windows(name.len()).any(|bytes| bytes == name)
    }
}

/// What the expressions of a rule come to.
#[derive(Default)]
struct Understood {
    drops: bool,
    is_of_links: bool,
    changes_destination: bool,
    protocol: Option<Protocol>,
    ports: Option<RangeInclusive<u16>>,
}

/// What the register has that is compared next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Protocol,
    Port,
    Other,
}

/// nft's own expressions, and those that iptables-nft wraps (`match`, `target`).
fn read_expressions(list: &[u8]) -> Understood {
    const VERDICT: u16 = 2;
    const BYTES: u16 = 1;
    /// `NFT_META_L4PROTO`; `NFT_META_IIF`, `OIF`, `IIFNAME` and `OIFNAME`.
    const L4PROTO: u32 = 16;
    const LINKS: RangeInclusive<u32> = 4..=7;
    /// `NFT_PAYLOAD_*_HEADER`.
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let mut understood = Understood::default();
    let mut loaded = Loaded::Other;
    for (_, expression) in attributes(list, 0) {
        let expression = attributes(expression, 0);
        let name = find(&expression, 1).map(text).unwrap_or_default();
        let data = attributes(find(&expression, 2).unwrap_or_default(), 0);
        let word = |kind| find(&data, kind).and_then(number);
        let nested = |kind, inner| find(&data, kind).and_then(|value| find(&attributes(value, 0), inner));
        match name.as_str() {
            "immediate" => {
                let code = nested(2, VERDICT).and_then(|verdict| find(&attributes(verdict, 0), 1)).and_then(number);
                understood.drops |= code == Some(libc::NF_DROP as u32);
            }
            "reject" => understood.drops = true,
            "meta" => {
                loaded = if word(2) == Some(L4PROTO) { Loaded::Protocol } else { Loaded::Other };
                understood.is_of_links |= word(2).is_some_and(|key| LINKS.contains(&key));
            }
            "payload" => {
                loaded = match (word(2), word(3), word(4)) {
                    (Some(NETWORK), Some(9), Some(1)) => Loaded::Protocol,
                    (Some(TRANSPORT), Some(2), Some(2)) => Loaded::Port,
                    _ => Loaded::Other,
                }
            }
            "cmp" => understood.compare(loaded, word(2), nested(3, BYTES).unwrap_or_default()),
            "range" if loaded == Loaded::Port => {
                let end = |kind| nested(kind, BYTES).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
                understood.ports = end(3).zip(end(4)).map(|(first, last)| first..=last);
            }
            "match" => understood.ports = read_match(&data).or(understood.ports),
            "redir" => understood.changes_destination = true,
            "nat" => understood.changes_destination |= word(1) == Some(1),
            "target" => {
                let target = find(&data, 1).map(text).unwrap_or_default();
                understood.drops |= target == "REJECT";
                understood.changes_destination |= matches!(target.as_str(), "DNAT" | "REDIRECT");
            }
            _ => {}
        }
    }
    understood
}

impl Understood {
    /// What was loaded is compared with a value, by `NFT_CMP_*`.
    fn compare(&mut self, loaded: Loaded, how: Option<u32>, value: &[u8]) {
        const EQUAL: Option<u32> = Some(0);
        const AT_MOST: Option<u32> = Some(3);
        const AT_LEAST: Option<u32> = Some(5);
        match (loaded, value) {
            (Loaded::Protocol, [number]) if how == EQUAL => {
                self.protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.number() == *number);
            }
            (Loaded::Port, [high, low]) => {
                let port = u16::from_be_bytes([*high, *low]);
                let all = self.ports.clone().unwrap_or(0..=u16::MAX);
                self.ports = match how {
                    EQUAL => Some(port..=port),
                    AT_LEAST => Some(port..=*all.end()),
                    AT_MOST => Some(*all.start()..=port),
                    _ => self.ports.clone(),
                };
            }
            _ => {}
        }
    }
}

/// `-m tcp` and `-m udp` of iptables: struct xt_tcp and xt_udp begin with the first
/// and last port of the source, and then of the destination.
fn read_match(data: &[(u16, &[u8])]) -> Option<RangeInclusive<u16>> {
    let name = find(data, 1).map(text)?;
    let info = find(data, 3).filter(|_| matches!(name.as_str(), "tcp" | "udp"))?;
    let port = |at: usize| info.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    Some(port(4)?..=port(6)?)
}

/// Which of these ports lead to where they should; `None` if there is no table.
pub(crate) fn published(socket: &mut Socket, table: &str, ports: &[PortRule]) -> Result<Option<Vec<bool>>> {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    let mut found = HashSet::new();
    for map in super::set::PortMap::ALL {
        let question = question("looking at published ports", ELEMENTS, INET).with(|with| {
            with.str(TABLE, table).str(SET, map.name());
        });
        match answers(socket, &question, ELEMENTS) {
            Err(error) if error.errno == Errno::ENOENT => return Ok(None),
            replies => found.extend(replies?.iter().flat_map(elements).map(|element| (map, element))),
        }
    }
    Ok(Some(ports.iter().map(|port| found.contains(&(port.map(), port.bytes()))).collect()))
}

/// The ports that other tables of podlet lead to pods, with the table's name: those of
/// other stores, which know nothing of this one.
pub(crate) fn published_by_others(socket: &mut Socket, own: &str) -> Result<Vec<(String, PortMapping)>> {
    const NAME: u16 = 1;
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    let tables = question("looking at the tables of nf_tables", TABLES, INET);
    let tables = answers(socket, &tables, TABLES)?;
    let names = tables.iter().filter_map(|reply| find(&attributes(&reply.body, FIXED), NAME).map(text));
    let mut found = Vec::new();
    for table in names.filter(|name| name != own && is_of_podlet(name)) {
        for map in super::set::PortMap::ALL {
            let question = question("looking at published ports", ELEMENTS, INET).with(|with| {
                with.str(TABLE, &table).str(SET, map.name());
            });
            match answers(socket, &question, ELEMENTS) {
                // It went just now, or only has a name like those of podlet.
                Err(error) if error.errno == Errno::ENOENT => {}
                replies => {
                    let elements = replies?.iter().flat_map(elements).collect::<Vec<_>>();
                    let ports = elements.iter().filter_map(|(key, value)| map.read(key, value));
                    found.extend(ports.map(|port| (table.clone(), port)));
                }
            }
        }
    }
    Ok(found)
}

/// As `make::table_name` gives them.
pub(crate) fn is_of_podlet(table: &str) -> bool {
    table.strip_prefix("podlet").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Keys and values, as registers have them.
fn elements(reply: &Reply) -> Vec<(Vec<u8>, Vec<u8>)> {
    const LIST: u16 = 3;
    const KEY: u16 = 1;
    const VALUE: u16 = 2;
    /// `NFTA_DATA_VALUE`.
    const BYTES: u16 = 1;
    let list = attributes(&reply.body, FIXED);
    let items = attributes(find(&list, LIST).unwrap_or_default(), 0);
    let bytes = |item: &[u8], kind| {
        let item = attributes(item, 0);
        let data = attributes(find(&item, kind)?, 0);
        find(&data, BYTES).map(<[u8]>::to_vec)
    };
    items.iter().filter_map(|(_, item)| Some((bytes(item, KEY)?, bytes(item, VALUE)?))).collect()
}

fn question(doing: &str, kind: u16, family: u8) -> Message {
    Message::new(doing, SUBSYSTEM | kind, &general(family, 0)).flags(libc::NLM_F_DUMP)
}

fn answers(socket: &mut Socket, question: &Message, kind: u16) -> Result<Vec<Reply>> {
    let mut replies = socket.ask(question)?;
    replies.retain(|reply| reply.kind == SUBSYSTEM | (kind - 1));
    Ok(replies)
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}
