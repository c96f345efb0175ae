//! That sets of packets are followed as each of their packets is.

use super::super::tests::{CHAINS, network};
use super::super::{Link, Probe, Start, every_trace, follow};
use super::*;
use crate::netfilter::model::{
    AddressSet, ChainName, ConnState, Credentials, Entry, Family, Field, FieldTest, FoundSocket,
    HookedTable, Match, NatTo, Owner, Packet, PolicyRoute, PortRange, PortSet, Protocol, Rule,
    Ruleset, Side, Table, TableName, Target, Test, Tracking, address_of, number_of,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{Ipv4Addr, SocketAddr};

/// Few values of each kind, so that rules and packets meet.
const ADDRESSES: [&str; 7] = [
    "10.66.0.2",
    "10.66.0.3",
    "10.66.0.9",
    "127.0.0.1",
    "127.0.0.6",
    "203.0.113.9",
    "224.0.0.5",
];
const PORTS: [u16; 4] = [53, 80, 81, 15001];
const IDS: [u32; 3] = [0, 1000, 1337];
const MARKS: [u32; 4] = [0, 1, 0x539, 0x538];

fn net() -> impl Strategy<Value = IpNet> {
    let address = select(ADDRESSES.as_slice()).prop_map(|a| a.parse::<IpAddr>().unwrap());
    (address, select(vec![8u8, 24, 31, 32])).prop_map(|(a, l)| IpNet::new(a, l).unwrap().trunc())
}

fn ports() -> impl Strategy<Value = PortRange> {
    (select(PORTS.as_slice()), select(PORTS.as_slice()))
        .prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
}

fn mark() -> impl Strategy<Value = (u32, u32)> {
    (select(MARKS.as_slice()), select(vec![u32::MAX, 1, 0xff]))
}

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Source, Side::Destination])
}

fn interface() -> impl Strategy<Value = Interface> {
    select(vec!["lo", "eth0", "eth+", "eth1"]).prop_map(|n| n.parse().unwrap())
}

fn field_test() -> impl Strategy<Value = FieldTest> {
    let v4 = Family::V4;
    let number = |address: &str| number_of(address.parse().unwrap());
    let one = |field: Field, values: Vec<u128>| {
        let values = select(values);
        (values.clone(), values)
            .prop_map(move |(a, b)| FieldTest::new(field.clone(), [(a.min(b), a.max(b))]))
            .boxed()
    };
    let addresses: Vec<u128> = ADDRESSES.iter().map(|a| number(a)).collect();
    let ids = vec![0, 1000, 1337, u128::from(u32::MAX)];
    let mut choices = vec![
        one(Field::PacketType, vec![0, 1, 2]),
        one(Field::EtherSource, vec![0, 1 << 47]),
        one(Field::TcpFlags, vec![0, 2, 18]),
        one(Field::IcmpType(Family::V6), vec![1, 128]),
        one(Field::FragmentOffset, vec![0, 1]),
        one(Field::ReversePath, vec![0, 1]),
        one(Field::CtState, vec![1, 2, 4, 8, 64]),
        one(Field::CtStatus, vec![0, 16, 32]),
        one(Field::CtDirection, vec![0, 1]),
        one(Field::Connmark, MARKS.map(u128::from).to_vec()),
        one(Field::Mark, MARKS.map(u128::from).to_vec()),
        one(Field::CtZone, vec![0, 1]),
        one(Field::OriginalProtocol, vec![6, 17]),
        one(Field::Protocol, vec![6, 17, 58]),
        one(Field::Other("symhash".into()), vec![0, 1]),
    ];
    for field in [Field::Uid, Field::Gid, Field::OwnerUid, Field::OwnerGid] {
        choices.push(one(field, ids.clone()));
    }
    for side in [Side::Source, Side::Destination] {
        choices.push(one(Field::Address(v4, side), addresses.clone()));
        choices.push(one(Field::Address(Family::V6, side), addresses.clone()));
        choices.push(one(Field::OriginalAddress(v4, side), addresses.clone()));
        choices.push(one(Field::Port(side), PORTS.map(u128::from).to_vec()));
        choices.push(one(
            Field::OriginalPort(side),
            PORTS.map(u128::from).to_vec(),
        ));
        choices.push(one(Field::AddressType(side), vec![1, 2, 3, 5]));
    }
    for field in [Field::InInterface, Field::OutInterface] {
        let name = |text: &str| {
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            u128::from_be_bytes(bytes)
        };
        // nft compares names with one another whole or by how they begin.
        let names = select(vec![0, name("lo"), name("eth0"), name("eth1")]);
        let exact = names.prop_map(move |name| FieldTest::new(field.clone(), [(name, name)]));
        choices.push(exact.boxed());
    }
    let single = proptest::strategy::Union::new(choices);
    let masked = (any::<bool>(), mark()).prop_map(|(of_packet, (value, mask))| {
        let field = if of_packet {
            Field::Mark
        } else {
            Field::Connmark
        };
        FieldTest {
            mask: mask.into(),
            ..FieldTest::new(field, [(value.into(), value.into())])
        }
    });
    let pair = vec((select(addresses), select(PORTS.as_slice())), 1..4).prop_map(move |pairs| {
        let span = |n: u128| (n, n);
        let values = pairs
            .into_iter()
            .map(|(a, p)| vec![span(a), span(p.into())]);
        FieldTest {
            fields: vec![
                Field::Address(v4, Side::Destination),
                Field::Port(Side::Destination),
            ],
            mask: u128::MAX,
            values: values.collect(),
            set: None,
        }
    });
    prop_oneof![6 => single, 1 => masked, 1 => pair]
}

