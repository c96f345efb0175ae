//! Decodes xt matches and targets that only foreign rules have (layouts from
//! linux/netfilter/xt_*.h).

use super::info::Fields;
use super::{matches, target};
use crate::netfilter::model::{
    AddressSet, Family, Field, FieldTest, Match, NatTo, PortRange, Side, Span, Target, Test,
    number_of,
};
use crate::netfilter::nftables::expr::Extension;

/// Decodes a match, which may be several tests; one undecoded match if it is unknown.
pub(in crate::netfilter::nftables) fn read_match(e: &Extension, family: Family) -> Vec<Match> {
    let known = matches::read(e).map(|m| vec![m]);
    let read = || by_name(&e.name, e.revision, Fields(&e.info), family);
    known
        .or_else(read)
        .unwrap_or_else(|| vec![Match::new(Test::Undecoded(text(&e.name, Fields(&e.info))))])
}

/// Whether it is a match on ports or flags without a condition, as `-m tcp` alone.
pub(super) fn asks_nothing(e: &Extension) -> bool {
    let of_protocol = ["tcp", "udp"].contains(&&*e.name);
    let read = || by_name(&e.name, e.revision, Fields(&e.info), Family::V4);
    of_protocol && read().is_some_and(|matches| matches.is_empty())
}

fn fields(test: FieldTest, not: bool) -> Match {
    Match {
        not,
        test: Test::Fields(test.into()),
    }
}

fn by_name(name: &str, revision: u32, info: Fields, family: Family) -> Option<Vec<Match>> {
    Some(match (name, revision) {
        ("tcp", _) => {
            let flags = info.u8(9)?;
            let inverted = info.u8(11)?;
            // TCP options of a simulated packet are unknown.
            if info.u8(8)? != 0 {
                return None;
            }
            let mut found = ports(info, inverted)?;
            if flags != 0 {
                let test = FieldTest {
                    mask: flags.into(),
                    ..one(Field::TcpFlags, info.u8(10)?.into())
                };
                found.push(fields(test, inverted & 4 != 0));
            }
            found
        }
        ("udp", _) => ports(info, info.u8(8)?)?,
        ("icmp" | "icmp6", 0) => icmp(info, family)?,
        ("addrtype", 1) => address_types(info)?,
        ("conntrack", 3) => conntrack(info, family)?,
        ("iprange", 1) => {
            let flags = info.u8(64)?;
            let range = |at: usize, side: Side, bit: u8| {
                let span = (address(info, at, family)?, address(info, at + 16, family)?);
                let test = FieldTest::new(Field::Address(family, side), [span]);
                Some((flags & bit != 0).then(|| fields(test, flags & bit << 4 != 0)))
            };
            let both = [range(0, Side::Source, 1)?, range(32, Side::Destination, 2)?];
            both.into_iter().flatten().collect()
        }
        ("owner", 1) => owner(info)?,
        ("mark", 1) => vec![Match {
            not: info.u8(8)? != 0,
            test: Test::Mark {
                value: info.u32(0)?,
                mask: info.u32(4)?,
            },
        }],
        ("pkttype", 0) => vec![fields(
            one(Field::PacketType, info.u32(0)?.into()),
            info.u32(4)? != 0,
        )],
        ("mac", 0) => {
            let bytes = (0..6).map(|at| info.u8(at)).collect::<Option<Vec<u8>>>()?;
            let address = bytes.iter().fold(0, |n, b| (n << 8) | u128::from(*b));
            vec![fields(one(Field::EtherSource, address), info.u32(8)? != 0)]
        }
        ("socket", 1..) => {
            let flags = info.u8(0)?;
            let test = Test::Socket {
                transparent: flags & 1 != 0,
            };
            (flags <= 1).then(|| vec![Match::new(test)])?
        }
        ("policy", 0) => {
            const NONE: u16 = 4;
            let flags = info.u16(304)?;
            vec![fields(
                one(Field::Ipsec, u128::from(flags & NONE == 0)),
                false,
            )]
        }
        ("rpfilter", 0) => vec![fields(one(Field::ReversePath, 1), info.u8(0)? & 8 != 0)],
        // Without a bridge port each part matches if it is negated.
        ("physdev", 0) => {
            let (inverted, asked) = (info.u8(64)?, info.u8(65)?);
            vec![fields(one(Field::Bridged, 1), asked & !inverted == 0)]
        }
        _ => return None,
    })
}

fn one(field: Field, value: u128) -> FieldTest {
    FieldTest::new(field, [(value, value)])
}

/// The port ranges at the start of `tcp` and `udp`.
fn ports(info: Fields, inverted: u8) -> Option<Vec<Match>> {
    let range = |at: usize, side: Side, bit: u8| {
        let ports = PortRange::new(info.u16(at)?, info.u16(at + 2)?)?;
        let all = ports.first() == 0 && ports.last() == u16::MAX;
        let m = Match {
            not: inverted & bit != 0,
            test: Test::Port { side, ports },
        };
        Some((!all || m.not).then_some(m))
    };
    let both = [range(0, Side::Source, 1)?, range(4, Side::Destination, 2)?];
    Some(both.into_iter().flatten().collect())
}

