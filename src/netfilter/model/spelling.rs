//! How iptables-save writes comparisons of fields, where iptables has an extension for them.

use super::field::{ADDRESS_TYPES, Field, PACKET_TYPES, STATUS, TCP_FLAGS};
use super::field_test::{FieldTest, Span};
use super::names::Family;
use super::packet::Side;
use std::fmt;

/// Writes a test with its module and options, or as nft does if iptables has no such match.
pub(super) fn write(f: &mut fmt::Formatter<'_>, test: &FieldTest, not: bool) -> fmt::Result {
    let Some((module, option)) = option(test) else {
        return test.write(f, not);
    };
    if !module.is_empty() {
        write!(f, "-m {module} ")?;
    }
    // Tests of bits are stored negated (none of them is set), as is the test for fragments (offset
    // 0).
    let by_bits = test.mask != u128::MAX && test.fields[0] != Field::TcpFlags
        || test.fields[0] == Field::FragmentOffset;
    f.write_str(if not != by_bits { "! " } else { "" })?;
    f.write_str(&option)?;
    match test.fields.as_slice() {
        [Field::FragmentOffset] => Ok(()),
        [Field::OwnerUid] if is_any(test) => Ok(()),
        [Field::TcpFlags] => {
            let value = test.single().unwrap_or_default();
            write!(
                f,
                " {} {}",
                bits(TCP_FLAGS, test.mask),
                bits(TCP_FLAGS, value)
            )
        }
        [Field::CtStatus] => write!(f, " {}", bits(STATUS, test.mask)),
        [Field::PacketType] => write!(f, " {}", names(test, PACKET_TYPES, str::to_owned)),
        [Field::AddressType(_)] => write!(f, " {}", names(test, ADDRESS_TYPES, str::to_uppercase)),
        [Field::CtDirection] => f.write_str(match test.single() {
            Some(0) => " ORIGINAL",
            _ => " REPLY",
        }),
        _ => {
            f.write_str(" ")?;
            test.write_values(f)
        }
    }
}

/// The module, possibly empty, and the option.
fn option(test: &FieldTest) -> Option<(&'static str, String)> {
    let [field] = test.fields.as_slice() else {
        return None;
    };
    let one = test.values.len() == 1 && test.set.is_none();
    let letter = |side: &Side| side.letter();
    let word = |side: &Side| match side {
        Side::Source => "src",
        Side::Destination => "dst",
    };
    Some(match field {
        Field::FragmentOffset => ("", "-f".to_owned()),
        Field::TcpFlags if one => ("tcp", "--tcp-flags".to_owned()),
        Field::IcmpType(Family::V4) if one => ("icmp", "--icmp-type".to_owned()),
        Field::IcmpType(Family::V6) if one => ("icmp6", "--icmpv6-type".to_owned()),
        Field::CtStatus if one => ("conntrack", "--ctstatus".to_owned()),
        Field::CtDirection if one => ("conntrack", "--ctdir".to_owned()),
        Field::OriginalAddress(_, side) if one => ("conntrack", format!("--ctorig{}", word(side))),
        Field::OriginalPort(side) if one => ("conntrack", format!("--ctorig{}port", word(side))),
        Field::OriginalProtocol if one => ("conntrack", "--ctproto".to_owned()),
        Field::PacketType if one => ("pkttype", "--pkt-type".to_owned()),
        Field::EtherSource if one => ("mac", "--mac-source".to_owned()),
        Field::AddressType(side) if test.set.is_none() => {
            ("addrtype", format!("--{}-type", word(side)))
        }
        Field::Address(_, side) if one && !is_prefix(test) => {
            ("iprange", format!("--{}-range", word(side)))
        }
        Field::Address(_, side) if one => ("", format!("-{}", letter(side))),
        Field::OwnerUid if is_any(test) => ("owner", "--socket-exists".to_owned()),
        Field::OwnerUid if one => ("owner", "--uid-owner".to_owned()),
        Field::OwnerGid if one => ("owner", "--gid-owner".to_owned()),
        Field::Ipsec => ("policy", "--pol ipsec".to_owned()),
        _ => return None,
    })
}

fn is_prefix(test: &FieldTest) -> bool {
    let prefix = |(first, last): &Span| {
        let differing = first ^ last;
        first & differing == 0 && (differing + 1).is_power_of_two()
    };
    test.values.iter().flatten().all(prefix)
}

/// Whether it matches every user.
pub(super) fn is_any(test: &FieldTest) -> bool {
    matches!(&*test.values, [spans] if spans.as_slice() == [(0, u32::MAX.into())])
}

fn bits(names: &[(u128, &str)], value: u128) -> String {
    let set = names.iter().filter(|(bit, _)| value & bit != 0);
    let set: Vec<String> = set
        .map(|(_, name)| name.to_uppercase().replace('-', "_"))
        .collect();
    match set.as_slice() {
        [] => "NONE".to_owned(),
        set => set.join(","),
    }
}

fn names(test: &FieldTest, all: &[(u128, &str)], style: fn(&str) -> String) -> String {
    let wanted = |value: &u128| {
        test.values
            .iter()
            .flatten()
            .any(|(a, z)| a <= value && value <= z)
    };
    let found = all.iter().filter(|(value, _)| wanted(value));
    found
        .map(|(_, name)| style(name))
        .collect::<Vec<_>>()
        .join(",")
}
