//! Matches on headers and metadata: addresses, interfaces, protocol, ports, mark.
//!
//! iptables-nft and nft use the same expressions with small differences ([`Style`]).

use super::expr::{Expr, meta, payload};
use crate::netfilter::model::{Family, Interface, Match, PortRange, Protocol, Side, Test};
use ipnet::IpNet;
use nix::libc;
use std::net::IpAddr;

/// The length of the kernel's interface names, with their NUL (linux/if.h).
const IFNAMSIZ: usize = libc::IFNAMSIZ;

/// The tool whose encoding is written. Both are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Interface names end with one NUL; a port range is one expression.
    Iptables,
    /// Interface names fill 16 bytes; a port range is two comparisons.
    Nft,
}

/// Appends the expressions of a match; returns `false` for other kinds of match.
pub(super) fn write(m: &Match, style: Style, exprs: &mut Vec<Expr>) -> bool {
    let not = m.not;
    match &m.test {
        Test::Source(net) => write_address(*net, Side::Source, not, exprs),
        Test::Destination(net) => write_address(*net, Side::Destination, not, exprs),
        Test::InInterface(name) => write_interface(meta::NFT_META_IIFNAME, name, style, not, exprs),
        Test::OutInterface(name) => {
            write_interface(meta::NFT_META_OIFNAME, name, style, not, exprs)
        }
        Test::Protocol(protocol) => exprs.extend([
            Expr::Meta(meta::NFT_META_L4PROTO),
            Expr::Cmp {
                not,
                value: vec![protocol.number()],
            },
        ]),
        Test::Port { side, ports } => {
            exprs.push(port(*side));
            compare_ports(*ports, style, not, exprs);
        }
        Test::Mark { value, mask } => {
            exprs.push(Expr::Meta(meta::NFT_META_MARK));
            compare_mark(*value, *mask, not, exprs);
        }
        _ => return false,
    }
    true
}

