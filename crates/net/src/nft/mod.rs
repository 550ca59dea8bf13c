//! The firewall's part of a network: one nf_tables table of the family `inet`
//! for all networks of a podlet root, written by netlink, without the `nft`
//! program, and what connection tracking still knows of ports that changed.
//!
//! ```text
//!   rules        networks and ports → one Table; changes of ports
//!     ▼
//!   table        Table, Chain → a transaction (Batch); prints itself as `nft list`
//!     ▼
//!   expression   what a rule is made of       set   sets, maps and what is in them
//!     ▼                                        ▼
//!   message      requests of nf_tables, and what makes a transaction of them
//!
//!   conntrack    flows that would go on as before a port changed
//!   ask          what there is, for those who look for what is in the way
//! ```
//!
//! All but `conntrack` and `ask` is pure: it makes batches, and whoever has the socket
//! sends them. A batch is one transaction: all of it is done, or nothing. The
//! tables of others are not touched, and only `ask` reads them.

mod ask;
mod conntrack;
mod expression;
mod message;
mod rules;
mod set;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use ask::{ForwardChain, SeenRule, forward_chains, is_of_podlet, published, published_by_others, rules};
pub(crate) use conntrack::forget;
pub(crate) use rules::{Guard, NetworkRules, PortRule, add_ports, delete_ports, remove, table};
pub(crate) use table::Table;
