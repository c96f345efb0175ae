//! Where the connection is made: the addresses and routes that decide its way.

use super::question::Asked;
use crate::engine::error::Error;
use crate::mesh::config::ConfigError;
use crate::netfilter::model::{Family, Interface, Routing};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, NextHop, Trace};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network as `--local-address` tells it, or else that of this namespace.
pub(super) fn network(asked: &mut Asked, routing: &Routing) -> Result<Network, Error> {
    let network = match asked.local.is_empty() {
        true => {
            let links = rtnetlink::links()?;
            asked.assumed.push(assumed_here(&links));
            let routes = route(asked.to.ip(), &links)?.into_iter().collect();
            here(links, routes)
        }
        false => of_addresses(&asked.local),
    };
    Ok(with(network, routing))
}

/// A network, and what is assumed of it.
pub(in crate::actions) struct Place {
    pub network: Network,
    pub assumed: Vec<String>,
}

/// The network for all destinations: the networks of the interfaces, and a way out for the rest. A
/// machine without addresses stands for one that has some, unless it is itself in question.
pub(in crate::actions) fn whole(
    local: &[(Interface, IpNet)],
    routing: &Routing,
    live: bool,
) -> Result<Place, Error> {
    const SAMPLE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    if !local.is_empty() {
        return Ok(Place {
            network: with(of_addresses(local), routing),
            assumed: Vec::new(),
        });
    }
    let links = rtnetlink::links()?;
    let others = links.iter().filter(|l| l.name != Interface::LOOPBACK);
    let addressed = others.filter(|l| !l.addresses.is_empty());
    let local: Vec<(Interface, IpNet)> = addressed
        .flat_map(|link| link.addresses.iter().map(|net| (link.name.clone(), *net)))
        .collect();
    let is_sample = local.is_empty() && !live;
    let assumed = match is_sample {
        true => format!("the pod or VM has the address {SAMPLE} on eth0 (--local-address)"),
        false => assumed_here(&links),
    };
    let network = match is_sample {
        true => of_addresses(&[(Interface::ETH0, net(SAMPLE, 24))]),
        false => {
            let mut routes = Vec::new();
            for family in Family::ALL {
                routes.extend(default_route(family, &links)?);
            }
            routes.extend(of_addresses(&local).routes);
            here(links, routes)
        }
    };
    Ok(Place {
        network: with(network, routing),
        assumed: vec![assumed],
    })
}

/// The kernel's route to an unused address (RFC 5737, RFC 3849), for all that has no other one.
fn default_route(
    family: Family,
    links: &[rtnetlink::Link],
) -> Result<Option<(IpNet, NextHop)>, Error> {
    let nobody = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let route = route(nobody, links)?;
    Ok(route.map(|(_, next_hop)| (net(family.unspecified(), 0), next_hop)))
}

/// A network with what the rules rely on outside netfilter.
fn with(mut network: Network, routing: &Routing) -> Network {
    for address in routing.loopback_addresses.iter().map(|a| a.0) {
        if !network.is_own(address.addr()) {
            network.add_address(&Interface::LOOPBACK, address);
        }
    }
    network.policy_routes.clone_from(&routing.policy_routes);
    network
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

/// lo, these interfaces, and a way out through the first one that has an address of the family.
fn of_addresses(local: &[(Interface, IpNet)]) -> Network {
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

/// What is assumed where the addresses are those of this network namespace.
fn assumed_here(links: &[rtnetlink::Link]) -> String {
    let others = links.iter().filter(|l| l.name != Interface::LOOPBACK);
    let names: Vec<String> = others
        .filter(|l| !l.addresses.is_empty())
        .map(shown)
        .collect();
    let names = match names.as_slice() {
        [] => "none but lo's".to_owned(),
        names => names.join("; "),
    };
    format!("the addresses are those of this network namespace, {names} (--local-address)")
}

/// This network namespace.
fn here(links: Vec<rtnetlink::Link>, routes: Vec<(IpNet, NextHop)>) -> Network {
    let links = links.into_iter().map(|link| Link {
        name: link.name,
        addresses: link.addresses,
    });
    Network {
        links: links.collect(),
        routes,
        policy_routes: Vec::new(),
    }
}

/// The kernel's route to an address.
fn route(to: IpAddr, links: &[rtnetlink::Link]) -> Result<Option<(IpNet, NextHop)>, Error> {
    let hop = rtnetlink::hop(to)?;
    let next_hop = hop.and_then(|hop| {
        let link = links.iter().find(|link| link.index == hop.through)?;
        Some(match hop.is_local {
            true => NextHop::Local,
            false => out(&link.name, hop.source),
        })
    });
    Ok(next_hop.map(|next_hop| (net(to, Family::of(to).bits()), next_hop)))
}

/// Adds the kernel's routes to the destinations that nat has given a packet. Whether there was one
/// that was not requested.
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

fn out(name: &Interface, source: Option<IpAddr>) -> NextHop {
    NextHop::Out {
        through: name.clone(),
        source,
    }
}

/// A prefix whose length is one of its family's.
fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length)
}
