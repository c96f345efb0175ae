//! Observed policy rules, routes and addresses, and what has to be added or removed. Pure.

use super::RoutingError;
use super::message::{Item, Route, Rule};
use crate::netfilter::model::{Family, LoopbackAddress, PolicyRoute, Routing, RoutingPart};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// The observed state of one network namespace, both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) rules: Vec<Rule>,
    /// Routes of all tables, of families with a rule that matches a mark.
    pub(super) routes: Vec<Route>,
    /// The addresses of lo.
    pub(super) addresses: Vec<IpNet>,
}

impl State {
    /// What may be managed, with any options: each `fwmark` rule with a full mask and no other
    /// condition, to a table that is empty or has only `local default dev lo`; and addresses of lo
    /// except those of the kernel.
    pub fn candidates(&self) -> Routing {
        let mut found = Routing::default();
        for policy in self.rules.iter().filter_map(|r| r.marked) {
            let mut routes = self.table(policy.family, policy.table);
            let may_be = self.has_route(&policy) || routes.next().is_none();
            if may_be && !found.policy_routes.contains(&policy) {
                found.policy_routes.push(policy);
            }
        }
        let added = self.addresses.iter().filter(|a| !a.addr().is_loopback());
        found
            .loopback_addresses
            .extend(added.copied().map(LoopbackAddress));
        found
    }

    /// [`State::candidates`] without rules to an empty table.
    pub fn in_effect(&self) -> Routing {
        let mut found = self.candidates();
        found.policy_routes.retain(|p| self.has_route(p));
        found
    }

    /// The priorities of policy rules except those of the kernel and of [`State::in_effect`].
    pub fn other_rules(&self, family: Family) -> Vec<u32> {
        const KERNEL: [(u32, Option<u32>); 3] =
            [(0, Some(255)), (32766, Some(254)), (32767, Some(253))];
        let known = self.in_effect().policy_routes;
        let rules = self.rules.iter().filter(|r| r.family == family);
        let others = rules.filter(|r| match r.marked {
            Some(policy) => !known.contains(&policy),
            None => !KERNEL.contains(&(r.priority, r.table)),
        });
        others.map(|r| r.priority).collect()
    }

    /// The missing parts of `desired`; routes before the rules that select them.
    ///
    /// # Errors
    /// [`RoutingError::Occupied`] if a table has foreign routes.
    pub fn missing(&self, desired: &Routing) -> Result<Vec<RoutingPart>, RoutingError> {
        let mut policies = desired.policy_routes.iter();
        if let Some(policy) = policies.find(|p| self.holds_routes_of_others(p)) {
            return Err(RoutingError::Occupied {
                family: policy.family,
                table: policy.table,
            });
        }
        let mut missing: Vec<_> = desired.parts().filter(|part| !self.has(part)).collect();
        missing.sort_by_key(|part| matches!(part, RoutingPart::Rule(_)));
        Ok(missing)
    }

    fn holds_routes_of_others(&self, policy: &PolicyRoute) -> bool {
        self.table(policy.family, policy.table)
            .any(|r| !r.to_loopback)
    }

    /// The parts of `routing` that exist.
    pub fn present(&self, routing: &Routing) -> impl Iterator<Item = RoutingPart> {
        routing.parts().filter(|part| self.has(part))
    }

    /// The existing parts of `obsolete`, rules first. A route stays if `desired` needs it too.
    pub fn removable(&self, obsolete: &Routing, desired: &Routing) -> Vec<RoutingPart> {
        let stays = |route: &PolicyRoute| {
            let mut policies = desired.policy_routes.iter();
            policies.any(|p| (p.family, p.table) == (route.family, route.table))
        };
        // Two policies may share a table.
        let mut tables = BTreeSet::new();
        let mut goes = |part: &RoutingPart| match part {
            RoutingPart::Route(policy) => {
                !stays(policy) && tables.insert((policy.family, policy.table))
            }
            _ => true,
        };
        let mut parts: Vec<_> = self.present(obsolete).filter(|p| goes(p)).collect();
        parts.sort_by_key(|part| matches!(part, RoutingPart::Route(_)));
        parts
    }

    fn has(&self, part: &RoutingPart) -> bool {
        match part {
            RoutingPart::Rule(policy) => self.rules_for(policy).next().is_some(),
            RoutingPart::Route(policy) => self.has_route(policy),
            RoutingPart::Address(address) => self.addresses.contains(&address.0),
        }
    }

    pub(super) fn to_make(&self, part: &RoutingPart) -> Item {
        match *part {
            RoutingPart::Rule(policy) => Item::Rule(policy, self.first_priority(policy.family)),
            RoutingPart::Route(policy) => Item::Route(policy),
            RoutingPart::Address(LoopbackAddress(address)) => Item::Address(address),
        }
    }

    /// The items to remove for a part, including copies.
    pub(super) fn to_remove(&self, part: &RoutingPart) -> Vec<Item> {
        match part {
            RoutingPart::Rule(policy) => self.rules_for(policy).collect(),
            other => vec![self.to_make(other)],
        }
    }

