//! Rules of ours in chains that are not ours.

use super::origin::{Reason, Unsupported, What};
use super::write::TableEncoder;
use crate::netfilter::backend::Store;
use crate::netfilter::model::{BaseChange, ChainName, Rule};
use crate::netfilter::netlink::{NLM_F_APPEND, Writer};
use crate::netfilter::nftables::dump;
use crate::netfilter::nftables::hooks::{self, Base};
use crate::netfilter::nftables::native::{self, Line, Lists, Part};
use crate::netfilter::nftables::nf_tables::*;

impl<'a> TableEncoder<'_, 'a> {
    /// The rules of ours in a chain that is not ours.
    pub(super) fn change_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let chain = self.chain_found(&change.chain);
        if chain.is_none() {
            self.make_base_chain(&change.chain);
        }
        let adds = !change.head.is_empty() || !change.tail.is_empty();
        let adds = adds.then_some(What::BaseChain(&change.chain));
        if let Some(what) = adds.filter(|_| self.found.is_some_and(|t| t.dormant)) {
            return Err(self.unsupported(what, Reason::Dormant));
        }
        if let (Some(what), Some(found)) = (adds, chain) {
            self.expect_hooked(what, &change.chain, found)?;
        }
        match self.store {
            Store::Native if self.is_all_ours(change) => self.rewrite_base(change),
            _ => self.change_base_among_others(change),
        }
    }

    /// Rules that packets do not come to, or not when they should, are worse than none.
    fn expect_hooked(
        &self,
        what: What<'a>,
        name: &ChainName,
        found: &dump::Chain,
    ) -> Result<(), Unsupported<'a>> {
        let base = found.base.as_ref();
        let wanted = name
            .hook()
            .map(|h| hooks::base(self.store, self.table, h))
            .filter(|_| !hooks::is_hooked_as_named(self.store, self.table, name, base));
        match wanted {
            None => Ok(()),
            Some(wanted) => {
                let found = base.cloned();
                Err(self.unsupported(what, Reason::HookedElsewhere { found, wanted }))
            }
        }
    }

    /// Whether no rules stand in the chain but those of ours that go.
    pub(super) fn is_all_ours(&self, change: &BaseChange) -> bool {
        let parts = self.parts_found(change.chain.as_str());
        let chains = self.chain_found(&change.chain).into_iter().chain(parts);
        let found: usize = chains.map(|c| c.rules.len() + c.hidden as usize).sum();
        let ours: usize = change.delete.iter().map(|r| r.handles.len()).sum();
        found == ours
    }

    /// Only rules of ours stand there: the chain is written like one of our own.
    fn rewrite_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let rules: Vec<&Rule> = change.head.iter().chain(&change.tail).collect();
        if self.chain_found(&change.chain).is_some() {
            self.empty(&change.chain);
        }
        self.make_parts(&change.chain, &rules);
        self.refill(&change.chain, &rules)
    }

    /// Other rules keep their places.
    fn change_base_among_others(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let BaseChange { chain, .. } = change;
        if !self.parts_found(chain.as_str()).is_empty() {
            return Err(self.unsupported(What::Flush(chain), Reason::NotAlone));
        }
        for rule in &change.delete {
            let what = What::RemoveRule(chain, rule);
            for handle in &rule.handles {
                self.remove_rule(what, chain, *handle);
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
        match native::lower(&[rule], &self.part_names(chain)).as_slice() {
            [Part { lines, .. }] if lists.all().next().is_none() => {
                let mut lines: Vec<&Line> = lines.iter().map(|(_, line)| line).collect();
                if flags & NLM_F_APPEND == 0 {
                    lines.reverse();
                }
                let part = chain.as_str();
                let mut lines = lines.into_iter();
                lines.try_for_each(|line| self.line(chain, rule, line, part, &lists, flags))
            }
            _ => Err(self.unsupported(What::Rule(chain, rule), Reason::NotAlone)),
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
