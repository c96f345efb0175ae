//! The network in which connections are tried: its addresses, and the routes to where they go.

use crate::engine::error::Error;
use crate::netfilter::model::{Family, Interface, Routing};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, Way};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// This network namespace, with the routes to some destinations as the kernel gives them to whoever
/// asks.
///
/// # Errors
/// When it does not.
pub(super) fn network(
    destinations: impl IntoIterator<Item = IpAddr>,
    desired: &Routing,
) -> Result<Network, Error> {
    let links = rtnetlink::links()?;
    let mut routes = Vec::new();
    for to in destinations.into_iter().collect::<BTreeSet<IpAddr>>() {
        let Some(hop) = rtnetlink::hop(to)? else {
            continue;
        };
        let through = links.iter().find(|link| link.index == hop.through);
        let way = match (hop.is_local, through) {
            (true, _) => Way::Here,
            (false, Some(link)) => Way::Out {
                through: link.name.clone(),
                source: hop.source,
            },
            (false, None) => continue,
        };
        routes.push((IpNet::new_assert(to, Family::of(to).bits()), way));
    }
    let links = links.into_iter().map(|link| Link {
        name: link.name,
        addresses: link.addresses,
    });
    let mut network = Network {
        links: links.collect(),
        routes,
        policy_routes: desired.policy_routes.clone(),
    };
    for address in desired.loopback_addresses.iter().map(|a| a.0) {
        if !network.is_own(address.addr()) {
            network.add_address(&Interface::LOOPBACK, address);
        }
    }
    Ok(network)
}