fn test() -> impl Strategy<Value = Test> {
    let states: Vec<ConnState> = ConnState::ALL
        .into_iter()
        .chain(ConnState::TRANSLATED)
        .collect();
    prop_oneof![
        net().prop_map(Test::Source),
        net().prop_map(Test::Destination),
        vec(net(), 1..4).prop_map(|nets| Test::DestinationSet(AddressSet::new(nets).unwrap())),
        interface().prop_map(Test::InInterface),
        interface().prop_map(Test::OutInterface),
        select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Other(1)]).prop_map(Test::Protocol),
        (side(), ports()).prop_map(|(side, ports)| Test::Port { side, ports }),
        (side(), vec(ports(), 1..4)).prop_map(|(side, ports)| Test::Multiport {
            side,
            ports: PortSet::new(ports).unwrap(),
        }),
        select(IDS.as_slice()).prop_map(|id| Test::Owner(Owner::Uid(id))),
        select(IDS.as_slice()).prop_map(|id| Test::Owner(Owner::Gid(id))),
        proptest::sample::subsequence(states, 1..4).prop_map(Test::ConnState),
        mark().prop_map(|(value, mask)| Test::Mark { value, mask }),
        mark().prop_map(|(value, mask)| Test::Connmark { value, mask }),
        any::<bool>().prop_map(|transparent| Test::Socket { transparent }),
        field_test().prop_map(|test| Test::Fields(test.into())),
    ]
}

fn one_match() -> impl Strategy<Value = Match> {
    (test(), any::<bool>()).prop_map(|(test, not)| Match { not, test })
}

fn end() -> impl Strategy<Value = NatTo> {
    let address = proptest::option::of(select(ADDRESSES.as_slice()));
    let ports = proptest::option::of(ports());
    (address, ports).prop_map(|(address, ports)| NatTo {
        addresses: address.map(|a| (a.parse().unwrap(), a.parse().unwrap())),
        ports,
    })
}

