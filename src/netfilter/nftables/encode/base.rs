//! Managed rules in base chains.

use super::origin::{Operation, Reason, Unsupported};
use super::write::TableEncoder;
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{BaseChange, ChainName, Rule};
use crate::netfilter::netlink::{NLM_F_APPEND, Writer};
use crate::netfilter::nftables::dump;
use crate::netfilter::nftables::hooks::{self, Base};
use crate::netfilter::nftables::native::Lists;
use crate::netfilter::nftables::nf_tables::*;

impl<'a> TableEncoder<'_, 'a> {
    pub(super) fn change_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        if self.is_to_be_made(change) {
            if self.chain_found(&change.chain).is_some() {
                self.empty(&change.chain);
                self.remove_chain(&change.chain);
            }
            self.make_base_chain(&change.chain);
            let rules: Vec<&Rule> = change.head.iter().chain(&change.tail).collect();
            return self.fill(&change.chain, &rules);
        }
        if let Some(found) = self.chain_found(&change.chain).filter(|_| adds(change)) {
            self.expect_hooked(Operation::BaseChain(&change.chain), &change.chain, found)?;
        }
        match self.kind {
            TableKind::Native if self.is_all_managed(change) => self.rewrite_base(change),
            _ => self.change_base_among_others(change),
        }
    }

    /// Refuses chains that are not hooked as expected: rules there would not take effect, or at the
    /// wrong time.
    fn expect_hooked(
        &self,
        what: Operation<'a>,
        name: &ChainName,
        found: &dump::Chain,
    ) -> Result<(), Unsupported<'a>> {
        let base = found.base.as_ref();
        let wanted = name
            .hook()
            .map(|h| hooks::base(self.kind, self.table, h))
            .filter(|_| !hooks::is_hooked_as_named(self.kind, self.table, name, base));
        match wanted {
            None => Ok(()),
            Some(wanted) => {
                let found = base.cloned();
                Err(self.unsupported(what, Reason::HookedElsewhere { found, wanted }))
            }
        }
    }

    /// Whether the chain is missing, or hooked elsewhere with nothing but managed rules.
    pub(super) fn is_to_be_made(&self, change: &BaseChange) -> bool {
        let Some(found) = self.chain_found(&change.chain) else {
            return true;
        };
        let (name, base) = (&change.chain, found.base.as_ref());
        let elsewhere = !hooks::is_hooked_as_named(self.kind, self.table, name, base);
        let is_managed = !found.rules.is_empty() && self.is_all_managed(change);
        // A chain with jumps to it cannot be removed.
        let alone = found.uses == Some(found.rules.len() as u32);
        elsewhere && is_managed && alone && adds(change)
    }

    /// Whether the chain holds only managed rules that are deleted.
    pub(super) fn is_all_managed(&self, change: &BaseChange) -> bool {
        let found = self.chain_found(&change.chain);
        let found = found.map_or(0, |c| c.rules.len() + c.hidden as usize);
        let managed: usize = change.delete.iter().map(|r| r.handles.len()).sum();
        found == managed
    }

    /// Rewrites a chain that holds only managed rules.
    fn rewrite_base(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let rules: Vec<&Rule> = change.head.iter().chain(&change.tail).collect();
        self.empty(&change.chain);
        self.fill(&change.chain, &rules)
    }

    /// Changes managed rules in place; foreign ones keep their places.
    fn change_base_among_others(&mut self, change: &'a BaseChange) -> Result<(), Unsupported<'a>> {
        let BaseChange { chain, .. } = change;
        for rule in &change.delete {
            let what = Operation::RemoveRule(chain, rule);
            for handle in &rule.handles {
                self.remove_rule(what, chain, *handle);
            }
        }
        // Each is inserted first, so the last one comes first.
        for rule in change.head.iter().rev() {
            self.lone_rule(chain, rule, 0)?;
        }
        for rule in &change.tail {
            self.lone_rule(chain, rule, NLM_F_APPEND)?;
        }
        Ok(())
    }

    /// Adds one rule to a chain with foreign rules.
    fn lone_rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        flags: u16,
    ) -> Result<(), Unsupported<'a>> {
        let lists = Lists::of(chain.as_str(), &[rule]);
        match lists.all().next() {
            None => self.rule(chain, rule, &lists, flags),
            Some(_) => Err(self.unsupported(Operation::Rule(chain, rule), Reason::NotAlone)),
        }
    }

    fn make_base_chain(&mut self, name: &'a ChainName) {
        let base = name.hook().map(|h| hooks::base(self.kind, self.table, h));
        self.chain(
            NFT_MSG_NEWCHAIN,
            Operation::BaseChain(name),
            name.as_str(),
            |w| {
                // A chain without a hook of iptables is a regular one.
                if let Some(base) = base {
                    write_base(&base, w);
                }
            },
        );
    }
}

fn adds(change: &BaseChange) -> bool {
    !change.head.is_empty() || !change.tail.is_empty()
}

fn write_base(base: &Base, w: &mut Writer) {
    w.nest(NFTA_CHAIN_HOOK, |w| {
        w.u32(NFTA_HOOK_HOOKNUM, base.hook);
        w.u32(NFTA_HOOK_PRIORITY, base.priority as u32);
    });
    w.u32(NFTA_CHAIN_POLICY, hooks::NF_ACCEPT);
    w.string(NFTA_CHAIN_TYPE, &base.kind);
}
