//! Parses matches and targets that only foreign rules have. Each match is a module with its
//! options; an unknown module is one undecoded match.

use super::options::{self, marked, port_range, states};
use crate::netfilter::model::{
    Family, Field, FieldTest, Match, NatTo, PortRange, Protocol, Side, Span, Target, Test,
    number_of,
};
use ipnet::IpNet;
use std::net::IpAddr;

/// The tests of a module with its options; `None` if it is unknown.
pub(super) fn module(name: &str, options: &[String], family: Family) -> Option<Vec<Match>> {
    // Modules that test something without an option.
    let mut found = match name {
        "socket" => vec![Match::socket()],
        _ => Vec::new(),
    };
    let mut inverted = false;
    let mut words = options.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (not, option) = match word {
            "!" => (true, words.next()?),
            option => (false, option),
        };
        match (name, option) {
            ("", "-f") => found.push(one(Field::FragmentOffset, 0, !not)),
            ("tcp", "--syn") => found.push(flags(not, "FIN,SYN,RST,ACK", "SYN")?),
            ("tcp", "--tcp-flags") => found.push(flags(not, words.next()?, words.next()?)?),
            ("owner", "--socket-exists") => found.push(any_owner(not)),
            ("rpfilter", "--invert") => inverted = true,
            ("rpfilter", _) => {}
            ("policy", "--dir") => drop(words.next()?),
            ("socket", "--transparent") => {
                found = vec![Match::new(Test::Socket { transparent: true })]
            }
            // Without a bridge port each part matches if it is negated.
            ("physdev", option) => {
                if !option.contains("-is-") {
                    words.next()?;
                }
                found.push(one(Field::Bridged, 1, not));
            }
            (_, option) => found.push(value(name, option, words.next()?, not, family)?),
        }
    }
    if name == "rpfilter" {
        found.push(one(Field::ReversePath, 1, inverted));
    }
    Some(found)
}

fn any_owner(not: bool) -> Match {
    fields(FieldTest::new(Field::OwnerUid, [(0, u32::MAX.into())]), not)
}

fn fields(test: FieldTest, not: bool) -> Match {
    Match {
        not,
        test: Test::Fields(test.into()),
    }
}

fn one(field: Field, value: u128, not: bool) -> Match {
    fields(FieldTest::new(field, [(value, value)]), not)
}

fn flags(not: bool, mask: &str, set: &str) -> Option<Match> {
    let bits = |text: &str| match text {
        "NONE" => Some(0),
        "ALL" => Some(0x3f),
        text => Field::TcpFlags.bits(&text.to_lowercase()),
    };
    let set = bits(set)?;
    let test = FieldTest {
        mask: bits(mask)?,
        ..FieldTest::new(Field::TcpFlags, [(set, set)])
    };
    Some(fields(test, not))
}

/// Parses an option with one value.
fn value(module: &str, option: &str, text: &str, not: bool, family: Family) -> Option<Match> {
    let side = match option.contains("src") {
        true => Side::Source,
        false => Side::Destination,
    };
    let test = match (module, option) {
        ("addrtype", "--src-type" | "--dst-type") => {
            let names = text.split(',').map(str::to_lowercase);
            let field = Field::AddressType(side);
            let value = |name: String| field.named(&name).map(|value| (value, value));
            let spans = names.map(value).collect::<Option<Vec<Span>>>()?;
            FieldTest::new(field, spans)
        }
        ("conntrack", "--ctstatus") => {
            let bits = Field::CtStatus.bits(&text.to_lowercase().replace('_', "-"))?;
            return Some(fields(FieldTest::no_bit_of(Field::CtStatus, bits), !not));
        }
        ("conntrack", "--ctdir") => {
            let reply = u128::from(text == "REPLY");
            FieldTest::new(Field::CtDirection, [(reply, reply)])
        }
        ("conntrack", "--ctproto") => {
            let number = Protocol::named(text)?.number().into();
            FieldTest::new(Field::OriginalProtocol, [(number, number)])
        }
        ("conntrack", "--ctorigsrc" | "--ctorigdst") => {
            let net = match text.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address),
                Err(_) => text.parse().ok()?,
            };
            let span = (number_of(net.network()), number_of(net.broadcast()));
            FieldTest::new(Field::OriginalAddress(family, side), [span])
        }
        ("conntrack", "--ctorigsrcport" | "--ctorigdstport") => {
            FieldTest::new(Field::OriginalPort(side), [span_of(port_range(text)?)])
        }
        ("iprange", "--src-range" | "--dst-range") => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| text.parse().ok().map(number_of);
            FieldTest::new(
                Field::Address(family, side),
                [(number(first)?, number(last)?)],
            )
        }
        ("owner", "--uid-owner" | "--gid-owner") if text.contains('-') => {
            let (first, last) = text.split_once('-')?;
            let field = match option {
                "--uid-owner" => Field::OwnerUid,
                _ => Field::OwnerGid,
            };
            FieldTest::new(field, [(first.parse().ok()?, last.parse().ok()?)])
        }
        ("pkttype", "--pkt-type") => {
            let value = Field::PacketType.named(text)?;
            FieldTest::new(Field::PacketType, [(value, value)])
        }
        ("mac", "--mac-source") => {
            let digits = u128::from_str_radix(&text.replace(':', ""), 16).ok()?;
            FieldTest::new(Field::EtherSource, [(digits, digits)])
        }
        ("icmp", "--icmp-type") | ("icmp6", "--icmpv6-type") => {
            let span = match text {
                "any" => (0, u8::MAX.into()),
                number => {
                    let number = number.parse::<u8>().ok()?.into();
                    (number, number)
                }
            };
            FieldTest::new(Field::IcmpType(family), [span])
        }
        ("policy", "--pol") => {
            let ipsec = u128::from(text == "ipsec");
            FieldTest::new(Field::Ipsec, [(ipsec, ipsec)])
        }
        ("conntrack", "--ctstate") | ("state", "--state") => {
            let m = Match::new(states(text)?);
            return Some(if not { !m } else { m });
        }
        _ => {
            let test = options::test(module, option, text)?;
            return Some(Match { not, test });
        }
    };
    Some(fields(test, not))
}

