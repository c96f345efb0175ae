//! Rules of ours in chains that are not ours.

use super::origin::{Unsupported, What};
use super::write::TableEncoder;
use crate::backend::Store;
use crate::backend::netlink::dump;
use crate::backend::netlink::hooks::{self, Base};
use crate::backend::netlink::native::{self, Line, Lists, Part};
use crate::backend::netlink::nf_tables::*;
use crate::netlink::{NLM_F_APPEND, Writer};
use crate::ruleset::{BaseChange, ChainName, Rule};

const DORMANT: &str = "the table is dormant, no rule in it takes effect: wake it up first";
const NOT_HOOKED: &str =
    "a chain of this name is there, but it is not hooked in as iptables' is: remove or rename it";
const NOT_ALONE: &str = "somebody else's rules stand in a table that should be ours alone";

impl<'a> TableEncoder<'_, 'a> {
    /// The rules of ours in a chain that is not ours.
    pub fn change_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let chain = self.chain_found(&change.chain);
        if chain.is_none() {
            self.make_base_chain(&change.chain);
        }
        let adds = !change.head.is_empty() || !change.tail.is_empty();
        if adds && self.found.is_some_and(|t| t.dormant) {
            return Err(self.unsupported(What::BaseChain(&change.chain), DORMANT));
        }
        if adds && !chain.is_none_or(|c| is_hooked(c, &change.chain)) {
            return Err(self.unsupported(What::BaseChain(&change.chain), NOT_HOOKED));
        }
        match self.store {
            Store::Native if self.is_all_ours(change) => self.rewrite_base(change),
            _ => self.change_base_among_others(change),
        }
    }

    /// Whether no rules stand in the chain but those of ours that go.
    pub fn is_all_ours(&self, change: &BaseChange) -> bool {
        let parts = self.parts_found(&change.chain);
        let chains = self.chain_found(&change.chain).into_iter().chain(parts);
        let found: usize = chains.map(|c| c.rules.len()).sum();
        let ours: usize = change.delete.iter().map(|r| r.handles.len()).sum();
        found == ours
    }

    /// Only rules of ours stand there: the chain is written like one of our own.
    fn rewrite_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let rules: Vec<&Rule> = change.head.iter().chain(&change.tail).collect();
        if self.chain_found(&change.chain).is_some() {
            self.empty(&change.chain);
        }
        self.refill(&change.chain, &rules)
    }

    /// Other rules keep their places.
    fn change_base_among_others(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let BaseChange { chain, .. } = change;
        for rule in &change.delete {
            let what = What::RemoveRule(chain, rule);
            for handle in &rule.handles {
                self.remove_rule(what, chain, *handle);
            }
            if self.parts_found(chain).next().is_some() {
                return Err(self.unsupported(what, NOT_ALONE));
            }
        }
        // Each goes before everything that is there: the last one first.
        for rule in change.head.iter().rev() {
            self.lone_rule(chain, rule, 0)?;
        }
        for rule in &change.tail {
            self.lone_rule(chain, rule, NLM_F_APPEND)?;
        }
        Ok(())
    }

    /// A rule that shares its chain with somebody else's.
    fn lone_rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        flags: u16,
    ) -> Result<(), Unsupported<'a>> {
        if self.store != Store::Native {
            return self.rule(chain, rule, flags);
        }
        let lists = Lists::of(chain.as_str(), &[rule]);
        match native::lower(chain.as_str(), &[rule]).as_slice() {
            [Part { lines, .. }] if lists.all().next().is_none() => {
                let mut lines: Vec<&Line> = lines.iter().map(|(_, line)| line).collect();
                if flags & NLM_F_APPEND == 0 {
                    lines.reverse();
                }
                let part = chain.as_str();
                let mut lines = lines.into_iter();
                lines.try_for_each(|line| self.line(chain, rule, line, part, &lists, flags))
            }
            _ => Err(self.unsupported(What::Rule(chain, rule), NOT_ALONE)),
        }
    }

    fn make_base_chain(&mut self, name: &'a ChainName) {
        let base = name.hook().map(|h| hooks::base(self.store, self.table, h));
        self.chain(
            NFT_MSG_NEWCHAIN,
            What::BaseChain(name),
            name.as_str(),
            |w| {
                // A chain that iptables has no hook for is a regular one.
                if let Some(base) = base {
                    write_base(&base, w);
                }
            },
        );
    }
}

fn write_base(base: &Base, w: &mut Writer) {
    w.nest(NFTA_CHAIN_HOOK, |w| {
        w.u32(NFTA_HOOK_HOOKNUM, base.hook);
        w.u32(NFTA_HOOK_PRIORITY, base.priority as u32);
    });
    w.u32(NFTA_CHAIN_POLICY, hooks::NF_ACCEPT);
    w.string(NFTA_CHAIN_TYPE, &base.kind);
}

/// Whether packets come to the chain from where its name says.
fn is_hooked(found: &dump::Chain, name: &ChainName) -> bool {
    let hook = name.hook().map(|h| h as u32);
    found.base.as_ref().map(|b| b.hook) == hook
}
