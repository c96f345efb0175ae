//! What has to change: pure, from what is there and what is wanted.

use crate::mesh::managed::{Ours, is_our_chain};
use crate::netfilter::model::{
    BaseChange, Chain, ChainName, ChainRewrite, Change, Family, Live, LiveChain, LiveTable, Place,
    Ruleset, Table, TableChange, TableName, same_effects,
};
use std::collections::HashMap;

/// The change that turns all that is ours in `live` into `wanted`, and leaves the rest alone. Empty
/// when they agree; comments are not compared. With an empty ruleset it removes all that is ours.
pub fn plan(live: &Live, wanted: &Ruleset) -> Change {
    let mut change = Change {
        remove: live.inet_tables.clone(),
        ..Change::default()
    };
    let ours = Ours::among(live);
    for family in Family::ALL {
        for name in TableName::ALL {
            let table = TablePlan {
                live: live.table(family, name),
                wanted: wanted.table(family, name),
                family,
                name,
                ours: &ours,
            };
            change.tables.extend(table.change());
        }
    }
    change
}

/// How many of the rules in `wanted` are in none of the places that they are wanted in. Order is not
/// looked at, nor are comments.
pub(crate) fn missing(live: &Live, wanted: &Ruleset) -> usize {
    let chains = wanted
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)));
    let missing = chains.map(|(table, chain)| {
        let found = live.table(table.family, table.name);
        let found = found.and_then(|t| t.chain(&chain.name));
        let mut there: HashMap<_, usize> = HashMap::new();
        let known = found.iter().flat_map(|c| &c.rules);
        for rule in known.filter_map(|r| r.rule.as_ref()) {
            *there.entry((&rule.matches, &rule.target)).or_default() += 1;
        }
        let wanted = chain.rules.iter().filter(|rule| {
            let found = there.get_mut(&(&rule.matches, &rule.target));
            let left = found.filter(|count| **count > 0);
            left.map(|count| *count -= 1).is_none()
        });
        wanted.count()
    });
    missing.sum()
}

/// One table, before and after.
struct TablePlan<'a> {
    live: Option<&'a LiveTable>,
    wanted: Option<&'a Table>,
    family: Family,
    name: TableName,
    ours: &'a Ours,
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

    /// Whether what is wanted in the table would not be in force.
    fn is_dormant(&self) -> bool {
        let anything = self.wanted_chains().any(|c| !c.rules.is_empty());
        anything && self.live.is_some_and(|t| t.dormant)
    }

    /// The base chains with rules of ours that drop what these let pass. To drop is a firewall's
    /// business in the table filter, and nobody's elsewhere.
    fn policies(&self) -> Vec<ChainName> {
        let drops = |c: &&Chain| {
            let live = self.live.and_then(|t| t.chain(&c.name));
            live.is_some_and(|l| l.drops) && !c.rules.is_empty()
        };
        let chains = self.wanted_chains().filter(drops);
        let chains = chains.filter(|_| self.name != TableName::Filter);
        chains.map(|c| c.name.clone()).collect()
    }

    fn live_chains(&self) -> impl Iterator<Item = &'a LiveChain> {
        self.live.into_iter().flat_map(|t| &t.chains)
    }

    fn wanted_chains(&self) -> impl Iterator<Item = &'a Chain> {
        self.wanted.into_iter().flat_map(|t| &t.chains)
    }

    /// Chains of ours that are not there, or do not hold just what is wanted.
    fn rewrites(&self) -> Vec<ChainRewrite> {
        let mut rewrites = Vec::new();
        for chain in self.wanted_chains().filter(|c| is_our_chain(&c.name)) {
            let live = self.live.and_then(|t| t.chain(&chain.name));
            if live.is_none_or(|l| !same_effects(l.rules.iter(), chain.rules.iter())) {
                rewrites.push(ChainRewrite {
                    name: chain.name.clone(),
                    exists: live.is_some(),
                    rules: chain.rules.clone(),
                });
            }
        }
        rewrites
    }

    /// Chains of ours that nobody wants any more.
    fn leftovers(&self) -> impl Iterator<Item = &'a LiveChain> {
        let wanted = self.wanted;
        let stays = move |chain: &LiveChain| {
            wanted.is_some_and(|t| t.chains.iter().any(|c| c.name == chain.name))
        };
        self.live_chains()
            .filter(move |c| is_our_chain(&c.name) && !stays(c))
    }

    /// Every chain that is not ours but holds, or is to hold, rules of ours.
    fn base_changes(&self) -> Vec<BaseChange> {
        let live = self.live_chains().filter(|c| !is_our_chain(&c.name));
        let new = self.wanted_chains().filter(|wanted| {
            let is_there = self.live.is_some_and(|t| t.chain(&wanted.name).is_some());
            !is_our_chain(&wanted.name) && !is_there
        });
        let changes = live.filter_map(|live| {
            let wanted = self.wanted_chains().find(|c| c.name == live.name);
            self.base_change(Some(live), wanted)
        });
        changes
            .chain(new.filter_map(|wanted| self.base_change(None, Some(wanted))))
            .collect()
    }

    fn base_change(&self, live: Option<&LiveChain>, wanted: Option<&Chain>) -> Option<BaseChange> {
        let name = live.map(|c| &c.name).or(wanted.map(|c| &c.name))?;
        let ours = live.map_or(Vec::new(), |c| self.ours.rules(self.family, self.name, c));
        let at = |place: Place| {
            let rules = wanted.into_iter().flat_map(|c| &c.rules);
            rules.filter(move |r| r.place == place)
        };
        if same_effects(ours.iter().copied(), at(Place::Head).chain(at(Place::Tail))) {
            return None;
        }
        Some(BaseChange {
            chain: name.clone(),
            delete: ours.into_iter().cloned().collect(),
            head: at(Place::Head).cloned().collect(),
            tail: at(Place::Tail).cloned().collect(),
        })
    }
}
