//! What holds for every packet and all rules.

use super::tests::{CHAINS, network, packet, rules};
use super::{End, Probe, Start, follow};
use crate::netfilter::model::Rules;
use crate::netfilter::model::strategy;
use crate::netfilter::model::{
    ChainName, ConnState, Connection, Credentials, Family, Packet, Protocol, Rule, Table,
    TableName, Target, Test, Tracking,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_packet() -> impl Strategy<Value = Packet> {
    let address = prop_oneof![Just("10.66.0.2"), Just("127.0.0.1"), Just("203.0.113.9"),];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let tracking = prop_oneof![
        Just(Tracking::NotYet),
        Just(Tracking::Invalid),
        Just(Tracking::Untracked),
        any::<u32>().prop_map(|mark| Tracking::Known(Connection {
            state: ConnState::New,
            mark,
        })),
    ];
    (
        address,
        any::<u16>(),
        protocol,
        tracking,
        any::<u32>(),
        any::<bool>(),
    )
        .prop_map(|(address, port, protocol, tracking, mark, owned)| Packet {
            protocol,
            tracking,
            mark,
            owner: owned.then(|| Credentials::new(mark, mark)),
            ..packet("10.66.0.2", &format!("{address}:{port}"))
        })
}

/// Rules of the tables that a packet meets, with jumps to and fro.
fn any_rules() -> impl Strategy<Value = Rules> {
    let jump = proptest::sample::select(CHAINS.to_vec())
        .prop_map(|chain| Rule::without_comment([], Target::Jump(chain)));
    let rule = || prop_oneof![4 => strategy::rule(Family::V4), 1 => jump.clone()];
    let name = proptest::sample::select(TableName::ALL.to_vec());
    let base = [ChainName::PREROUTING, ChainName::INPUT, ChainName::OUTPUT];
    let chain = proptest::sample::select([base.as_slice(), &CHAINS].concat());
    let table = (name, vec((chain, vec(rule(), 0..4)), 0..7)).prop_map(|(name, chains)| {
        let mut table = Table::new(Family::V4, name);
        for (chain, rules) in chains {
            table.chain(chain).rules.extend(rules);
        }
        table
    });
    vec(table, 1..5).prop_map(rules)
}

proptest! {
    /// What does not hold has a reason, and turned round it holds; but nothing is said about the
    /// mark of a connection that is not there.
    #[test]
    fn what_does_not_hold_has_a_reason(packet in any_packet(), rule in strategy::rule(Family::V4)) {
        for m in rule.matches {
            prop_assert_eq!(m.mismatch(&packet).is_none(), m.holds(&packet));
            if let Some(reason) = m.mismatch(&packet) {
                prop_assert!(!reason.to_string().is_empty());
            }
            let nothing = packet.connection().is_none() && matches!(m.test, Test::Connmark { .. });
            prop_assert_eq!((!m.clone()).holds(&packet), !m.holds(&packet) && !nothing);
        }
    }

    #[test]
    fn what_is_refused_is_refused_by_a_rule_or_a_policy(packet in any_packet(), rules in any_rules()) {
        for start in Start::ALL {
            let probe = Probe { start, packet: packet.clone(), tracking: packet.tracking };
            if let Ok(trace) = follow(&probe, &rules, &network(), &[]) {
                let by_rule = trace.steps().any(|(_, step)| step.decides);
                let by_policy = trace.tables().any(|table| table.policy == Some(false));
                if matches!(trace.end, End::Dropped | End::Rejected(_)) {
                    prop_assert!(by_rule != by_policy, "{trace:?}");
                }
            }
        }
    }
}
