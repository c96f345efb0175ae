//! Option values of iptables-save.

use crate::netfilter::model::{
    ConnState, Match, Owner, PortRange, PortSet, Protocol, RejectWith, Side, Test,
};
use ipnet::IpNet;

/// One option of a match with its value.
pub(super) fn test(module: &str, option: &str, value: &str) -> Option<Test> {
    Some(match (module, option) {
        ("", "-s") => Match::source(value.parse::<IpNet>().ok()?).test,
        ("", "-d") => Match::destination(value.parse::<IpNet>().ok()?).test,
        ("", "-i") => Test::InInterface(value.parse().ok()?),
        ("", "-o") => Test::OutInterface(value.parse().ok()?),
        ("", "-p") => Test::Protocol(protocol(value)?),
        ("tcp" | "udp", "--sport") => port(Side::Source, value)?,
        ("tcp" | "udp", "--dport") => port(Side::Destination, value)?,
        ("multiport", "--sports") => multiport(Side::Source, value)?,
        ("multiport", "--dports") => multiport(Side::Destination, value)?,
        ("owner", "--uid-owner") => Test::Owner(Owner::Uid(value.parse().ok()?)),
        ("owner", "--gid-owner") => Test::Owner(Owner::Gid(value.parse().ok()?)),
        ("conntrack", "--ctstate") | ("state", "--state") => states(value)?,
        ("mark", "--mark") => {
            let (value, mask) = marked(value)?;
            Test::Mark { value, mask }
        }
        ("connmark", "--mark") => {
            let (value, mask) = marked(value)?;
            Test::Connmark { value, mask }
        }
        _ => return None,
    })
}

pub(super) fn protocol(name: &str) -> Option<Protocol> {
    Protocol::named(name)
}

pub(super) fn port(side: Side, text: &str) -> Option<Test> {
    let ports = port_range(text)?;
    Some(Test::Port { side, ports })
}

pub(super) fn multiport(side: Side, text: &str) -> Option<Test> {
    let ports: Option<Vec<PortRange>> = text.split(',').map(port_range).collect();
    let ports = PortSet::new(ports?)?;
    Some(Test::Multiport { side, ports })
}

pub(super) fn port_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}

pub(super) fn states(text: &str) -> Option<Test> {
    let all = ConnState::ALL.into_iter().chain(ConnState::TRANSLATED);
    let state = |name| all.clone().find(|s| s.as_str() == name);
    let states: Option<Vec<ConnState>> = text.split(',').map(state).collect();
    Some(Match::state(states?).test)
}

pub(super) fn reject_with(name: &str) -> Option<RejectWith> {
    RejectWith::all().find(|w| w.as_str() == name)
}

/// `0x539` or `0x539/0xff`.
pub(super) fn marked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((hex(value)?, hex(mask)?)),
        None => Some((hex(text)?, u32::MAX)),
    }
}

pub(super) fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