/// `struct ipt_icmp`, `struct ip6t_icmp`.
fn icmp(info: Fields, family: Family) -> Option<Vec<Match>> {
    const ANY: u8 = 0xff;
    let (number, inverted) = (info.u8(0)?, info.u8(3)? != 0);
    let has_any_code = (info.u8(1)?, info.u8(2)?) == (0, u8::MAX);
    let of_type = fields(one(Field::IcmpType(family), number.into()), inverted);
    match (number, has_any_code) {
        (ANY, true) if !inverted => Some(Vec::new()),
        (ANY, _) => None,
        (_, true) => Some(vec![of_type]),
        _ => None,
    }
}

fn address(info: Fields, at: usize, family: Family) -> Option<u128> {
    info.address(at, family).map(number_of)
}

fn address_types(info: Fields) -> Option<Vec<Match>> {
    const OF_INTERFACE: u32 = 4 | 8;
    let flags = info.u32(4)?;
    let of = |at: usize, side: Side, bit: u32| {
        let types = info.u16(at)?;
        let spans = (0..16u128)
            .filter(|t| types & (1 << t) != 0)
            .map(|t| (t, t));
        let test = FieldTest::new(Field::AddressType(side), spans);
        Some((types != 0).then(|| fields(test, flags & bit != 0)))
    };
    let both = [of(0, Side::Source, 1)?, of(2, Side::Destination, 2)?];
    (flags & OF_INTERFACE == 0).then(|| both.into_iter().flatten().collect())
}

/// `struct xt_conntrack_mtinfo3`.
fn conntrack(info: Fields, family: Family) -> Option<Vec<Match>> {
    const REPLY_OR_EXPIRY: u16 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 10 | 1 << 11;
    let (asked, inverted) = (info.u16(146)?, info.u16(148)?);
    if asked & REPLY_OR_EXPIRY != 0 {
        return None;
    }
    let mut found = Vec::new();
    let mut add = |bit: u16, test: FieldTest, not: bool| {
        if asked & bit != 0 {
            found.push(fields(test, (inverted & bit != 0) != not));
        }
    };
    add(
        1 << 1,
        one(Field::OriginalProtocol, info.u16(136)?.into()),
        false,
    );
    for (bit, at, side) in [(1 << 2, 0, Side::Source), (1 << 3, 32, Side::Destination)] {
        let (value, mask) = (address(info, at, family)?, address(info, at + 16, family)?);
        let all = u128::MAX >> (128 - u32::from(family.bits()));
        let span = (value & mask, value & mask | !mask & all);
        add(
            bit,
            FieldTest::new(Field::OriginalAddress(family, side), [span]),
            false,
        );
    }
    add(
        1 << 6,
        FieldTest::no_bit_of(Field::CtStatus, info.u16(152)?.into()),
        true,
    );
    for (bit, at, high, side) in [
        (1 << 8, 138, 154, Side::Source),
        (1 << 9, 140, 156, Side::Destination),
    ] {
        let span: Span = (info.u16(at)?.into(), info.u16(high)?.into());
        add(
            bit,
            FieldTest::new(Field::OriginalPort(side), [span]),
            false,
        );
    }
    add(1 << 12, one(Field::CtDirection, 0), false);
    if asked & 1 != 0 {
        found.push(Match {
            not: inverted & 1 != 0,
            ..matches::states(info.u16(150)?)
        });
    }
    Some(found)
}

fn owner(info: Fields) -> Option<Vec<Match>> {
    const UID: u8 = 1;
    const GID: u8 = 2;
    const SOCKET: u8 = 4;
    const SUPPLEMENTARY: u8 = 8;
    let (asked, inverted) = (info.u8(16)?, info.u8(17)?);
    let span = |at: usize| Some((info.u32(at)?.into(), info.u32(at + 4)?.into()));
    let tests = [
        (UID, FieldTest::new(Field::OwnerUid, [span(0)?])),
        (GID, FieldTest::new(Field::OwnerGid, [span(8)?])),
        (
            SOCKET,
            FieldTest::new(Field::OwnerUid, [(0, u32::MAX.into())]),
        ),
    ];
    let asked_for = tests.into_iter().filter(|(bit, _)| asked & bit != 0);
    let found = asked_for.map(|(bit, test)| fields(test, inverted & bit != 0));
    (asked & SUPPLEMENTARY == 0).then(|| found.collect())
}

/// As iptables-save prints it, if known.
fn text(name: &str, info: Fields) -> String {
    let known = match name {
        "limit" => limit(info),
        "statistic" => statistic(info),
        _ => None,
    };
    format!("-m {name} {}", known.unwrap_or_else(|| "…".to_owned()))
}

