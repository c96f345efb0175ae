//! Rules of ours in chains that are not ours.

use super::origin::{Unsayable, What};
use super::write::{DELETE_RULE, NEW_CHAIN, Within};
use crate::backend::Store;
use crate::backend::netlink::native::{self, Line, Lists, Part};
use crate::backend::netlink::seen;
use crate::backend::netlink::store::{self, Base};
use crate::netlink::{NLM_F_APPEND, Writer};
use crate::ruleset::{BaseChange, ChainName, Rule};

const DORMANT: &str = "the table is dormant, no rule in it takes effect: wake it up first";
const NOT_HOOKED: &str =
    "a chain of this name is there, but it is not hooked in as iptables' is: remove or rename it";
const NOT_ALONE: &str = "somebody else's rules stand in a table that should be ours alone";

impl<'a> Within<'_, 'a> {
    /// The rules of ours in a chain that is not ours.
    pub fn change_base(
        &mut self,
        change: &'a BaseChange,
        found: Option<&seen::Table>,
    ) -> Result<(), Unsayable<'a>> {
        let chain = found.and_then(|t| t.chain(change.chain.as_str()));
        if chain.is_none() {
            self.make_base_chain(&change.chain);
        }
        let adds = !change.head.is_empty() || !change.tail.is_empty();
        if adds && found.is_some_and(|t| t.dormant) {
            return Err(self.unsayable(What::BaseChain(&change.chain), DORMANT));
        }
        if adds && !chain.is_none_or(|c| is_hooked(c, &change.chain)) {
            return Err(self.unsayable(What::BaseChain(&change.chain), NOT_HOOKED));
        }
        let all_ours = chain.is_none_or(|c| c.count == change.delete.len());
        match self.store {
            Store::Native if all_ours => self.rewrite_base(change, found),
            _ => self.change_base_among_others(change, chain),
        }
    }

    /// Only rules of ours stand there: the chain is written like one of our own.
    fn rewrite_base(
        &mut self,
        change: &'a BaseChange,
        found: Option<&seen::Table>,
    ) -> Result<(), Unsayable<'a>> {
        let rules: Vec<&Rule> = change.head.iter().chain(&change.tail).collect();
        let chain = found.and_then(|t| t.chain(change.chain.as_str()));
        self.make_parts(&change.chain, &rules, chain);
        if chain.is_some() {
            self.empty(&change.chain, found);
        }
        self.fill(&change.chain, &rules)?;
        self.remove_parts(&change.chain, &rules, chain);
        Ok(())
    }

    /// Other rules keep their places.
    fn change_base_among_others(
        &mut self,
        change: &'a BaseChange,
        found: Option<&seen::Chain>,
    ) -> Result<(), Unsayable<'a>> {
        let BaseChange { chain, .. } = change;
        for rule in &change.delete {
            let what = What::RemoveRule(chain, rule);
            let companions = found.map_or(&[][..], |c| c.companions(rule.handle));
            for handle in std::iter::once(&rule.handle).chain(companions) {
                self.message(DELETE_RULE, 0, what, |w| {
                    w.string(2, chain.as_str());
                    w.u64(3, *handle);
                });
            }
            if found.is_some_and(|c| !c.parts.is_empty()) {
                return Err(self.unsayable(what, NOT_ALONE));
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
    ) -> Result<(), Unsayable<'a>> {
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
            _ => Err(self.unsayable(What::Rule(chain, rule), NOT_ALONE)),
        }
    }

    fn make_base_chain(&mut self, name: &'a ChainName) {
        let base = name.hook().map(|h| store::base(self.store, self.table, h));
        self.chain(NEW_CHAIN, What::BaseChain(name), name.as_str(), |w| {
            // A chain that iptables has no hook for is a regular one.
            if let Some(base) = base {
                write_base(&base, w);
            }
        });
    }
}

fn write_base(base: &Base, w: &mut Writer) {
    w.nest(4, |w| {
        w.u32(1, base.hook);
        w.u32(2, base.priority as u32);
    });
    w.u32(5, store::ACCEPT);
    w.string(7, &base.kind);
}

/// Whether packets come to the chain from where its name says.
fn is_hooked(found: &seen::Chain, name: &ChainName) -> bool {
    let hook = name.hook().map(|h| h as u32);
    found.base.as_ref().map(|b| b.hook) == hook
}