/// Decodes one match from the start and returns how many expressions it took.
pub(super) fn read(exprs: &[Expr], family: Family) -> Option<(Match, usize)> {
    match exprs {
        [Expr::Meta(meta::NFT_META_MARK), rest @ ..] => {
            let (value, mask, not, used) = read_mark(rest)?;
            let test = Test::Mark { value, mask };
            Some((Match { not, test }, 1 + used))
        }
        [Expr::Meta(key), Expr::Cmp { not, value }, ..] => {
            let test = read_meta(*key, value)?;
            Some((Match { not: *not, test }, 2))
        }
        [Expr::Payload { base, offset, len }, rest @ ..] => match *base {
            payload::NFT_PAYLOAD_NETWORK_HEADER => read_address(*offset, *len, rest, family),
            payload::NFT_PAYLOAD_TRANSPORT_HEADER => read_port(*offset, *len, rest),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn address(family: Family, side: Side, len: u32) -> Expr {
    let (source, destination) = address_offsets(family);
    Expr::Payload {
        base: payload::NFT_PAYLOAD_NETWORK_HEADER,
        offset: match side {
            Side::Source => source,
            Side::Destination => destination,
        },
        len,
    }
}

/// The offsets of source and destination in the header (RFC 791, RFC 8200).
fn address_offsets(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// Whole bytes are compared directly, other prefixes with a mask.
fn write_address(net: IpNet, side: Side, not: bool, exprs: &mut Vec<Expr>) {
    let family = Family::of(net.addr());
    let mut value = octets(net.network());
    if net.prefix_len() > 0 && net.prefix_len().is_multiple_of(8) {
        value.truncate(usize::from(net.prefix_len() / 8));
        exprs.push(address(family, side, value.len() as u32));
    } else {
        exprs.push(address(family, side, value.len() as u32));
        exprs.push(Expr::Bitwise {
            mask: octets(net.netmask()),
            xor: vec![0; value.len()],
        });
    }
    exprs.push(Expr::Cmp { not, value });
}

fn read_address(offset: u32, len: u32, rest: &[Expr], family: Family) -> Option<(Match, usize)> {
    let (source, destination) = address_offsets(family);
    let bits = u32::from(family.bits());
    let (not, value, prefix, used) = match rest {
        [Expr::Cmp { not, value }, ..] if (1..=bits / 8).contains(&len) => {
            (*not, value, len * 8, 2)
        }
        [Expr::Bitwise { mask, xor }, Expr::Cmp { not, value }, ..] if len == bits / 8 => {
            let plain = xor.len() == mask.len() && xor.iter().all(|b| *b == 0);
            (*not, value, prefix_of(mask).filter(|_| plain)?, 3)
        }
        _ => return None,
    };
    if value.len() != len as usize {
        return None;
    }
    let net = prefix_net(family, value, u8::try_from(prefix).ok()?)?;
    let test = match offset {
        o if o == source => Test::Source(net),
        o if o == destination => Test::Destination(net),
        _ => return None,
    };
    Some((Match { not, test }, used))
}

/// The prefix length of a mask, if it is one.
fn prefix_of(mask: &[u8]) -> Option<u32> {
    let ones = mask.iter().map(|b| b.count_ones()).sum();
    let leading = mask
        .iter()
        .enumerate()
        .find(|(_, b)| **b != 0xff)
        .map_or(8 * mask.len() as u32, |(i, b)| {
            8 * i as u32 + b.leading_ones()
        });
    (ones == leading).then_some(ones)
}

/// A prefix from its first bytes; `None` if host bits are set.
fn prefix_net(family: Family, head: &[u8], prefix: u8) -> Option<IpNet> {
    let net = address_of(family, head).and_then(|a| IpNet::new(a, prefix).ok())?;
    (net.network() == net.addr()).then_some(net)
}

/// An address from its first bytes, padded with zeros.
pub(super) fn address_of(family: Family, head: &[u8]) -> Option<IpAddr> {
    fn filled<const N: usize>(head: &[u8]) -> Option<[u8; N]> {
        let mut octets = [0; N];
        octets.get_mut(..head.len())?.copy_from_slice(head);
        Some(octets)
    }
    Some(match family {
        Family::V4 => IpAddr::from(filled::<4>(head)?),
        Family::V6 => IpAddr::from(filled::<16>(head)?),
    })
}

fn write_interface(key: u32, name: &Interface, style: Style, not: bool, exprs: &mut Vec<Expr>) {
    let value = match name.prefix() {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut value = name.as_str().as_bytes().to_vec();
            let length = match style {
                Style::Iptables => value.len() + 1,
                Style::Nft => IFNAMSIZ,
            };
            value.resize(length, 0);
            value
        }
    };
    exprs.push(Expr::Meta(key));
    exprs.push(Expr::Cmp { not, value });
}

fn read_meta(key: u32, value: &[u8]) -> Option<Test> {
    match key {
        meta::NFT_META_IIFNAME => read_interface(value).map(Test::InInterface),
        meta::NFT_META_OIFNAME => read_interface(value).map(Test::OutInterface),
        meta::NFT_META_L4PROTO => match value {
            [number] => Some(Test::Protocol(Protocol::of(*number))),
            _ => None,
        },
        _ => None,
    }
}

/// A name without NUL is a prefix.
fn read_interface(value: &[u8]) -> Option<Interface> {
    let end = value.iter().position(|b| *b == 0);
    let (name, padding) = value.split_at(end.unwrap_or(value.len()));
    if padding.iter().any(|b| *b != 0) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    match end {
        Some(_) if name.ends_with('+') => None,
        Some(_) => name.parse().ok(),
        None => format!("{name}+").parse().ok(),
    }
}

/// Loads a port, at the same offset for TCP and UDP (RFC 9293, RFC 768).
pub(super) fn port(side: Side) -> Expr {
    Expr::Payload {
        base: payload::NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: match side {
            Side::Source => 0,
            Side::Destination => 2,
        },
        len: 2,
    }
}

fn compare_ports(ports: PortRange, style: Style, not: bool, exprs: &mut Vec<Expr>) {
    let from = ports.first().to_be_bytes().to_vec();
    let to = ports.last().to_be_bytes().to_vec();
    if from == to {
        exprs.push(Expr::Cmp { not, value: from });
    } else if style == Style::Nft && !not {
        exprs.extend([Expr::AtLeast(from), Expr::AtMost(to)]);
    } else {
        exprs.push(Expr::Range { not, from, to });
    }
}

fn read_port(offset: u32, len: u32, rest: &[Expr]) -> Option<(Match, usize)> {
    let side = port_side(offset, len)?;
    let number = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let range = |from: &[u8], to: &[u8]| PortRange::new(number(from)?, number(to)?);
    let (not, ports, used) = match rest {
        [Expr::Cmp { not, value }, ..] => (*not, range(value, value)?, 2),
        [Expr::Range { not, from, to }, ..] if from != to => (*not, range(from, to)?, 2),
        [Expr::AtLeast(from), Expr::AtMost(to), ..] if from != to => (false, range(from, to)?, 3),
        _ => return None,
    };
    let test = Test::Port { side, ports };
    Some((Match { not, test }, used))
}

/// The port that a load of the transport header reads.
pub(super) fn port_side(offset: u32, len: u32) -> Option<Side> {
    match (offset, len) {
        (0, 2) => Some(Side::Source),
        (2, 2) => Some(Side::Destination),
        _ => None,
    }
}

pub(super) fn compare_mark(value: u32, mask: u32, not: bool, exprs: &mut Vec<Expr>) {
    if mask != u32::MAX {
        exprs.push(Expr::Bitwise {
            mask: mask.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        });
    }
    exprs.push(Expr::Cmp {
        not,
        value: value.to_ne_bytes().to_vec(),
    });
}

/// Value, mask, negation and number of expressions of a mark comparison.
pub(super) fn read_mark(exprs: &[Expr]) -> Option<(u32, u32, bool, usize)> {
    match exprs {
        [Expr::Cmp { not, value }, ..] => Some((word(value)?, u32::MAX, *not, 1)),
        [Expr::Bitwise { mask, xor }, Expr::Cmp { not, value }, ..] => {
            let mask = word(mask).filter(|_| word(xor) == Some(0))?;
            // A full mask is omitted.
            (mask != u32::MAX).then_some((word(value)?, mask, *not, 2))
        }
        _ => None,
    }
}

/// A number in host byte order.
pub(super) fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_with_holes_is_no_prefix() {
        assert_eq!(prefix_of(&[255, 128, 0, 0]), Some(9));
        assert_eq!(prefix_of(&[0; 4]), Some(0));
        assert_eq!(prefix_of(&[255; 16]), Some(128));
        assert_eq!(prefix_of(&[255, 0, 255, 0]), None);
    }
}
