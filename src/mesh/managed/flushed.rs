//! What tools that we replace leave in a base chain that they have flushed first.

use crate::netfilter::model::{
    ChainName, ConnState, Family, Match, RejectWith, Rule, TableName, Target,
};

/// The rules at the start of such a chain; none where no tool flushes it.
///
/// Istio 1.0's istio-iptables.sh flushes ip6tables' INPUT, and refuses all IPv6 that is not an answer.
pub(super) fn flushed_chain_rules(
    family: Family,
    table: TableName,
    chain: &ChainName,
) -> Vec<Rule> {
    if (family, table) != (Family::V6, TableName::Filter) || *chain != ChainName::INPUT {
        return Vec::new();
    }
    let reject = Target::Reject(RejectWith::Icmp6PortUnreachable);
    vec![
        Rule::without_comment([Match::state([ConnState::Established])], Target::Accept),
        Rule::without_comment([], reject),
    ]
}
