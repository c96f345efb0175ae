//! Which policy routes and addresses are managed, and the marks by which routes are known.

use super::is_managed_chain;
use crate::netfilter::model::{
    LoopbackAddress, Observed, ObservedRule, PolicyRoute, Routing, Target, Test,
};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// What Istio's meshes put on lo, so that the proxy can bind to it: the counterpart of 127.0.0.6,
/// which needs no address of its own.
pub(crate) const PASSTHROUGH: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// The mark and the routing table of TPROXY where no other ones were asked for.
const USUAL_MARK_AND_TABLE: (u32, u32) = (1337, 133);

/// The marks that managed chains put on packets for TPROXY: the policy routes for them are managed.
pub(crate) fn tproxy_marks(observed: &Observed) -> BTreeSet<u32> {
    let chains = observed.tables.iter().flat_map(|t| &t.chains);
    let rules = chains
        .filter(|c| is_managed_chain(&c.name))
        .flat_map(|c| &c.rules);
    let mark = |observed: &ObservedRule| match observed.rule.as_ref()?.target {
        Target::Tproxy { value, .. } => Some(value),
        _ => None,
    };
    rules.filter_map(mark).collect()
}

/// The part of some routing that managed rules in a kernel rely on: the policy routes for their TPROXY
/// marks, unless others for these were `found` before it was made, and the addresses that they name.
pub(crate) fn relied_on(routing: &Routing, found: &Routing, observed: &Observed) -> Routing {
    let marks = tproxy_marks(observed);
    let chains = observed.tables.iter().flat_map(|t| &t.chains);
    let managed = chains.filter(|c| is_managed_chain(&c.name));
    let rules = managed
        .flat_map(|c| &c.rules)
        .filter_map(|r| r.rule.as_ref());
    let named: BTreeSet<IpNet> = rules
        .flat_map(|rule| &rule.matches)
        .filter_map(|m| match m.test {
            Test::Source(net) => Some(net),
            _ => None,
        })
        .collect();
    let (mut policies, mut addresses) = (
        routing.policy_routes.clone(),
        routing.loopback_addresses.clone(),
    );
    policies.retain(|p| {
        let mut before = found.policy_routes.iter();
        marks.contains(&p.mark)
            && !before.any(|f| (f.family, f.mark) == (p.family, p.mark) && f != p)
    });
    addresses.retain(|a| named.contains(&a.0));
    Routing {
        policy_routes: policies,
        loopback_addresses: addresses,
    }
}

/// The managed part of the routing found: policy routes for a mark that managed rules use or used, or
/// that every mesh uses by default; and ::6/128 on lo.
pub(crate) fn routing(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let is_managed = |p: &&PolicyRoute| marks.contains(&p.mark) || is_usual(p);
    let passthrough = LoopbackAddress(IpNet::from(IpAddr::from(PASSTHROUGH)));
    let addresses = found.loopback_addresses.iter().copied();
    Routing {
        policy_routes: found
            .policy_routes
            .iter()
            .filter(is_managed)
            .copied()
            .collect(),
        loopback_addresses: addresses.filter(|a| *a == passthrough).collect(),
    }
}

/// The managed part of the routing found that is not desired any more. Where the wanted policy route for a
/// mark was found too, another one for that mark is not what older options have left, but foreign.
pub(crate) fn unneeded_routing(
    found: &Routing,
    marks: &BTreeSet<u32>,
    wanted: &Routing,
) -> Routing {
    let mut unneeded = routing(found, marks).without(wanted);
    let stands = |p: &PolicyRoute| {
        let mut wanted = wanted.policy_routes.iter();
        wanted.any(|w| (w.family, w.mark) == (p.family, p.mark) && found.policy_routes.contains(w))
    };
    unneeded.policy_routes.retain(|p| is_usual(p) || !stands(p));
    unneeded
}

fn is_usual(policy: &PolicyRoute) -> bool {
    (policy.mark, policy.table) == USUAL_MARK_AND_TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::Family;

    #[test]
    fn routes_are_known_by_their_marks_and_addresses_by_their_value() {
        let route = |mark, table| PolicyRoute {
            family: Family::V6,
            mark,
            table,
        };
        let address = |text: &str| LoopbackAddress(text.parse().expect("an address"));
        let (usual, used) = (route(1337, 133), route(7, 77));
        let found = Routing {
            policy_routes: vec![usual, route(1337, 77), used, route(8, 133)],
            loopback_addresses: vec![address("::6/128"), address("::6/64"), address("::7/128")],
        };
        let managed = Routing {
            policy_routes: vec![usual, used],
            loopback_addresses: vec![address("::6/128")],
        };
        assert_eq!(routing(&found, &BTreeSet::from([7])), managed);
    }
}