fn simple_target() -> impl Strategy<Value = Target> {
    let pair = || (mark(), select(vec![u32::MAX, 1, 0xff]));
    prop_oneof![
        4 => Just(Target::Return),
        2 => Just(Target::Accept),
        1 => Just(Target::Drop),
        1 => Just(Target::Reject(RejectWith::TcpReset)),
        3 => select(CHAINS.to_vec()).prop_map(Target::Jump),
        1 => select(CHAINS.to_vec()).prop_map(Target::Goto),
        2 => select(PORTS.as_slice()).prop_map(|to_port| Target::Redirect { to_port }),
        1 => proptest::option::of(ports()).prop_map(Target::RedirectAmong),
        1 => end().prop_map(Target::Dnat),
        1 => end().prop_map(Target::Snat),
        1 => Just(Target::Masquerade),
        1 => net().prop_map(Target::Netmap),
        1 => Just(Target::NoTrack),
        2 => mark().prop_map(|(value, mask)| Target::Mark { value, mask }),
        1 => mark().prop_map(|(value, mask)| Target::SetConnmark { value, mask }),
        1 => pair().prop_map(|((_, ctmask), nfmask)| Target::SaveMark { nfmask, ctmask }),
        1 => pair().prop_map(|((_, ctmask), nfmask)| Target::RestoreMark { nfmask, ctmask }),
        1 => (select(PORTS.as_slice()), mark()).prop_map(|(on_port, (value, mask))| {
            Target::Tproxy { on_port, on_ip: IpAddr::from([0, 0, 0, 0]), value, mask }
        }),
        1 => (1..3u16).prop_map(Target::CtZone),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let marks = mark().prop_map(|(value, mask)| Target::Mark { value, mask });
    let several = (marks, simple_target()).prop_map(|(a, b)| Target::Several(vec![a, b]));
    prop_oneof![9 => simple_target(), 1 => several]
}

fn entry() -> impl Strategy<Value = Entry> {
    let known = (vec(one_match(), 0..3), target())
        .prop_map(|(matches, target)| Entry::Known(Rule::without_comment(matches, target)));
    let map = (
        vec(one_match(), 0..2),
        field_test(),
        target(),
        proptest::option::of(target()),
    )
        .prop_map(|(matches, keys, target, default)| Entry::Map {
            matches,
            map: crate::netfilter::model::TargetMap {
                targets: keys.values.iter().map(|_| target.clone()).collect(),
                keys,
                default,
            },
        });
    let undecoded =
        (vec(one_match(), 0..2), proptest::option::of(target())).prop_map(|(matches, target)| {
            Entry::Undecoded {
                text: "undecoded".to_owned(),
                handle: None,
                matches,
                target,
            }
        });
    let idle = Just(Entry::Idle {
        text: "counter".to_owned(),
    });
    prop_oneof![20 => known, 2 => map, 1 => undecoded, 1 => idle]
}

/// Rules about 16 addresses and 16 ports.
fn small_rules() -> impl Strategy<Value = Rules> {
    let net = (0..16u32, 28..=32u8).prop_map(|(host, length)| {
        let address = Ipv4Addr::new(10, 66, 0, host as u8);
        IpNet::new(address.into(), length).unwrap().trunc()
    });
    let ports = (0..16u16, 0..16u16);
    let ports = ports.prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
    let test = prop_oneof![
        3 => net.prop_map(Test::Destination),
        3 => ports.prop_map(|ports| Test::Port { side: Side::Destination, ports }),
        1 => select(vec![Protocol::Tcp, Protocol::Udp]).prop_map(Test::Protocol),
        1 => select(vec![1000, 1337]).prop_map(|id| Test::Owner(Owner::Uid(id))),
        1 => mark().prop_map(|(value, mask)| Test::Mark { value, mask }),
    ];
    let matches = vec(
        (test, any::<bool>()).prop_map(|(test, not)| Match { not, test }),
        0..3,
    );
    let entry = (matches, target());
    rules_of(
        Family::V4,
        entry.prop_map(|(matches, target)| {
            vec![Entry::Known(Rule::without_comment(matches, target))]
        }),
    )
}

/// Every packet to these addresses and ports, of two users and two protocols.
fn small_universe() -> impl Iterator<Item = Probe> {
    let hosts = (0..16u8).flat_map(|host| (0..16u16).map(move |port| (host, port)));
    let kinds = [
        (Protocol::Tcp, 1000),
        (Protocol::Tcp, 1337),
        (Protocol::Udp, 1000),
    ];
    let all = hosts.flat_map(move |to| kinds.map(|kind| (to, kind)));
    all.map(|((host, port), (protocol, uid))| {
        let from = SocketAddr::from(([10, 66, 0, 2], 50000));
        let to = SocketAddr::from(([10, 66, 0, host], port));
        let packet = Packet {
            owner: Some(Credentials::new(uid, uid)),
            ..Packet::new(protocol, from, to)
        };
        Probe {
            start: Start::Here,
            packet,
            tracking: Tracking::new(ConnState::New, 0),
        }
    })
}

/// The first of 16 addresses each, at the ends of a family and of what networks and the kernel tell
/// apart.
fn windows(family: Family) -> Vec<u128> {
    let firsts = match family {
        Family::V4 => [
            "0.0.0.0",
            "10.66.0.0",
            "126.255.255.248",
            "127.255.255.248",
            "223.255.255.248",
        ],
        Family::V6 => [
            "::",
            "fd66::",
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:fff8",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:fff8",
        ],
    };
    let firsts = firsts.map(|first| number_of(first.parse().unwrap()));
    let last = u128::MAX >> (128 - family.bits());
    firsts.into_iter().chain([last - 15]).collect()
}

fn address(family: Family) -> impl Strategy<Value = u128> {
    (select(windows(family)), 0..16u128).prop_map(|(first, more)| first + more)
}

/// Prefixes that lie within one another, and side by side.
fn prefix(family: Family) -> impl Strategy<Value = IpNet> {
    let bits = family.bits();
    let short = select(vec![0, 1, 4, 8, 16, bits / 2]);
    let length = prop_oneof![1 => short, 3 => bits - 5..=bits];
    (address(family), length).prop_map(move |(address, length)| {
        IpNet::new(address_of(family, address), length)
            .unwrap()
            .trunc()
    })
}

/// Ranges that are no prefixes, and overlap.
fn address_field(family: Family) -> impl Strategy<Value = FieldTest> {
    let span = (address(family), address(family)).prop_map(|(a, b)| (a.min(b), a.max(b)));
    (side(), any::<bool>(), vec(span, 1..4)).prop_map(move |(side, is_original, spans)| {
        let field = match is_original {
            true => Field::OriginalAddress(family, side),
            false => Field::Address(family, side),
        };
        FieldTest::new(field, spans)
    })
}

/// Tests of some bits of an address.
fn bits_field(family: Family) -> impl Strategy<Value = FieldTest> {
    let mask = select(vec![0b101, 0b10, u128::MAX - 0b110]);
    (address_field(family), mask).prop_map(|(test, mask)| {
        let value = test.values[0][0].0 & mask;
        FieldTest {
            mask,
            ..FieldTest::new(test.fields[0].clone(), [(value, value)])
        }
    })
}

/// Rules about the addresses of a family; if wanted also about bits of them.
fn address_rules(family: Family, bits: bool) -> impl Strategy<Value = Rules> {
    let types = select(vec![1u128, 2, 3, 5]);
    let of_bits = 3 * u32::from(bits);
    let test = prop_oneof![
        3 => prefix(family).prop_map(Test::Source),
        3 => prefix(family).prop_map(Test::Destination),
        2 => vec(prefix(family), 1..6)
            .prop_map(|nets| Test::DestinationSet(AddressSet::new(nets).unwrap())),
        2 => address_field(family).prop_map(|test| Test::Fields(test.into())),
        1 => (side(), types).prop_map(|(side, kind)| {
            Test::Fields(FieldTest::new(Field::AddressType(side), [(kind, kind)]).into())
        }),
        of_bits => bits_field(family).prop_map(|test| Test::Fields(test.into())),
    ];
    let to = move || {
        address(family).prop_map(move |to| NatTo {
            addresses: Some((address_of(family, to), address_of(family, to))),
            ports: None,
        })
    };
    let target = prop_oneof![
        2 => Just(Target::Return),
        2 => Just(Target::Accept),
        1 => Just(Target::Drop),
        1 => Just(Target::Redirect { to_port: 15001 }),
        1 => Just(Target::Masquerade),
        2 => to().prop_map(Target::Dnat),
        1 => to().prop_map(Target::Snat),
        1 => mark().prop_map(|(value, mask)| Target::Mark { value, mask }),
        of_bits / 3 => prefix(family).prop_map(Target::Netmap),
    ];
    let matches = (test, any::<bool>()).prop_map(|(test, not)| Match { not, test });
    let known = |matches, target| Entry::Known(Rule::without_comment(matches, target));
    let one = (vec(matches, 1..3), target.clone())
        .prop_map(move |(matches, target)| vec![known(matches, target)]);
    // Rules that differ in an address only.
    let run = (side(), vec(prefix(family), 2..8), target.clone()).prop_map(
        move |(side, nets, target)| {
            let one = |net| match side {
                Side::Source => Match::source(net),
                Side::Destination => Match::destination(net),
            };
            let rules = nets
                .into_iter()
                .map(|net| known(vec![one(net)], target.clone()));
            rules.collect()
        },
    );
    let map = (address_field(family), target).prop_map(|(keys, target)| {
        vec![Entry::Map {
            matches: Vec::new(),
            map: crate::netfilter::model::TargetMap {
                targets: keys.values.iter().map(|_| target.clone()).collect(),
                keys,
                default: None,
            },
        }]
    });
    rules_of(family, prop_oneof![4 => one, 2 => run, 1 => map])
}

/// Two rulesets about the addresses of one family, and whether they are about bits of them.
fn two_about_addresses() -> impl Strategy<Value = (Family, bool, [Rules; 2])> {
    (select(Family::ALL.to_vec()), prop::bool::weighted(0.4)).prop_flat_map(|(family, bits)| {
        let rules = [address_rules(family, bits), address_rules(family, bits)];
        (Just(family), Just(bits), rules)
    })
}

/// A packet to and from every address at the bounds of the ranges that such rules are about.
fn at_the_bounds(family: Family, choose: &mut impl FnMut() -> bool) -> Vec<Probe> {
    let greatest = u128::MAX >> (128 - family.bits());
    let around =
        |first: u128| first.saturating_sub(1).max(1)..=first.saturating_add(16).min(greatest);
    let addresses = windows(family).into_iter().flat_map(around);
    let addresses: Vec<IpAddr> = addresses.map(|n| address_of(family, n)).collect();
    let own = match family {
        Family::V4 => ["10.66.0.2", "127.0.0.1"],
        Family::V6 => ["fd66::2", "fe80::2"],
    };
    let own = own.map(|own| own.parse::<IpAddr>().unwrap());
    let mut probes = Vec::new();
    for (one, other) in addresses.iter().zip(addresses.iter().cycle().skip(37)) {
        let inside = own[usize::from(choose())];
        let ends = [
            (Start::Here, inside, *one),
            (Start::Outside, *other, *one),
            (Start::Outside, *one, inside),
        ];
        probes.extend(ends.map(|(start, from, to)| {
            let [from, to] = [(from, 50000), (to, 80)].map(SocketAddr::from);
            let mut packet = Packet::new(Protocol::Tcp, from, to);
            match start {
                Start::Here => packet.owner = Some(Credentials::new(1000, 1000)),
                Start::Outside => packet.in_interface = Some(Interface::ETH0),
            }
            Probe {
                start,
                packet,
                tracking: Tracking::new(ConnState::New, 0),
            }
        }));
    }
    probes
}

/// Any rules of the tables that a packet meets.
fn any_rules() -> impl Strategy<Value = Rules> {
    rules_of(Family::V4, entry().prop_map(|entry| vec![entry]))
}

/// Rules of the tables that a packet meets, with jumps to and fro.
fn rules_of(
    family: Family,
    entries: impl Strategy<Value = Vec<Entry>>,
) -> impl Strategy<Value = Rules> {
    let base = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let base = base.map(|name| ChainName::new(name).unwrap());
    let name = select(TableName::ALL.to_vec());
    let chain = select([base.as_slice(), &base, &CHAINS].concat());
    let table = (name, vec((chain, vec(entries, 0..5)), 1..7)).prop_map(move |(name, chains)| {
        let mut table = Table::new(family, name);
        for (chain, _) in &chains {
            table.chain(chain.clone());
        }
        let mut hooked = Rules::of(&Ruleset {
            tables: vec![table],
            ..Ruleset::default()
        });
        for (chain, entries) in chains {
            let table: &mut HookedTable = &mut hooked.tables[0];
            let found = table.chains.iter_mut().find(|c| c.name == chain);
            found.unwrap().rules.extend(entries.into_iter().flatten());
        }
        hooked.tables.remove(0)
    });
    vec(table, 1..4).prop_map(|tables| {
        let mut rules = Rules::default();
        for table in tables {
            if rules
                .tables
                .iter()
                .all(|t: &HookedTable| t.name != table.name)
            {
                rules.tables.push(table);
            }
        }
        rules
    })
}

fn any_probe() -> impl Strategy<Value = Probe> {
    let own = select(&ADDRESSES[..2]);
    let address = || select(ADDRESSES.as_slice());
    let port = || select(vec![53u16, 80, 81, 443, 15001, 50000]);
    let state = select(ConnState::ALL.to_vec());
    let owner = proptest::option::of((select(vec![0u32, 1000, 1337, 7]), select(vec![0u32, 1337])));
    let outside = proptest::option::of(select(vec!["eth0", "eth1", "other0"]));
    let protocol = select(vec![
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Other(1),
    ]);
    let socket = select(vec![
        FoundSocket::None,
        FoundSocket::Plain,
        FoundSocket::Transparent,
    ]);
    let marks = (select(MARKS.as_slice()), select(MARKS.as_slice()));
    (
        (own, address(), address()),
        (port(), port()),
        (state, owner, outside, protocol, socket),
        marks,
    )
        .prop_map(
            |(
                (own, far, to),
                (sport, dport),
                (state, owner, outside, protocol, socket),
                (mark, connmark),
            )| {
                let from = if outside.is_some() { far } else { own };
                let end = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
                let owner = owner.filter(|_| outside.is_none());
                let packet = Packet {
                    in_interface: outside.map(|name| name.parse().unwrap()),
                    owner: owner.map(|(uid, gid)| Credentials::new(uid, gid)),
                    mark,
                    socket,
                    ..Packet::new(protocol, end(from, sport), end(to, dport))
                };
                let tracking = Tracking::new(state, connmark);
                let start = if outside.is_some() {
                    Start::Outside
                } else {
                    Start::Here
                };
                Probe {
                    start,
                    packet,
                    tracking,
                }
            },
        )
}

/// Yes or no, by chance (Marsaglia's xorshift).
fn by_chance(mut seed: u64) -> impl FnMut() -> bool {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed & 1 == 1
    }
}