    /// Surplus copies of the rules of `desired`: older tools add one at each run.
    pub(super) fn surplus(&self, desired: &Routing) -> Vec<Item> {
        let policies = desired.policy_routes.iter();
        policies.flat_map(|p| self.rules_for(p).skip(1)).collect()
    }

    /// The rules of a policy, as items to remove.
    fn rules_for(&self, policy: &PolicyRoute) -> impl Iterator<Item = Item> {
        let policy = *policy;
        let same = self.rules.iter().filter(move |r| r.marked == Some(policy));
        same.map(move |r| Item::Rule(policy, r.priority))
    }

    fn has_route(&self, policy: &PolicyRoute) -> bool {
        self.table(policy.family, policy.table)
            .any(|r| r.to_loopback)
    }

    fn table(&self, family: Family, table: u32) -> impl Iterator<Item = &Route> {
        let routes = self.routes.iter();
        routes.filter(move |r| r.family == family && r.table == table)
    }

    /// The priority that the kernel assigns: just before all rules except the first
    /// (`fib_default_rule_pref`). It is given explicitly, so that concurrent runs cannot add two
    /// rules. Rules that may be managed do not count, or each new mark would come before the last
    /// one.
    fn first_priority(&self, family: Family) -> u32 {
        let managed = self.candidates().policy_routes;
        let is_managed = |r: &&Rule| r.marked.is_some_and(|p| managed.contains(&p));
        let rules = self.rules.iter().filter(|r| r.family == family);
        let mut others = rules.filter(|r| !is_managed(r)).skip(1);
        others.next().map_or(0, |r| r.priority.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: Family = Family::V4;

    fn policy(mark: u32, table: u32) -> PolicyRoute {
        PolicyRoute {
            family: FAMILY,
            mark,
            table,
        }
    }

    fn wanting(policies: &[PolicyRoute]) -> Routing {
        Routing {
            policy_routes: policies.to_vec(),
            ..Routing::default()
        }
    }

    fn route(table: u32, to_loopback: bool) -> Route {
        Route {
            family: FAMILY,
            table,
            to_loopback,
        }
    }

    /// The default rule, those of the policies, and their routes.
    fn state(policies: &[PolicyRoute], others: &[u32]) -> State {
        let plain = |priority, table| Rule {
            family: FAMILY,
            priority,
            table: Some(table),
            marked: None,
        };
        let marked = policies.iter().map(|p| Rule {
            marked: Some(*p),
            ..plain(32765, p.table)
        });
        let mut rules = vec![plain(0, 255)];
        rules.extend(marked);
        rules.extend(others.iter().map(|table| plain(32766, *table)));
        let mut state = State {
            rules,
            ..State::default()
        };
        for p in policies {
            if !state.has_route(p) {
                state.routes.push(route(p.table, true));
            }
        }
        state
    }

    #[test]
    fn a_route_stays_where_another_rule_needs_it() {
        let (old, new, far) = (policy(1337, 133), policy(7, 133), policy(9, 77));
        let all = state(&[old, new, far], &[254]);
        let going = |going: &[PolicyRoute], staying: &[PolicyRoute]| {
            all.removable(&wanting(going), &wanting(staying))
        };
        let (rule, route) = (RoutingPart::Rule, RoutingPart::Route);
        assert_eq!(going(&[old], &[new]), [rule(old)]);
        let two = going(&[far, old], &[new]);
        assert_eq!(two, [rule(far), rule(old), route(far)]);
        let both = going(&[old, new], &[far]);
        assert_eq!(both, [rule(old), rule(new), route(old)], "once");
    }

    #[test]
    fn foreign_rules_are_distinguished_from_those_of_the_kernel() {
        let mut state = state(&[policy(1337, 133)], &[254]);
        assert!(state.other_rules(FAMILY).is_empty());
        state.rules.push(Rule {
            family: FAMILY,
            priority: 100,
            table: Some(700),
            marked: None,
        });
        assert_eq!(state.other_rules(FAMILY), [100]);
        assert!(state.other_rules(Family::V6).is_empty());
    }

    #[test]
    fn a_new_mark_takes_the_place_of_the_old_one() {
        let old = state(&[policy(1337, 133)], &[254]);
        assert_eq!(old.first_priority(FAMILY), 32765);
        assert_eq!(state(&[], &[254]).first_priority(FAMILY), 32765);
        assert_eq!(state(&[], &[]).first_priority(FAMILY), 0);
    }

    #[test]
    fn a_table_with_foreign_routes_is_refused() {
        let desired = wanting(&[policy(1337, 133)]);
        let mut state = state(&desired.policy_routes, &[]);
        assert_eq!(state.missing(&desired).unwrap(), []);
        assert_eq!(state.candidates(), desired);
        state.routes.push(route(133, false));
        let message = state.missing(&desired).unwrap_err().to_string();
        assert!(message.contains("IPv4 routing table 133"), "{message}");
        assert_eq!(state.candidates(), desired, "managed among others");
        state.routes.remove(0);
        assert_eq!(state.candidates(), Routing::default(), "all foreign");
        state.routes.clear();
        assert_eq!(state.candidates(), desired, "the route is lost");
    }
}
