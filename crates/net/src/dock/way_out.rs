//! One way out of a pod that is in several networks: that of the first which has one.
//!
//! Plugins put a default route before the one that is there (IPv4), or beside it as
//! another way of the same (IPv6, which then takes either). Answers would leave by
//! another network than that of the pod's ports.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink::Family;
use pod::Result;

use crate::enter;
use crate::make::open;
use crate::route::{self, Link, Route};
use crate::step::{self, Step, refused};

/// Takes default routes away that are not of the first of these interfaces which has
/// one, for each family.
pub(crate) fn keep_first(namespace: &OwnedFd, interfaces: &[&str]) -> Result<()> {
    enter::inside(namespace.as_fd(), || {
        let mut socket = open(Family::Route)?;
        let mut links = Vec::new();
        for name in interfaces {
            links.extend(route::link_named(&mut socket, name).map_err(refused)?);
        }
        let routes = route::routes(&mut socket).map_err(refused)?;
        for any in [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()] {
            let ways_out: Vec<(u32, Option<IpAddr>)> =
                routes.iter().filter(|route| route.is_main && route.to == any).flat_map(ways).collect();
            let is_used = |link: &&Link| ways_out.iter().any(|(index, _)| *index == link.index);
            for link in links.iter().filter(is_used).skip(1) {
                let of_it = ways_out.iter().filter(|(index, _)| *index == link.index);
                let steps: Vec<Step> =
                    of_it.map(|(index, via)| route::delete_default(*index, &link.name, any, *via).into()).collect();
                step::perform(&mut socket, &steps)?;
            }
        }
        Ok(())
    })
}

/// The links and neighbours by which it goes.
fn ways(route: &Route) -> Vec<(u32, Option<IpAddr>)> {
    match route.ways.is_empty() {
        true => route.links.iter().map(|link| (*link, route.via)).collect(),
        false => route.ways.clone(),
    }
}
