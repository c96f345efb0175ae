//! The network in which connections are tried: its addresses, and the routes to where they go.

use super::probes::addresses;
use crate::engine::error::Error;
use crate::netfilter::model::{Family, Interface, Routing, Rules};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, NextHop};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// This network namespace, with the routes to all that the desired rules and those in the kernel name.
///
/// # Errors
/// When the kernel does not list its addresses and routes.
pub(super) fn of_rules(
    desired: &Rules,
    kernel: Option<&Rules>,
    routing: &Routing,
) -> Result<Network, Error> {
    let here = network([], routing)?;
    let rules = [Some(desired), kernel].into_iter().flatten();
    network(rules.flat_map(|rules| addresses(rules, &here)), routing)
}

/// This network namespace, with the routes to some destinations, as the kernel gives them to any process
/// that asks.
///
/// # Errors
/// When it does not.
fn network(
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
        let next_hop = match (hop.is_local, through) {
            (true, _) => NextHop::Local,
            (false, Some(link)) => NextHop::Out {
                through: link.name.clone(),
                source: hop.source,
            },
            (false, None) => continue,
        };
        routes.push((IpNet::new_assert(to, Family::of(to).bits()), next_hop));
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
