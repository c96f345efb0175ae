//! Where the connection is made: the addresses and routes that decide its way.

use super::question::Asked;
use crate::engine::error::Error;
use crate::netfilter::model::{Family, Interface, Routing};
use crate::netfilter::rtnetlink;
use crate::netfilter::trace::{Link, Network, Way};
use ipnet::IpNet;
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
    let hop = rtnetlink::hop(asked.to.ip())?;
    let way = hop.and_then(|hop| {
        let link = links.iter().find(|link| link.index == hop.through)?;
        Some(match hop.is_local {
            true => Way::Here,
            false => out(&link.name, hop.source),
        })
    });
    let links = links.into_iter().map(|link| Link {
        name: link.name,
        addresses: link.addresses,
    });
    let whole = Family::of(asked.to.ip()).bits();
    Ok(Network {
        links: links.collect(),
        routes: way
            .into_iter()
            .map(|way| (net(asked.to.ip(), whole), way))
            .collect(),
        policy_routes: Vec::new(),
    })
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