/// With every interface that packets come in through: a space holds those that are there, and one that
/// no rule names.
fn place() -> Network {
    let eth1 = Link {
        name: "eth1".parse().unwrap(),
        addresses: Vec::new(),
    };
    let Network { mut links, .. } = network();
    links.push(eth1);
    Network {
        links,
        policy_routes: vec![PolicyRoute {
            family: Family::V4,
            mark: 0x539,
            table: 133,
        }],
        ..network()
    }
}

/// Whether a packet ends as it did, in all that matters.
fn agrees(space: &mut Space, probe: &Probe, end: &Ended, trace: &Trace) -> bool {
    let Some(arrived) = &end.arrived else {
        return true;
    };
    let packet = &trace.packet;
    let number = |end: SocketAddr| space.addresses.number(number_of(end.ip()));
    let connmark = packet.connection().map(|c| c.mark);
    let expected = [
        Some(number(packet.source)),
        Some(packet.source.port().into()),
        Some(number(packet.destination)),
        Some(packet.destination.port().into()),
        Some(packet.mark.into()),
        connmark.map(u128::from),
    ];
    let only = space.only(probe);
    let same = arrived.header.iter().zip(expected).all(|(bits, value)| {
        let Some(value) = value else { return true };
        let holds = space.sets.within(bits, [(value, value)]);
        space.and(only, holds) == only
    });
    let (address, port) = end.destination();
    same && arrived.zone == packet.zone
        && address.is_none_or(|address| address == packet.destination.ip())
        && port.is_none_or(|port| port == packet.destination.port())
}

