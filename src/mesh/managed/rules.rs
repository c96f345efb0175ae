//! Which rules are ours in chains that are not.

use super::flushed::flushed_chain_rules;
use super::{is_our_chain, is_our_comment, leftovers};
use crate::mesh::istio::signature::SIGNATURE;
use crate::netfilter::model::{
    ChainName, Family, Live, LiveChain, LiveRule, Rule, TableName, same_effects,
};

/// Tells our rules from foreign ones, in what one backend has read.
///
/// Ours carry comments, and one without is foreign however it looks: unless a chain of ours holds a
/// rule without one of our comments. Then a tool that we replace was here (or the kernel has no
/// comments), and rules in base chains are known by their looks.
pub(crate) struct Ours {
    /// The families in which they are.
    by_looks: Vec<Family>,
}

impl Ours {
    /// Looks for traces of the tools replaced.
    pub(crate) fn among(live: &Live) -> Self {
        let mut families = Family::ALL.to_vec();
        families.retain(|f| was_written_by_others(live, *f));
        Ours { by_looks: families }
    }

    /// The rules of a chain that is not ours which are ours, in their order.
    pub(crate) fn rules<'l>(
        &self,
        family: Family,
        table: TableName,
        chain: &'l LiveChain,
    ) -> Vec<&'l LiveRule> {
        let after_flush = self.after_flush(family, table, chain);
        let (first, rest) = chain.rules.split_at(after_flush);
        let by_looks = self.by_looks.contains(&family);
        let is_ours =
            |live: &&LiveRule| is_signed(live) || by_looks && is_leftover(table, &chain.name, live);
        first.iter().chain(rest.iter().filter(is_ours)).collect()
    }

    /// How many rules at the start of a chain a tool has left there after it flushed the chain. One
    /// that flushes IPv6 may have its own chains in IPv4 only.
    fn after_flush(&self, family: Family, table: TableName, chain: &LiveChain) -> usize {
        if self.by_looks.is_empty() {
            return 0;
        }
        let mut left = flushed_chain_rules(family, table, &chain.name).into_iter();
        let stands =
            |left: &Vec<Rule>| same_effects(chain.rules.iter().take(left.len()), left.iter());
        left.find(stands).map_or(0, |left| left.len())
    }
}

/// Whether base chains hold rules that are not managed.
pub(crate) fn holds_foreign_rules(live: &Live) -> bool {
    let ours = Ours::among(live);
    let chains = live
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)));
    let mut foreign = chains.filter(|(_, chain)| !is_our_chain(&chain.name));
    foreign.any(|(t, chain)| ours.rules(t.family, t.name, chain).len() < chain.rules.len())
}

/// Whether a chain of ours in this family holds a rule without one of our comments.
fn was_written_by_others(live: &Live, family: Family) -> bool {
    let tables = live.tables.iter().filter(|t| t.family == family);
    let chains = tables.flat_map(|t| &t.chains);
    chains
        .filter(|c| SIGNATURE.names(&c.name))
        .flat_map(|c| &c.rules)
        .any(|r| !has_our_comment(r))
}

/// Whether a rule says that it is ours: by where it jumps to, or by its comment.
fn is_signed(live: &LiveRule) -> bool {
    live.jump.as_ref().is_some_and(is_our_chain) || has_our_comment(live)
}

fn has_our_comment(live: &LiveRule) -> bool {
    live.comment.as_deref().is_some_and(is_our_comment)
}

/// Whether a tool that we replace writes such a rule, and without a comment as that does.
fn is_leftover(table: TableName, chain: &ChainName, live: &LiveRule) -> bool {
    let looks = |rule: &Rule| leftovers::writes(table, chain, rule);
    live.comment.is_none() && live.rule.as_ref().is_some_and(looks)
}
