//! Where the connection is made: the addresses and routes that decide its way.

use super::question::Asked;
use crate::engine::error::Error;
use crate::mesh::config::ConfigError;
use crate::netfilter::model::{Family, Interface, Routing};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, Trace, Way};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network as `--local-address` tells it, or else that of this namespace.
pub(super) fn network(asked: &mut Asked, routing: &Routing) -> Result<Network, Error> {
    let mut network = match asked.local.is_empty() {
        true => here(asked)?,
        false => told(&asked.local),
    };
    for address in routing.loopback_addresses.iter().map(|a| a.0) {
        if !network.is_own(address.addr()) {
            network.add_address(&Interface::LOOPBACK, address);
        }
    }
    network.policy_routes.clone_from(&routing.policy_routes);
    Ok(network)
}

/// What is said to come in somewhere comes in through an interface that is there.
pub(super) fn check_interface(asked: &Asked, network: &Network) -> Result<(), ConfigError> {
    let name = asked.interface.as_ref();
    match name.filter(|name| network.links.iter().all(|link| link.name != **name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::BadValue {
            option: "--interface".to_owned(),
            problem: format!("\"{name}\" is not an interface of this network namespace"),
        }),
    }
}

/// lo, the interfaces told, and a way out through the first one that has an address of the family.
fn told(local: &[(Interface, IpNet)]) -> Network {
    let mut lo = vec![net(Ipv4Addr::LOCALHOST.into(), 8)];
    if local.iter().any(|(_, net)| net.addr().is_ipv6()) {
        lo.push(net(Ipv6Addr::LOCALHOST.into(), 128));
    }
    let mut network = Network {
        links: vec![Link {
            name: Interface::LOOPBACK,
            addresses: lo,
        }],
        ..Network::default()
    };
    for (name, net) in local {
        network.add_address(name, *net);
        network.routes.push((net.trunc(), out(name, None)));
    }
    for family in Family::ALL {
        let first = local
            .iter()
            .find(|(_, net)| Family::of(net.addr()) == family);
        let default = net(family.unspecified(), 0);
        network
            .routes
            .extend(first.map(|(name, _)| (default, out(name, None))));
    }
    network
}

/// What the kernel says of this network namespace, to whoever asks.
fn here(asked: &mut Asked) -> Result<Network, Error> {
    let links = rtnetlink::links()?;
    let others = links.iter().filter(|l| l.name != Interface::LOOPBACK);
    let names: Vec<String> = others
        .filter(|l| !l.addresses.is_empty())
        .map(shown)
        .collect();
    let names = match names.as_slice() {
        [] => "none but lo's".to_owned(),
        names => names.join("; "),
    };
    asked.assumed.push(format!(
        "the addresses are those of this network namespace, {names} (--local-address)"
    ));
    let routes = route(asked.to.ip(), &links)?.into_iter().collect();
    let links = links.into_iter().map(|link| Link {
        name: link.name,
        addresses: link.addresses,
    });
    Ok(Network {
        links: links.collect(),
        routes,
        policy_routes: Vec::new(),
    })
}

/// The kernel's route to an address.
fn route(to: IpAddr, links: &[rtnetlink::Link]) -> Result<Option<(IpNet, Way)>, Error> {
    let hop = rtnetlink::hop(to)?;
    let way = hop.and_then(|hop| {
        let link = links.iter().find(|link| link.index == hop.through)?;
        Some(match hop.is_local {
            true => Way::Here,
            false => out(&link.name, hop.source),
        })
    });
    Ok(way.map(|way| (net(to, Family::of(to).bits()), way)))
}

/// Adds the kernel's routes to the destinations that nat has given a packet. Whether there was one
/// that had not been asked for.
pub(super) fn add_routes(
    network: &mut Network,
    known: &mut BTreeSet<IpAddr>,
    traces: &[Trace],
) -> Result<bool, Error> {
    let ends = traces.iter().map(|trace| trace.packet.destination.ip());
    let new: Vec<IpAddr> = ends.filter(|to| known.insert(*to)).collect();
    if new.is_empty() {
        return Ok(false);
    }
    let links = rtnetlink::links()?;
    for to in new {
        network.routes.extend(route(to, &links)?);
    }
    Ok(true)
}

fn shown(link: &rtnetlink::Link) -> String {
    let addresses: Vec<String> = link
        .addresses
        .iter()
        .map(|a| a.addr().to_string())
        .collect();
    format!("{} on {}", addresses.join(" "), link.name)
}

fn out(name: &Interface, source: Option<IpAddr>) -> Way {
    Way::Out {
        through: name.clone(),
        source,
    }
}

/// A prefix whose length is one of its family's.
fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length)
}
