//! What is to become of a probe: pure, by following it through the rules that are wanted.

use super::listeners::ProxyPort;
use super::probe::Probe;
use super::report::Expected;
use crate::netfilter::model::{
    ConnState, Connection, Credentials, Facts, Family, FoundSocket, Packet, Protocol, Rules,
    Ruleset, Target, Tracking,
};
use crate::netfilter::trace::{End, Network, Start, Walk, follow};
use std::net::{IpAddr, SocketAddr};

/// A port that the kernel may pick for whoever connects (`ip_local_port_range`).
const EPHEMERAL: u16 = 50000;

/// Where the probe is to end, or nothing if that cannot be tried: there is no way to it.
pub(super) fn expected(probe: &Probe, rules: &Rules, network: &Network) -> Option<Expected> {
    let way = network.route(probe.to.ip(), 0)?;
    let source = network.source(probe.to.ip(), &way)?;
    let mut walk = new_connection(Start::Here, probe.protocol, source, probe.to);
    walk.packet.owner = Some(Credentials {
        uid: probe.user.uid,
        gid: probe.user.gid,
        supplementary_groups: Vec::new(),
    });
    // A mesh's own chains have no loops.
    ending(&follow(&walk, rules, network, &[]).ok()?.end)
}

/// The first packet of a connection.
pub(super) fn new_connection(
    start: Start,
    protocol: Protocol,
    from: IpAddr,
    to: SocketAddr,
) -> Walk {
    Walk {
        start,
        packet: Packet {
            protocol,
            source: SocketAddr::new(from, EPHEMERAL),
            destination: to,
            in_interface: None,
            out_interface: None,
            owner: None,
            mark: 0,
            zone: 0,
            tracking: Tracking::NotYet,
            socket: FoundSocket::None,
            facts: Facts::default(),
        },
        tracking: Tracking::Known(Connection {
            state: ConnState::New,
            mark: 0,
        }),
    }
}

/// What such an end is to whoever connects; nothing where it cannot be told.
pub(super) fn ending(end: &End) -> Option<Expected> {
    match end {
        End::Delivered { port, by: Some(_) } => Some(Expected::Proxy(*port)),
        End::Delivered { by: None, .. } | End::Sent { .. } => Some(Expected::Straight),
        End::Rejected(_) => Some(Expected::Refused),
        End::Dropped => Some(Expected::Dropped),
        End::NoRoute | End::Unknown => None,
    }
}

/// Every port that rules send to, each once.
pub(super) fn proxy_ports(wanted: &Ruleset) -> Vec<ProxyPort> {
    let mut ports = Vec::new();
    for family in Family::ALL {
        let chains = wanted.of(family).flat_map(|t| &t.chains);
        for rule in chains.flat_map(|c| &c.rules) {
            let (port, transparent) = match rule.target {
                Target::Redirect { to_port } => (to_port, false),
                Target::Tproxy { on_port, .. } => (on_port, true),
                _ => continue,
            };
            let port = ProxyPort {
                family,
                protocol: rule.protocol().unwrap_or(Protocol::Tcp),
                port,
                transparent,
            };
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    ports
}
