//! The difference between the observed and the desired state, as a change. Pure.

use crate::mesh::managed::{ManagedRules, is_managed_chain};
use crate::netfilter::model::{
    BaseChange, Chain, ChainName, ChainRewrite, Change, Family, Observed, ObservedChain,
    ObservedRule, ObservedTable, Place, Rule, Ruleset, Table, TableChange, TableName, same_effects,
};
use std::collections::HashMap;

/// The change that brings everything managed in `observed` to `desired`. Foreign rules and comments are
/// not compared. An empty ruleset removes everything managed.
pub fn plan(observed: &Observed, desired: &Ruleset) -> Change {
    let mut change = Change {
        remove: observed.inet_tables.clone(),
        ..Change::default()
    };
    let managed = ManagedRules::among(observed);
    for family in Family::ALL {
        for name in TableName::ALL {
            let table = TablePlan {
                observed: observed.table(family, name),
                desired: desired.table(family, name),
                family,
                name,
                managed: &managed,
            };
            change.tables.extend(table.change());
        }
    }
    change
}

/// How many rules of `desired` are missing from their chains, regardless of order and comments.
pub(crate) fn missing(observed: &Observed, desired: &Ruleset) -> usize {
    let chains = desired
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)));
    let missing = chains.map(|(table, chain)| {
        let found = observed.table(table.family, table.name);
        let Some(found) = found.and_then(|t| t.chain(&chain.name)) else {
            return chain.rules.len();
        };
        let mut there: HashMap<_, usize> = HashMap::new();
        for rule in found.rules.iter().filter_map(|r| r.rule.as_ref()) {
            *there.entry((&rule.matches, &rule.target)).or_default() += 1;
        }
        let desired = chain.rules.iter().filter(|rule| {
            let found = there.get_mut(&(&rule.matches, &rule.target));
            let left = found.filter(|count| **count > 0);
            left.map(|count| *count -= 1).is_none()
        });
        desired.count()
    });
    missing.sum()
}

/// One table, observed and desired.
struct TablePlan<'a> {
    observed: Option<&'a ObservedTable>,
    desired: Option<&'a Table>,
    family: Family,
    name: TableName,
    managed: &'a ManagedRules,
}

impl<'a> TablePlan<'a> {
    fn change(&self) -> Option<TableChange> {
        let change = TableChange {
            family: self.family,
            name: self.name,
            wake: self.is_dormant(),
            accept: self.policies(),
            rewrite: self.rewrites(),
            remove: self.leftovers().map(|c| c.name.clone()).collect(),
            base: self.base_changes(),
        };
        (!change.is_empty()).then_some(change)
    }

    /// Whether desired rules would not be in force because the table is dormant.
    fn is_dormant(&self) -> bool {
        let anything = self.desired_chains().any(|c| !c.rules.is_empty());
        anything && self.observed.is_some_and(|t| t.dormant)
    }

    /// Base chains of managed rules whose policy drops. In the table filter that is left to
    /// firewalls.
    fn policies(&self) -> Vec<ChainName> {
        let drops = |c: &&Chain| {
            let observed = self.observed.and_then(|t| t.chain(&c.name));
            observed.is_some_and(|l| l.drops) && !c.rules.is_empty()
        };
        let chains = self.desired_chains().filter(drops);
        let chains = chains.filter(|_| self.name != TableName::Filter);
        chains.map(|c| c.name.clone()).collect()
    }

    fn observed_chains(&self) -> impl Iterator<Item = &'a ObservedChain> {
        self.observed.into_iter().flat_map(|t| &t.chains)
    }

    fn desired_chains(&self) -> impl Iterator<Item = &'a Chain> {
        self.desired.into_iter().flat_map(|t| &t.chains)
    }

    /// Managed chains that are missing or differ.
    fn rewrites(&self) -> Vec<ChainRewrite> {
        let mut rewrites = Vec::new();
        for chain in self.desired_chains().filter(|c| is_managed_chain(&c.name)) {
            let observed = self.observed.and_then(|t| t.chain(&chain.name));
            if observed.is_none_or(|l| !same_effects(l.rules.iter(), chain.rules.iter())) {
                rewrites.push(ChainRewrite {
                    name: chain.name.clone(),
                    exists: observed.is_some(),
                    rules: chain.rules.clone(),
                });
            }
        }
        rewrites
    }

    /// Managed chains that are no longer desired.
    fn leftovers(&self) -> impl Iterator<Item = &'a ObservedChain> {
        let desired = self.desired;
        let stays = move |chain: &ObservedChain| {
            desired.is_some_and(|t| t.chains.iter().any(|c| c.name == chain.name))
        };
        self.observed_chains()
            .filter(move |c| is_managed_chain(&c.name) && !stays(c))
    }

    /// Base chains that hold, or are to hold, managed rules.
    fn base_changes(&self) -> Vec<BaseChange> {
        let observed = self
            .observed_chains()
            .filter(|c| !is_managed_chain(&c.name));
        let new = self.desired_chains().filter(|desired| {
            let is_there = self
                .observed
                .is_some_and(|t| t.chain(&desired.name).is_some());
            !is_managed_chain(&desired.name) && !is_there
        });
        let changes = observed.filter_map(|observed| {
            let desired = self.desired_chains().find(|c| c.name == observed.name);
            self.base_change(Some(observed), desired)
        });
        changes
            .chain(new.filter_map(|desired| self.base_change(None, Some(desired))))
            .collect()
    }

    fn base_change(
        &self,
        observed: Option<&ObservedChain>,
        desired: Option<&Chain>,
    ) -> Option<BaseChange> {
        let name = observed.map(|c| &c.name).or(desired.map(|c| &c.name))?;
        let managed = observed.map_or(Vec::new(), |c| {
            self.managed.rules(self.family, self.name, c)
        });
        let rules = desired.into_iter().flat_map(|c| &c.rules);
        let (head, tail): (Vec<&Rule>, Vec<&Rule>) = rules.partition(|r| r.place != Place::Tail);
        let first = head.iter().filter(|r| r.place == Place::First).count();
        let wanted = head.iter().chain(&tail).copied();
        if same_effects(managed.iter().copied(), wanted) && stand_first(&managed[..first], observed)
        {
            return None;
        }
        Some(BaseChange {
            chain: name.clone(),
            delete: managed.into_iter().cloned().collect(),
            head: head.into_iter().cloned().collect(),
            tail: tail.into_iter().cloned().collect(),
        })
    }
}

/// Whether these rules of a chain are its first ones.
fn stand_first(rules: &[&ObservedRule], chain: Option<&ObservedChain>) -> bool {
    let all = chain.into_iter().flat_map(|c| &c.rules);
    rules
        .iter()
        .zip(all)
        .all(|(rule, at)| std::ptr::eq(*rule, at))
}
