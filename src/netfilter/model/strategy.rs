//! Arbitrary rules that a kernel accepts, for property tests.

use super::{
    ChainName, ConnState, Family, Interface, Match, Owner, PortRange, PortSet, Protocol,
    RejectWith, Rule, RuleId, Side, Target, Test,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// A rule for a managed chain in a table of `family`.
pub(crate) fn rule(family: Family) -> impl Strategy<Value = Rule> {
    let header = (of(side_net(family)), of(side_net(family)), interfaces());
    let ports = (protocol(family), vec(ports(), 0..2));
    (
        header,
        ports,
        vec(extension(), 0..3),
        target(family),
        of(id()),
    )
        .prop_map(
            |((one, two, interfaces), (protocol, ports), extensions, target, id)| {
                let mut matches: Vec<Match> = one.into_iter().chain(two).collect();
                matches.extend(interfaces);
                matches.dedup_by_key(|m| m.rank());
                let has_ports = protocol.is_some_and(|p| p != Protocol::Icmpv6);
                matches.extend(protocol.map(Match::protocol));
                matches.extend(ports.into_iter().filter(|_| has_ports));
                matches.extend(extensions);
                let needs_tcp = matches!(
                    target,
                    Target::Redirect { .. }
                        | Target::Tproxy { .. }
                        | Target::Reject(RejectWith::TcpReset)
                );
                let target = match needs_tcp && protocol != Some(Protocol::Tcp) {
                    true => Target::Return,
                    false => target,
                };
                let rule = Rule::without_comment(matches, target);
                match id {
                    Some(id) => rule.commented(id),
                    None => rule,
                }
            },
        )
}

fn negated(matches: impl Strategy<Value = Match>) -> impl Strategy<Value = Match> {
    (matches, any::<bool>()).prop_map(|(m, not)| if not { !m } else { m })
}

/// A source or destination prefix, without /0, which the tools omit.
fn side_net(family: Family) -> impl Strategy<Value = Match> {
    let side = prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let of_side = |(net, side): (IpNet, Side)| match side {
        Side::Source => Match::source(net),
        Side::Destination => Match::destination(net),
    };
    negated((net(family), side).prop_map(of_side))
}

fn net(family: Family) -> BoxedStrategy<IpNet> {
    match family {
        Family::V4 => (any::<u32>(), 1..=32u8)
            .prop_map(|(bits, len)| IpNet::from(Ipv4Net::new_assert(bits.into(), len)).trunc())
            .boxed(),
        Family::V6 => (any::<u128>(), 1..=128u8)
            .prop_map(|(bits, len)| IpNet::from(Ipv6Net::new_assert(bits.into(), len)).trunc())
            .boxed(),
    }
}

fn interfaces() -> impl Strategy<Value = Vec<Match>> {
    let name = || {
        // Every byte that a name may have, including those special to a shell or nft.
        let name = "[!-~]{1,14}\\+?";
        name.prop_filter_map("a name", |name| name.parse::<Interface>().ok())
    };
    let both = (
        of(negated(name().prop_map(Match::in_interface))),
        of(negated(name().prop_map(Match::out_interface))),
    );
    both.prop_map(|(i, o)| i.into_iter().chain(o).collect())
}

fn protocol(family: Family) -> impl Strategy<Value = Option<Protocol>> {
    let last = match family {
        Family::V4 => Protocol::Udp,
        Family::V6 => Protocol::Icmpv6,
    };
    of(prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(last)
    ])
}

fn range() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).expect("in order"))
}

fn ports() -> impl Strategy<Value = Match> {
    let side = || prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let one = (side(), range()).prop_map(|(side, ports)| Test::Port { side, ports });
    let many = (side(), vec(range(), 1..=7)).prop_map(|(side, ports)| Test::Multiport {
        side,
        ports: PortSet::new(ports).expect("at most 14 slots"),
    });
    negated(prop_oneof![one, many].prop_map(Match::new))
}

fn extension() -> impl Strategy<Value = Match> {
    let id = 0..u32::MAX;
    let owner = prop_oneof![id.clone().prop_map(Owner::Uid), id.prop_map(Owner::Gid)];
    let state = proptest::sample::subsequence(ConnState::ALL.to_vec(), 1..=5);
    let mark = || (any::<u32>(), 1..=u32::MAX).prop_map(|(value, mask)| (value & mask, mask));
    let negatable = prop_oneof![
        owner.prop_map(Match::owner),
        state.prop_map(Match::state),
        mark().prop_map(|(value, mask)| Match::new(Test::Mark { value, mask })),
        mark().prop_map(|(value, mask)| Match::new(Test::Connmark { value, mask })),
    ];
    let socket = any::<bool>().prop_map(|transparent| Match::new(Test::Socket { transparent }));
    prop_oneof![4 => negated(negatable), 1 => socket]
}

/// Targets of every table; the kernel decides which table accepts them.
fn target(family: Family) -> impl Strategy<Value = Target> {
    let pair = || (any::<u32>(), any::<u32>());
    let address = net(family).prop_map(|net| net.addr());
    let of_family = |with: &RejectWith| with.icmp_code(family).is_some();
    let reject: Vec<RejectWith> = RejectWith::all().filter(of_family).collect();
    prop_oneof![
        Just(Target::Accept),
        Just(Target::Drop),
        Just(Target::Return),
        Just(Target::Jump(ChainName::fixed("TO_PROXY"))),
        (1..=u16::MAX).prop_map(|to_port| Target::Redirect { to_port }),
        select(reject).prop_map(Target::Reject),
        Just(Target::Reject(RejectWith::TcpReset)),
        pair().prop_map(|(value, mask)| Target::Mark { value, mask }),
        pair().prop_map(|(nfmask, ctmask)| Target::SaveMark { nfmask, ctmask }),
        pair().prop_map(|(nfmask, ctmask)| Target::RestoreMark { nfmask, ctmask }),
        (1..=u16::MAX, address, pair()).prop_map(|(on_port, on_ip, (value, mask))| {
            Target::Tproxy {
                on_port,
                on_ip,
                value,
                mask,
            }
        }),
        (1..=u16::MAX).prop_map(Target::CtZone),
    ]
}

fn id() -> impl Strategy<Value = RuleId> {
    let label = prop_oneof![Just("a-mesh"), Just("another-tool")];
    let id = "[a-z][a-z0-9./:,-]{0,40}".prop_map(RuleId::from);
    (label, id).prop_map(|(label, id)| id.labelled(label))
}