fn span_of(ports: PortRange) -> Span {
    (ports.first().into(), ports.last().into())
}

/// Options that only affect the choice of an address or port.
pub(super) const OF_CHOICE: [&str; 3] = ["--random", "--random-fully", "--persistent"];

/// Whether this is a target, not a chain.
pub(super) fn is_target(name: &str) -> bool {
    const OTHERS: [&str; 14] = [
        "CLUSTERIP",
        "CONNMARK",
        "CT",
        "DNAT",
        "HMARK",
        "MARK",
        "MASQUERADE",
        "NETMAP",
        "NFQUEUE",
        "NOTRACK",
        "REDIRECT",
        "REJECT",
        "SNAT",
        "SYNPROXY",
    ];
    Target::IDLE.contains(&name) || OTHERS.contains(&name) || name == "TPROXY" || name == "QUEUE"
}

/// Parses a target with its options.
pub(super) fn target(name: &str, options: &[&str]) -> Option<Target> {
    let plain = options.iter().filter(|o| !OF_CHOICE.contains(o));
    let options: Vec<&str> = plain.copied().collect();
    Some(match (name, options.as_slice()) {
        (name, _) if Target::IDLE.contains(&name) => Target::Several(Vec::new()),
        ("DNAT", ["--to-destination", to]) => Target::Dnat(nat_to(to)?),
        ("SNAT", ["--to-source", to]) => Target::Snat(nat_to(to)?),
        ("MASQUERADE", [] | ["--to-ports", _]) => Target::Masquerade,
        ("REDIRECT", []) => Target::RedirectAmong(None),
        ("REDIRECT", ["--to-ports", ports]) => match dashed(ports)? {
            ports if ports.first() == ports.last() => Target::Redirect {
                to_port: ports.first(),
            },
            ports => Target::RedirectAmong(Some(ports)),
        },
        ("NETMAP", ["--to", net]) => Target::Netmap(net.parse().ok()?),
        ("CT", ["--notrack"]) | ("NOTRACK", []) => Target::NoTrack,
        ("CT", ["--helper" | "--timeout" | "--ctevents", _]) => Target::Several(Vec::new()),
        ("CONNMARK", ["--set-xmark", mark]) => {
            let (value, mask) = marked(mark)?;
            Target::SetConnmark { value, mask }
        }
        _ => return None,
    })
}

/// `10.0.0.1-10.0.0.9:80-90`, `[fd00::1]:80`, `:80`.
fn nat_to(text: &str) -> Option<NatTo> {
    let (addresses, ports) = match text.strip_prefix('[') {
        Some(inside) => {
            let (addresses, rest) = inside.split_once(']')?;
            (addresses, rest.strip_prefix(':'))
        }
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((addresses, ports)) => (addresses, Some(ports)),
            None => (text, None),
        },
    };
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    Some(NatTo {
        addresses: match addresses {
            "" => None,
            _ => Some((first.parse().ok()?, last.parse().ok()?)),
        },
        ports: match ports {
            Some(ports) => Some(dashed(ports)?),
            None => None,
        },
    })
}

fn dashed(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}
