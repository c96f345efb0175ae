//! What istio-iptables.sh leaves in a base chain that it has flushed first.

use crate::netfilter::model::{
    ChainName, ConnState, Family, Interface, Match, RejectWith, Rule, TableName, Target,
};
use ipnet::Ipv6Net;
use std::net::Ipv6Addr;

/// The rules at the start of such a chain, as the versions of the script leave them; none where none
/// flushes it.
///
/// The script flushes ip6tables' INPUT, and refuses all IPv6 that is not an answer; since Istio 1.1
/// it lets loopback pass.
pub(in crate::mesh) fn flushed_chain_rules(
    family: Family,
    table: TableName,
    chain: &ChainName,
) -> Vec<Vec<Rule>> {
    if (family, table) != (Family::V6, TableName::Filter) || *chain != ChainName::INPUT {
        return Vec::new();
    }
    let answers = Rule::without_comment([Match::state([ConnState::Established])], Target::Accept);
    let loopback = [
        Match::in_interface(Interface::LOOPBACK),
        Match::destination(Ipv6Net::from(Ipv6Addr::LOCALHOST)),
    ];
    let loopback = Rule::without_comment(loopback, Target::Accept);
    let reject = Target::Reject(RejectWith::Icmp6PortUnreachable);
    let others = Rule::without_comment([], reject);
    vec![
        vec![answers.clone(), others.clone()],
        vec![answers, loopback, others],
    ]
}