/// Whether a packet of a picture ends as it does when it is followed alone, by the same rule.
fn ends_as_alone(
    space: &mut Space,
    picture: &Picture,
    classes: &[Class],
    probe: &Probe,
    rules: &Rules,
) -> Result<(), TestCaseError> {
    let only = space.only(probe);
    prop_assert_eq!(
        space.and(picture.all, only),
        only,
        "{:?} is among all",
        probe
    );
    let ends: Vec<&Ended> = picture
        .ends
        .iter()
        .filter(|e| space.and(e.set, only) == only)
        .collect();
    let ways = every_trace(probe, rules, picture.network).unwrap();
    for trace in &ways {
        let fate = Fate::of(trace);
        let found = ends.iter().filter(|e| e.fate == fate);
        let mut found = found.filter(|e| agrees(space, probe, e, trace));
        prop_assert!(
            found.next().is_some(),
            "{:?} of {:?} in {:?}",
            fate,
            probe,
            ends
        );
    }
    if space.and(picture.undetermined, only) != only {
        prop_assert_eq!(ends.len(), 1);
        let trace = follow(probe, rules, picture.network, &[]).unwrap();
        let tables = trace.passages.iter().flat_map(|p| &p.tables);
        let deciding = tables.flat_map(|t| &t.steps).find(|s| s.decides);
        let mine: Vec<_> = classes
            .iter()
            .filter(|c| space.and(c.packets, only) == only)
            .collect();
        prop_assert_eq!(mine.len(), 1);
        // Where a rule that may apply changes nothing, either may be named.
        if ways.len() == 1 {
            let by = mine[0].by.map_or([].as_slice(), |hit| hit.rules);
            prop_assert_eq!(by.is_empty(), deciding.is_none());
            prop_assert!(deciding.is_none_or(|step| by.contains(&step.rule)));
        }
    }
    Ok(())
}

