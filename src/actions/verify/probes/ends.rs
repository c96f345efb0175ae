//! The ends of what a rule names: of ranges of ports, of prefixes, of the values of a lookup.

use super::SAMPLE;
use crate::netfilter::model::{
    Entry, Field, FieldTest, Match, Owner, PortRange, Protocol, Side, Span, Test, address_of,
};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;

/// The conditions of a rule, once for each end of what it names.
pub(super) fn variants(entry: &Entry) -> Vec<Vec<Match>> {
    let mut variants: Vec<Vec<Match>> = vec![Vec::new()];
    for m in entry.matches() {
        let mut exact = of_match(m);
        // Long lists stand in one rule, or in one dimension of it: no product of them.
        if variants.len() > 1 {
            exact.truncate(1);
        }
        let with_each = |v: &Vec<Match>| {
            let with = |m: &Match| [v.as_slice(), slice::from_ref(m)].concat();
            exact.iter().map(with).collect::<Vec<_>>()
        };
        variants = variants.iter().flat_map(with_each).collect();
    }
    let looked_up = of_lookup(entry);
    let more = looked_up.iter().filter(|conditions| !conditions.is_empty());
    let more: Vec<Vec<Match>> = more.map(|c| [variants[0].as_slice(), c].concat()).collect();
    variants.extend(more);
    variants
}

/// A match once for each end of what it names.
fn of_match(m: &Match) -> Vec<Match> {
    match &m.test {
        _ if m.not => vec![m.clone()],
        Test::Port { side, ports } => port_ends(*side, &[*ports]),
        Test::Multiport { side, ports } => port_ends(*side, ports.as_slice()),
        Test::Destination(net) => ends(net).into_iter().map(Match::destination).collect(),
        Test::DestinationSet(set) => {
            let hosts = set.as_slice().iter().flat_map(ends);
            hosts.map(Match::destination).collect()
        }
        _ => vec![m.clone()],
    }
}

fn port_ends(side: Side, ranges: &[PortRange]) -> Vec<Match> {
    let ends: BTreeSet<u16> = ranges.iter().flat_map(|r| [r.first(), r.last()]).collect();
    let test = |port: u16| Test::Port {
        side,
        ports: port.into(),
    };
    ends.into_iter()
        .map(|port| Match::new(test(port)))
        .collect()
}

/// What the map of a rule or its first lookup names, as conditions on one field each: both ends of
/// its first values.
fn of_lookup(entry: &Entry) -> Vec<Vec<Match>> {
    let mut positive = entry.matches().iter().filter(|m| !m.not);
    let lookup = match entry {
        Entry::Map { map, .. } => Some(&map.keys),
        _ => positive.find_map(|m| match &m.test {
            Test::Fields(test) => Some(&**test),
            _ => None,
        }),
    };
    let ends = |test: &FieldTest, spans: &[Span]| {
        let pick = |end: fn(&Span) -> u128| {
            let fields = test.fields.iter().zip(spans);
            fields
                .filter_map(|(field, span)| field_condition(field, end(span)))
                .collect()
        };
        [pick(|span| span.0), pick(|span| span.1)]
    };
    let of_values = |test: &FieldTest| {
        let values = test.values.iter().take(SAMPLE * SAMPLE);
        values.flat_map(|spans| ends(test, spans)).collect()
    };
    lookup.map(of_values).unwrap_or_default()
}

/// That a field has the value, as a condition; nothing of fields that the conditions do not know.
fn field_condition(field: &Field, value: u128) -> Option<Match> {
    let test = match field {
        Field::Port(side) => Test::Port {
            side: *side,
            ports: u16::try_from(value).ok()?.into(),
        },
        Field::Address(family, Side::Source) => Test::Source(address_of(*family, value).into()),
        Field::Address(family, Side::Destination) => {
            Test::Destination(address_of(*family, value).into())
        }
        Field::Protocol => Test::Protocol(Protocol::of(u8::try_from(value).ok()?)),
        Field::Uid | Field::OwnerUid => Test::Owner(Owner::Uid(u32::try_from(value).ok()?)),
        Field::Gid | Field::OwnerGid => Test::Owner(Owner::Gid(u32::try_from(value).ok()?)),
        _ => return None,
    };
    Some(Match::new(test))
}

/// The first and the last host of a prefix, once if they are one.
pub(super) fn ends(net: &IpNet) -> Vec<IpAddr> {
    let (first, last) = match (net.network(), net.broadcast(), net.prefix_len()) {
        (IpAddr::V4(first), IpAddr::V4(last), ..=30) => (
            Ipv4Addr::from(u32::from(first) + 1).into(),
            Ipv4Addr::from(u32::from(last) - 1).into(),
        ),
        (IpAddr::V6(first), last, ..=126) => (Ipv6Addr::from(u128::from(first) + 1).into(), last),
        (first, last, _) => (first, last),
    };
    match first == last {
        true => vec![first],
        false => vec![first, last],
    }
}