fn limit(info: Fields) -> Option<String> {
    const SCALE: u32 = 10000;
    const UNITS: [(u32, &str); 4] = [(1, "sec"), (60, "min"), (3600, "hour"), (86400, "day")];
    let (average, burst) = (info.u32(0)?, info.u32(4)?);
    let fits = |(seconds, _): &&(u32, &str)| seconds * SCALE >= average;
    let (seconds, unit) = UNITS.iter().find(fits)?;
    let rate = (seconds * SCALE).checked_div(average)?;
    let burst = if burst == 5 {
        String::new()
    } else {
        format!(" --limit-burst {burst}")
    };
    Some(format!("--limit {rate}/{unit}{burst}"))
}

fn statistic(info: Fields) -> Option<String> {
    let not = if info.u16(2)? & 1 != 0 { "! " } else { "" };
    Some(match info.u16(0)? {
        0 => {
            let probability = f64::from(info.u32(4)?) / f64::from(1u32 << 31);
            format!("--mode random {not}--probability {probability:.11}")
        }
        _ => format!(
            "--mode nth {not}--every {} --packet {}",
            info.u32(4)? + 1,
            info.u32(8)?
        ),
    })
}

/// Decodes a target; `None` if it does nothing that rules test. An error is how iptables-save would
/// begin to print it.
pub(in crate::netfilter::nftables) fn read_target(
    e: &Extension,
    family: Family,
) -> Result<Option<Target>, String> {
    if Target::IDLE.contains(&e.name.as_ref()) {
        return Ok(None);
    }
    let known = target::read(e, family).map(Some);
    let read = || target_by_name(&e.name, e.revision, Fields(&e.info), family);
    known.or_else(read).ok_or_else(|| format!("{} …", e.name))
}

/// DNAT or SNAT, if it has no further options.
pub(super) fn read_translation(e: &Extension, family: Family) -> Option<Target> {
    let info = Fields(&e.info);
    let is_plain = info.u32(flags_at(family, e.revision == 0))? & !(MAP_IPS | PROTO_SPECIFIED) == 0;
    let is_it = is_plain && ["DNAT", "SNAT"].contains(&&*e.name);
    is_it.then(|| target_by_name(&e.name, e.revision, info, family))??
}

fn target_by_name(
    name: &str,
    revision: u32,
    info: Fields,
    family: Family,
) -> Option<Option<Target>> {
    Some(Some(match (name, revision) {
        ("DNAT", _) => Target::Dnat(range(info, family, revision == 0)?),
        ("SNAT", _) => Target::Snat(range(info, family, revision == 0)?),
        ("MASQUERADE", _) => Target::Masquerade,
        ("REDIRECT", _) => Target::RedirectAmong(range(info, family, true)?.ports),
        ("NETMAP", _) => {
            let ends = range(info, family, true)?.addresses?;
            let net = AddressSet::from_ranges([ends])?;
            match net.as_slice() {
                [net] => Target::Netmap(*net),
                _ => return None,
            }
        }
        ("NOTRACK", _) => Target::NoTrack,
        ("CT", 1 | 2) => match (info.u16(0)? & 1 != 0, info.u16(2)?) {
            (true, _) => Target::NoTrack,
            (false, 0) => return Some(None),
            (false, zone) => Target::CtZone(zone),
        },
        ("CONNMARK", 1 | 2) => {
            let (value, mask) = (info.u32(0)?, info.u32(4)?);
            let (shift, mode) = match revision {
                1 => (0, info.u8(12)?),
                _ => (info.u8(13)?, info.u8(14)?),
            };
            (shift == 0 && mode == 0).then_some(Target::SetConnmark { value, mask })?
        }
        _ => return None,
    }))
}

/// `NF_NAT_RANGE_*` (linux/netfilter/nf_nat.h).
const MAP_IPS: u32 = 1;
const PROTO_SPECIFIED: u32 = 2;

/// The offset of the flags of a range.
fn flags_at(family: Family, is_old: bool) -> usize {
    match (family, is_old) {
        (Family::V4, true) => 4,
        _ => 0,
    }
}

/// `struct nf_nat_ipv4_multi_range_compat`, in older revisions for IPv4, or `struct nf_nat_range`.
fn range(info: Fields, family: Family, is_old: bool) -> Option<NatTo> {
    let (first, last, port) = match (family, is_old) {
        (Family::V4, true) => (8, 12, 16),
        _ => (4, 20, 36),
    };
    let flags = info.u32(flags_at(family, is_old))?;
    let addresses = (info.address(first, family)?, info.address(last, family)?);
    let ports = PortRange::new(info.port(port)?, info.port(port + 2)?)?;
    Some(NatTo {
        addresses: (flags & MAP_IPS != 0).then_some(addresses),
        ports: (flags & PROTO_SPECIFIED != 0).then_some(ports),
    })
}
