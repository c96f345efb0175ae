//! `explain`: what happens to one connection, rule by rule.
//!
//! From the options alone it needs no privilege, like a dry run; with `--live` it is computed from what
//! the kernel holds.

mod answer;
pub mod connections;
mod live;
pub(super) mod place;
mod question;
pub mod view;

pub(crate) use live::{rules as live_rules, table_name};
pub use question::Question;

use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::request::{self, Request};
use crate::mesh::Resolved;
use crate::mesh::config::{Config, ConfigError, Dns, Ipv6, resolv_conf};
use crate::netfilter::model::{Family, Interface, Packet, Routing, Rules, Tracking};
use crate::netfilter::rtnetlink::Router;
use crate::netfilter::trace::{Network, Probe, Start, every_trace};
use ipnet::IpNet;
use question::Asked;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use view::Explanation;

/// Stands for any port without a listener: the first of the dynamic ones (RFC 6335).
const ANY_PORT: u16 = 49152;

/// Answers the question.
pub(super) fn explain(question: &Question, request: &Request) -> Result<Explanation, Error> {
    let mut asked = request::gather(&mut request.facts.clone(), host::file, |facts| {
        question.read(facts)
    })?;
    let Followed {
        rules,
        routing,
        live,
        assumed,
    } = followed(question.live, &asked.local, request)?;
    asked.assumed.extend(assumed);
    let network = place::network(&mut asked, &routing)?;
    if asked.local.is_empty() {
        place::check_interface(&asked, &network)?;
    }
    if live {
        let assumed = live::policy_rules_of_others(Family::of(asked.to.ip()))?;
        asked.assumed.extend(assumed);
    }
    let (probe, mut network) = probe(&mut asked, network, live)?;
    let mut known = BTreeSet::from([asked.to.ip()]);
    let traces = loop {
        let traces = every_trace(&probe, &rules, &network)?;
        let is_here = asked.local.is_empty();
        if !is_here || !place::add_routes(&mut network, &mut known, &traces)? {
            break traces;
        }
    };
    Ok(Explanation::new(asked, &probe, &traces))
}

/// Addresses as `--local-address` takes them.
pub(super) fn local_addresses(typed: &[String]) -> Result<Vec<(Interface, IpNet)>, Error> {
    let addresses = typed.iter().map(|address| question::local(address));
    Ok(addresses.collect::<Result<_, _>>()?)
}

/// The rules that are followed, with the policy routes.
struct Followed {
    rules: Rules,
    routing: Routing,
    /// Whether they are those in the kernel.
    live: bool,
    /// Where they come from, as far as nobody said it.
    assumed: Option<String>,
}

/// The rules that the options ask for, or those in the kernel: by choice, or because neither options nor
/// variables ask for any.
fn followed(
    live: bool,
    local: &[(Interface, IpNet)],
    request: &Request,
) -> Result<Followed, Error> {
    let in_kernel = || {
        let (rules, routing) = live::rules()?;
        Ok(Followed {
            rules,
            routing,
            live: true,
            assumed: (!live).then(|| "the rules are those in the kernel (--live)".to_owned()),
        })
    };
    if live {
        return in_kernel();
    }
    match resolved(local, request) {
        Err(e) if local.is_empty() && request.asks_for_nothing(&e) => in_kernel(),
        resolved => resolved.map(|resolved| Followed {
            rules: Rules::of(&resolved.desired),
            assumed: nameservers(&resolved.config),
            routing: resolved.desired.routing,
            live,
        }),
    }
}

/// What the options ask for: on this host, or on one with the addresses of the question.
pub(super) fn resolved(local: &[(Interface, IpNet)], request: &Request) -> Result<Resolved, Error> {
    if local.is_empty() {
        return Ok(request.resolve(&mut Router::open()?)?.0);
    }
    let mut facts = request.facts.clone();
    facts.ipv6 = Some(elsewhere(local));
    Ok(request.resolve_with(&mut facts, host::file)?)
}

/// The nameservers that rules are about: no option names them.
fn nameservers(config: &Config) -> Option<String> {
    let Some(Dns::Servers(servers)) = &config.dns else {
        return None;
    };
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let servers = servers.join(" and ");
    Some(format!("nameserver {servers}, from {}", resolv_conf::PATH))
}

/// IPv6 of a host with these addresses.
fn elsewhere(local: &[(Interface, IpNet)]) -> Ipv6 {
    let v6 = |(_, net): &(Interface, IpNet)| match net.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    };
    Ipv6 {
        enabled: true,
        on_loopback: true,
        addresses: local.iter().filter_map(v6).collect(),
    }
}

/// The packet at its start.
fn probe(asked: &mut Asked, mut network: Network, live: bool) -> Result<(Probe, Network), Error> {
    let own = asked.from.is_some_and(|from| network.is_own(from.ip()));
    let sender = match asked.sender.take() {
        None if own => Some(question::app(&mut asked.assumed)),
        sender => sender,
    };
    let (start, interface) = match &sender {
        Some(_) if asked.interface.is_some() => {
            let error = ConfigError::BadValue {
                option: "--interface".to_owned(),
                problem: "is about what comes in from outside, which no user here sends".to_owned(),
            };
            return Err(error.into());
        }
        Some(_) => (Start::Here, None),
        None => (Start::Outside, Some(comes_in(asked, &mut network, live))),
    };
    let packet = Packet {
        in_interface: interface,
        owner: sender,
        mark: asked.mark,
        socket: asked.socket,
        ..Packet::new(asked.protocol, source(asked, &network), asked.to)
    };
    let tracking = Tracking::new(asked.state, asked.ct_mark);
    let probe = Probe {
        start,
        packet,
        tracking,
    };
    Ok((probe, network))
}

/// The interface that a packet from outside comes in through. Where no option says what addresses there
/// are, it is sent to one of them.
fn comes_in(asked: &mut Asked, network: &mut Network, live: bool) -> Interface {
    let to = asked.to.ip();
    let outside = |name: &&Interface| **name != Interface::LOOPBACK;
    let has = network.interface_of(to).filter(outside).cloned();
    let first = || {
        let mut used = network.links.iter().filter(|l| !l.addresses.is_empty());
        used.find(|l| outside(&&l.name)).map(|l| l.name.clone())
    };
    let name = asked.interface.clone().or(has).or_else(first);
    let name = name.unwrap_or(Interface::ETH0);
    if !live && asked.local.is_empty() && !network.is_own(to) {
        network.add_address(&name, IpNet::from(to));
        asked.assumed.push(format!(
            "{to} is an address of the pod or VM, on {name} (--local-address)"
        ));
    } else if asked.interface.is_none() {
        asked
            .assumed
            .push(format!("it comes in through {name} (--interface)"));
    }
    name
}

/// Where it comes from: as said, or as the kernel picks.
fn source(asked: &Asked, network: &Network) -> SocketAddr {
    let picked = || {
        let next_hop = network.route(asked.to.ip(), asked.mark)?;
        network.source(asked.to.ip(), &next_hop)
    };
    let said = asked.from.map(|from| (from.ip(), from.port()));
    let (address, port) = match said {
        Some(said) => said,
        None => {
            let nothing = Family::of(asked.to.ip()).unspecified();
            (picked().unwrap_or(nothing), 0)
        }
    };
    match port {
        0 => SocketAddr::new(address, ANY_PORT),
        port => SocketAddr::new(address, port),
    }
}
