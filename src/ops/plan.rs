//! What has to change: pure, from what is there and what is wanted.

use crate::mesh;
use crate::ruleset::{
    BaseChange, Chain, ChainName, ChainRewrite, Change, Family, Live, LiveChain, LiveRule,
    LiveTable, Place, Rule, Ruleset, Table, TableChange, TableName,
};

/// The change that turns all that is ours in `live` into `wanted`, and leaves the rest alone. Empty
/// when they agree; comments are not compared. With an empty ruleset it removes all that is ours.
pub fn plan(live: &Live, wanted: &Ruleset) -> Change {
    let mut change = Change::default();
    let foreign_hands = Family::ALL.map(|f| somebody_else_wrote_our_chains(live, f));
    for family in Family::ALL {
        for name in TableName::ALL {
            let table = TablePlan {
                live: live.table(family, name),
                wanted: wanted.table(family, name),
                family,
                name,
                trust: foreign_hands[family as usize],
                trust_beginnings: foreign_hands.contains(&true),
            };
            change.tables.extend(table.change());
        }
    }
    change
}

/// Whether an `ISTIO_*` chain of this family holds a rule without one of our comments: then a tool
/// that we replace was here (or the kernel has no comments), and rules in base chains are known by
/// their looks. Otherwise ours carry comments, and one without is foreign however it looks.
fn somebody_else_wrote_our_chains(live: &Live, family: Family) -> bool {
    let tables = live.tables.iter().filter(|t| t.family == family);
    let chains = tables.flat_map(|t| &t.chains).filter(|c| c.name.is_ours());
    chains.flat_map(|c| &c.rules).any(|r| !has_our_comment(r))
}

fn has_our_comment(live: &LiveRule) -> bool {
    let comment = live.comment.as_deref();
    comment.is_some_and(|c| crate::ruleset::Why::from_comment(c).is_some())
}

/// One table, before and after.
struct TablePlan<'a> {
    live: Option<&'a LiveTable>,
    wanted: Option<&'a Table>,
    family: Family,
    name: TableName,
    /// Whether rules without a comment may be ours by their looks.
    trust: bool,
    /// The same, in whatever family, of rules that are the first ones in their chain.
    trust_beginnings: bool,
}

impl<'a> TablePlan<'a> {
    fn change(&self) -> Option<TableChange> {
        let change = TableChange {
            family: self.family,
            name: self.name,
            rewrite: self.rewrites(),
            remove: self.leftovers().map(|c| c.name.clone()).collect(),
            base: self.base_changes(),
        };
        let nothing =
            change.rewrite.is_empty() && change.remove.is_empty() && change.base.is_empty();
        (!nothing).then_some(change)
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
        for chain in self.wanted_chains().filter(|c| c.name.is_ours()) {
            let live = self.live.and_then(|t| t.chain(&chain.name));
            if live.is_none_or(|l| !same(l.rules.iter(), chain.rules.iter())) {
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
            .filter(move |c| c.name.is_ours() && !stays(c))
    }

    /// Every chain that is not ours but holds, or is to hold, rules of ours.
    fn base_changes(&self) -> Vec<BaseChange> {
        let live = self.live_chains().map(|c| &c.name);
        let mut names: Vec<_> = live.filter(|n| !n.is_ours()).collect();
        for chain in self.wanted_chains() {
            if !chain.name.is_ours() && !names.contains(&&chain.name) {
                names.push(&chain.name);
            }
        }
        let changes = names.into_iter().filter_map(|name| {
            let live = self.live.and_then(|t| t.chain(name));
            let wanted = self.wanted_chains().find(|c| c.name == *name);
            self.base_change(live, wanted)
        });
        changes.collect()
    }

    fn base_change(&self, live: Option<&LiveChain>, wanted: Option<&Chain>) -> Option<BaseChange> {
        let name = live.map(|c| &c.name).or(wanted.map(|c| &c.name))?;
        let rules = live.map_or(&[][..], |c| &c.rules);
        let (first, rest) = rules.split_at(self.beginning(name, rules));
        let rest = rest.iter().filter(|r| self.is_ours(name, r));
        let ours: Vec<&LiveRule> = first.iter().chain(rest).collect();
        let at = |place: Place| {
            let rules = wanted.into_iter().flat_map(|c| &c.rules);
            rules.filter(move |r| r.place == place)
        };
        if same(ours.iter().copied(), at(Place::Head).chain(at(Place::Tail))) {
            return None;
        }
        Some(BaseChange {
            chain: name.clone(),
            delete: ours.into_iter().cloned().collect(),
            head: at(Place::Head).cloned().collect(),
            tail: at(Place::Tail).cloned().collect(),
        })
    }

    /// How many rules at the start of a base chain a tool replaced has left, after it flushed what
    /// was there.
    fn beginning(&self, chain: &ChainName, rules: &[LiveRule]) -> usize {
        let left = |begin: &Vec<Rule>| {
            rules.len() >= begin.len() && same(rules.iter().take(begin.len()), begin.iter())
        };
        let begins = mesh::beginnings(self.family, self.name, chain);
        match self.trust_beginnings {
            true => begins.iter().find(|b| left(b)).map_or(0, Vec::len),
            false => 0,
        }
    }

    /// Whether a rule in a chain that is not ours is.
    fn is_ours(&self, chain: &ChainName, live: &LiveRule) -> bool {
        let jumps = live.jump.as_ref().is_some_and(|c| c.is_ours());
        let looks = |rule: &Rule| mesh::any_writes(self.name, chain, rule);
        jumps || has_our_comment(live) || self.trust && live.rule.as_ref().is_some_and(looks)
    }
}

/// Whether the rules in the kernel do what is wanted, one by one and in the same order.
fn same<'a>(
    live: impl Iterator<Item = &'a LiveRule>,
    wanted: impl Iterator<Item = &'a Rule>,
) -> bool {
    let agrees = |live: &LiveRule, wanted: &Rule| {
        live.rule
            .as_ref()
            .is_some_and(|rule| rule.same_effect(wanted))
    };
    let (mut live, mut wanted) = (live, wanted);
    loop {
        match (live.next(), wanted.next()) {
            (None, None) => return true,
            (Some(l), Some(w)) if agrees(l, w) => {}
            _ => return false,
        }
    }
}
