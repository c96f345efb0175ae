//! Which rules are managed in chains that are not.

use super::{is_managed_chain, is_managed_comment};
use crate::mesh::istio::leftovers;
use crate::mesh::istio::signature::SIGNATURE;
use crate::mesh::istio_1_0::flushed::flushed_chain_rules;
use crate::netfilter::model::{
    ChainName, Family, Observed, ObservedChain, ObservedRule, ObservedTable, Rule, TableName,
    same_effects,
};

/// Tells managed rules from foreign ones, in what one backend has read.
///
/// Managed rules carry comments, and one without is foreign: unless a managed chain holds a
/// rule without one of our comments. Then a tool that we replace was here (or the kernel has no
/// comments), and rules in base chains are known by their looks.
pub(crate) struct ManagedRules {
    /// The families in which they are.
    by_looks: Vec<Family>,
}

impl ManagedRules {
    /// Looks for traces of the tools replaced.
    pub(crate) fn among(observed: &Observed) -> Self {
        let mut families = Family::ALL.to_vec();
        families.retain(|f| was_written_by_others(observed, *f));
        ManagedRules { by_looks: families }
    }

    /// The managed rules of a chain that is not managed, in order.
    pub(crate) fn rules<'l>(
        &self,
        family: Family,
        table: TableName,
        chain: &'l ObservedChain,
    ) -> Vec<&'l ObservedRule> {
        let after_flush = self.after_flush(family, table, chain);
        let (first, rest) = chain.rules.split_at(after_flush);
        let by_looks = self.by_looks.contains(&family);
        let is_managed = |observed: &&ObservedRule| {
            is_signed(observed) || by_looks && is_leftover(table, &chain.name, observed)
        };
        first.iter().chain(rest.iter().filter(is_managed)).collect()
    }

    /// How many rules at the start of a chain a tool has left there after it flushed the chain. One
    /// that flushes IPv6 may have its own chains in IPv4 only.
    fn after_flush(&self, family: Family, table: TableName, chain: &ObservedChain) -> usize {
        if self.by_looks.is_empty() {
            return 0;
        }
        let mut left = flushed_chain_rules(family, table, &chain.name).into_iter();
        let stands =
            |left: &Vec<Rule>| same_effects(chain.rules.iter().take(left.len()), left.iter());
        left.find(stands).map_or(0, |left| left.len())
    }
}

/// How many rules of some backends are not managed; a policy that drops is one.
pub(crate) fn count_foreign_rules<'o>(observed: impl IntoIterator<Item = &'o Observed>) -> usize {
    observed.into_iter().map(foreign_rules).sum()
}

fn foreign_rules(observed: &Observed) -> usize {
    let managed = ManagedRules::among(observed);
    let chains = observed
        .tables
        .iter()
        .flat_map(|t| t.chains.iter().map(move |c| (t, c)));
    let foreign = chains.filter(|(_, chain)| !is_managed_chain(&chain.name));
    let count = |(t, chain): (&ObservedTable, &ObservedChain)| {
        let rules = chain.rules.len() - managed.rules(t.family, t.name, chain).len();
        rules + usize::from(chain.drops)
    };
    foreign.map(count).sum()
}

/// Whether a managed chain of this family holds a rule without a managed comment.
fn was_written_by_others(observed: &Observed, family: Family) -> bool {
    let tables = observed.tables.iter().filter(|t| t.family == family);
    let chains = tables.flat_map(|t| &t.chains);
    chains
        .filter(|c| SIGNATURE.names(&c.name))
        .flat_map(|c| &c.rules)
        .any(|r| !has_managed_comment(r))
}

/// Whether a rule is managed by where it jumps to, or by its comment.
pub(crate) fn is_signed(observed: &ObservedRule) -> bool {
    observed.jump.as_ref().is_some_and(is_managed_chain) || has_managed_comment(observed)
}

fn has_managed_comment(observed: &ObservedRule) -> bool {
    observed.comment.as_deref().is_some_and(is_managed_comment)
}

/// Whether a tool that we replace writes such a rule, and without a comment as that does.
fn is_leftover(table: TableName, chain: &ChainName, observed: &ObservedRule) -> bool {
    let looks = |rule: &Rule| leftovers::writes(table, chain, rule);
    let rule = observed.rule.as_ref();
    let is_written = rule.map_or_else(|| leftovers::only_logs(&observed.text), looks);
    observed.comment.is_none() && is_written
}