/// How a packet ends: its fate, and what it is then if it arrives.
fn ending(probe: &Probe, rules: &Rules, network: &Network) -> (Fate, Option<[u128; 7]>) {
    let trace = follow(probe, rules, network, &[]).unwrap();
    let (fate, packet) = (Fate::of(&trace), &trace.packet);
    let arrived = fate.arrives().then(|| {
        let ends = [packet.source, packet.destination];
        let [from, to] = ends.map(|end| number_of(end.ip()));
        let [from_port, to_port] = ends.map(|end| u128::from(end.port()));
        let connmark = packet.connection().map_or(0, |c| c.mark);
        let marks = [packet.mark.into(), connmark.into(), packet.zone.into()];
        [from, from_port, to, to_port, marks[0], marks[1], marks[2]]
    });
    (fate, arrived)
}

/// The parts that describe a set hold its packets and, of those that matter, no others.
fn described_exactly(space: &mut Space, set: Set, care: Set) -> Result<(), TestCaseError> {
    if let Some(parts) = space.parts(set, care) {
        let sets: Vec<Set> = parts.iter().map(|part| space.of_part(part)).collect();
        let all = sets
            .into_iter()
            .fold(Set::NONE, |all, one| space.or(all, one));
        prop_assert_eq!(space.and(all, care), space.and(set, care));
    }
    Ok(())
}

