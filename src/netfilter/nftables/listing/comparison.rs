//! Fields of a packet as nft names them, and the values that they are compared with.

use super::tokens::Token::{self, Comma, Line, Text, Word};
use crate::netfilter::model::{Family, Field, Protocol, Side, Span, number_of};
use crate::netfilter::nftables::foreign::{low_bits, name_number};
use ipnet::IpNet;
use std::net::IpAddr;

/// The names of fields, without the header of ports.
pub(super) const FIELDS: [(&str, Field); 21] = [
    ("ip saddr", Field::Address(Family::V4, Side::Source)),
    ("ip daddr", Field::Address(Family::V4, Side::Destination)),
    ("ip6 saddr", Field::Address(Family::V6, Side::Source)),
    ("ip6 daddr", Field::Address(Family::V6, Side::Destination)),
    ("ip protocol", Field::Protocol),
    ("ip6 nexthdr", Field::Protocol),
    ("meta l4proto", Field::Protocol),
    ("sport", Field::Port(Side::Source)),
    ("dport", Field::Port(Side::Destination)),
    ("iif", Field::InInterface),
    ("iifname", Field::InInterface),
    ("oif", Field::OutInterface),
    ("oifname", Field::OutInterface),
    ("meta mark", Field::Mark),
    ("meta skuid", Field::Uid),
    ("meta skgid", Field::Gid),
    ("fib saddr type", Field::AddressType(Side::Source)),
    ("fib daddr type", Field::AddressType(Side::Destination)),
    ("ct state", Field::CtState),
    ("ct status", Field::CtStatus),
    ("ct mark", Field::Connmark),
];

/// The protocol with a header of this name.
pub(super) fn header(name: &str) -> Option<Protocol> {
    match name {
        "icmpv6" => Some(Protocol::Icmpv6),
        name => Protocol::named(name).filter(|_| name.parse::<u8>().is_err()),
    }
}

/// The values of some fields, separated by commas.
pub(super) fn values(fields: &[Field], elements: &[Token]) -> Option<Vec<Vec<Span>>> {
    let elements = elements.split(|token| *token == Comma);
    let elements = elements.filter(|element| !element.iter().all(|t| matches!(t, Line(_))));
    elements.map(|element| key(fields, element)).collect()
}

/// One value of some fields: `10.0.0.1 . 80-90`.
fn key(fields: &[Field], value: &[Token]) -> Option<Vec<Span>> {
    let more = [
        Word("timeout"),
        Word("expires"),
        Word("counter"),
        Word("comment"),
    ];
    let tokens = value.iter().filter(|token| !matches!(token, Line(_)));
    let tokens: Vec<&Token> = tokens.take_while(|token| !more.contains(token)).collect();
    let values: Vec<&[&Token]> = tokens.split(|token| **token == Word(".")).collect();
    let spans = fields.iter().zip(&values).map(|pair| match pair {
        (field, [Word(value) | Text(value)]) => span(field, value),
        _ => None,
    });
    let spans = spans.collect::<Option<_>>();
    spans.filter(|_| values.len() == fields.len())
}

/// A value, a prefix or a range.
fn span(field: &Field, text: &str) -> Option<Span> {
    let range = |(first, last)| Some((value(field, first)?, value(field, last)?));
    let span = match field {
        Field::InInterface | Field::OutInterface => interface(text),
        Field::Address(..) if text.contains('/') => {
            let net: IpNet = text.parse().ok()?;
            let (first, last) = (net.network().to_string(), net.broadcast().to_string());
            range((&first, &last))
        }
        _ => range((text, text)).or_else(|| range(text.split_once('-')?)),
    };
    span.filter(|(first, last)| first <= last)
}

fn value(field: &Field, text: &str) -> Option<u128> {
    let value = match field {
        Field::Address(family, _) => {
            let address: IpAddr = text.parse().ok()?;
            (Family::of(address) == *family).then(|| number_of(address))
        }
        Field::Protocol => header(text).map(|protocol| protocol.number().into()),
        field => field.named(text),
    };
    let value = value.or_else(|| number(text));
    value.filter(|value| *value <= low_bits(8 * field.length()))
}

/// A number, decimal or hexadecimal.
pub(super) fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A name, of which a last `*` stands for any rest.
fn interface(name: &str) -> Option<Span> {
    const LENGTH: usize = 16;
    let stem = name.strip_suffix('*');
    let written = stem.unwrap_or(name);
    let first = name_number(written.as_bytes());
    let rest = stem.map_or(0, |stem| low_bits(8 * LENGTH.saturating_sub(stem.len())));
    let is_name = written.len() < LENGTH && !written.contains('\\');
    is_name.then_some((first, first | rest))
}