/// One rule, for all packets.
fn one_rule(name: TableName, chain: ChainName, target: Target) -> Rules {
    let mut table = Table::new(Family::V4, name);
    let rule = Rule::without_comment([], target);
    table.chain(chain).rules.push(rule);
    Rules::of(&Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    })
}

/// That two marks differ has no small set, but where the one that is restored is a policy route's.
#[test]
fn the_marks_of_all_connections_can_be_restored() {
    let rules = one_rule(TableName::Mangle, ChainName::OUTPUT, Target::restore_mark());
    let network = place();
    let mut space = Space::new(Family::V4, [(&rules, &network)], STEPS);
    let picture = follow_all(&mut space, Start::Here, &rules, &network, Set::ALL).unwrap();
    assert!(!picture.ends.is_empty());
}

/// A packet that is not tracked has no connection, and so no mark of one.
#[test]
fn what_is_not_tracked_differs_by_the_mark_of_its_connection() {
    let rules = one_rule(TableName::Raw, ChainName::PREROUTING, Target::NoTrack);
    let network = place();
    let none = Rules::default();
    let places = [(&rules, &network), (&none, &network)];
    let mut space = Space::new(Family::V4, places, STEPS);
    let [one, other] = [&rules, &none]
        .map(|rules| follow_all(&mut space, Start::Outside, rules, &network, Set::ALL).unwrap());
    let differences = differing(&mut space, &one, &other);
    let sets: Vec<Set> = differences.iter().map(|d| d.packets).collect();
    let differing = sets
        .into_iter()
        .fold(Set::NONE, |all, set| space.or(all, set));
    let mark = space.bits(Dimension::Connmark);
    let zero = space::constant(0, 32);
    let marked = space.unequal(Set::ALL, &mark, &zero);
    assert_ne!(space.and(differing, marked), Set::NONE);
    assert_eq!(space.without(differing, marked), Set::NONE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Each packet is in the class of its fate, whatever the rules are; where rules were not decoded,
    /// in the classes of all its fates.
    #[test]
    fn each_packet_is_in_the_class_of_its_fate(rules in any_rules(), probes in vec(any_probe(), 1..12)) {
        let network = place();
        let mut space = Space::new(Family::V4, [(&rules, &network)], STEPS);
        for start in Start::ALL {
            let mut probes = probes.iter().filter(|probe| probe.start == start).peekable();
            if probes.peek().is_none() {
                continue;
            }
            let picture = match follow_all(&mut space, start, &rules, &network, Set::ALL) {
                Ok(picture) => picture,
                // A loop that only other packets come to.
                Err(Stopped::Loop(_)) => continue,
                Err(Stopped::Bounded) => return Ok(()),
            };
            let classes = picture.classes(&mut space);
            for probe in probes {
                let agrees = ends_as_alone(&mut space, &picture, &classes, probe, &rules);
                if space.check().is_err() {
                    return Ok(());
                }
                agrees?;
            }
        }
    }

    /// Packets from and to the first and the last address of a range, and those beside them, are in
    /// the class of their fate; just those differ that end otherwise under other rules.
    #[test]
    fn at_the_bounds_of_ranges_packets_are_in_their_class(
        (family, bits, rules) in two_about_addresses(),
        seed in 1..u64::MAX,
    ) {
        let network = place();
        let mut space = Space::new(family, rules.each_ref().map(|rules| (rules, &network)), STEPS);
        let probes = at_the_bounds(family, &mut by_chance(seed));
        for start in Start::ALL {
            let pictures = rules.each_ref().map(|rules| {
                follow_all(&mut space, start, rules, &network, Set::ALL)
            });
            let [Ok(one), Ok(other)] = &pictures else {
                prop_assert!(bits, "{:?}", pictures);
                return Ok(());
            };
            let classes = one.classes(&mut space);
            let differences = differing(&mut space, one, other);
            let differences: Vec<Set> = differences.iter().map(|d| d.packets).collect();
            let differing = differences.into_iter().fold(Set::NONE, |all, set| space.or(all, set));
            let exactly = described_exactly(&mut space, differing, one.all);
            if space.check().is_err() {
                prop_assert!(bits);
                return Ok(());
            }
            exactly?;
            for probe in probes.iter().filter(|probe| probe.start == start) {
                let agrees = ends_as_alone(&mut space, one, &classes, probe, &rules[0]);
                let only = space.only(probe);
                let differs = space.and(differing, only) == only;
                if space.check().is_err() {
                    prop_assert!(bits);
                    return Ok(());
                }
                agrees?;
                let alone = rules.each_ref().map(|rules| ending(probe, rules, &network));
                prop_assert_eq!(differs, alone[0] != alone[1], "{:?}", probe);
            }
        }
    }

    /// A run of addresses is made up of as many prefixes as are counted.
    #[test]
    fn prefixes_are_counted(first: u128, last: u128, shared in 0..128u32) {
        let last = first ^ last >> shared;
        let run = (first.min(last), first.max(last));
        let subnets = ipnet::Ipv6Subnets::new(run.0.into(), run.1.into(), 0);
        prop_assert_eq!(prefixes(run) as usize, subnets.count());
    }

    /// Just the packets that end in another way under other rules are told to differ.
    #[test]
    fn packets_that_end_otherwise_differ(
        rules in (any_rules(), any_rules()),
        probes in vec(any_probe(), 1..12),
    ) {
        let network = place();
        let places = [(&rules.0, &network), (&rules.1, &network)];
        let mut space = Space::new(Family::V4, places, STEPS);
        for start in Start::ALL {
            let [one, other] = [&rules.0, &rules.1].map(|rules| {
                follow_all(&mut space, start, rules, &network, Set::ALL)
            });
            let (Ok(one), Ok(other)) = (one, other) else { continue };
            let differences = differing(&mut space, &one, &other);
            let differences: Vec<Set> = differences.iter().map(|d| d.packets).collect();
            let differing = differences.into_iter().fold(Set::NONE, |all, set| space.or(all, set));
            let unclear = space.or(one.undetermined, other.undetermined);
            for probe in probes.iter().filter(|probe| probe.start == start) {
                let only = space.only(probe);
                let alone = [&rules.0, &rules.1].map(|rules| ending(probe, rules, &network));
                let is_clear = space.and(unclear, only) != only;
                let differs = space.and(differing, only) == only;
                if space.check().is_err() {
                    return Ok(());
                }
                prop_assert_eq!(differs, is_clear && alone[0] != alone[1], "{:?}", probe);
            }
        }
    }

    /// Of all packets of a small universe, those differ that end in another way when they are followed
    /// one by one; and the description of the differences holds them and no others.
    #[test]
    fn in_a_small_universe_just_those_differ_that_end_otherwise(
        rules in (small_rules(), small_rules()),
    ) {
        let network = place();
        let places = [(&rules.0, &network), (&rules.1, &network)];
        let mut space = Space::new(Family::V4, places, STEPS);
        let [one, other] = [&rules.0, &rules.1].map(|rules| {
            follow_all(&mut space, Start::Here, rules, &network, Set::ALL)
        });
        let (Ok(one), Ok(other)) = (one, other) else { return Ok(()) };
        let unclear = space.or(one.undetermined, other.undetermined);
        let differences = differing(&mut space, &one, &other);
        let described: Option<Vec<_>> = differences
            .iter()
            .map(|difference| space.parts(difference.packets, one.all))
            .collect();
        let Some(described) = described else { return Ok(()) };
        let described: Vec<Set> =
            described.iter().flatten().map(|part| space.of_part(part)).collect();
        for probe in small_universe() {
            let only = space.only(&probe);
            let differs = described.iter().any(|set| space.and(*set, only) == only);
            let is_clear = space.and(unclear, only) == Set::NONE;
            if space.check().is_err() {
                return Ok(());
            }
            let [one, other] = [&rules.0, &rules.1].map(|rules| ending(&probe, rules, &network));
            prop_assert_eq!(differs, is_clear && one != other, "{:?}", probe);
        }
    }

    /// Any packet of a class has its fate, and is described with it.
    #[test]
    fn a_member_has_the_fate_of_its_class(rules in any_rules(), seed in 1..u64::MAX) {
        let mut choose = by_chance(seed);
        let network = place();
        let mut space = Space::new(Family::V4, [(&rules, &network)], STEPS);
        for start in Start::ALL {
            let Ok(picture) = follow_all(&mut space, start, &rules, &network, Set::ALL) else { continue };
            for (at, class) in picture.classes(&mut space).into_iter().enumerate() {
                if space.check().is_err() {
                    return Ok(());
                }
                let probe = space.member(class.packets, start, &mut choose).unwrap();
                let only = space.only(&probe);
                prop_assert_eq!(space.and(class.packets, only), only);
                if at % 8 == 0 {
                    let exactly = described_exactly(&mut space, class.packets, picture.all);
                    if space.check().is_err() {
                        return Ok(());
                    }
                    exactly?;
                }
                let trace = follow(&probe, &rules, &network, &[]).unwrap();
                prop_assert_eq!(&Fate::of(&trace), &class.end.fate);
            }
        }
    }
}
