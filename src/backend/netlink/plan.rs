//! From a change to the messages that make it, in their order.
//!
//! First what nothing is hooked to yet: tables, our chains, their rules. Then base chains and the
//! rules in them. At last what nothing jumps to any more.

use super::batch::Batch;
use super::seen::{self, Seen};
use super::store::{self, Base};
use super::xt;
use crate::backend::Store;
use crate::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_NONREC, Writer};
use crate::ruleset::{
    BaseChange, ChainName, Change, Family, LiveRule, Rule, TableChange, TableName,
};
use std::fmt;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;

/// What a message is about.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub family: Family,
    pub table: TableName,
    pub what: What<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    Table,
    RemoveTable,
    Chain(&'a ChainName),
    BaseChain(&'a ChainName),
    Flush(&'a ChainName),
    RemoveChain(&'a ChainName),
    Rule(&'a ChainName, &'a Rule),
    RemoveRule(&'a ChainName, &'a LiveRule),
}

/// Something in a change that this encoding cannot say.
#[derive(Clone, Copy, Debug)]
pub struct Unsayable<'a>(pub Origin<'a>);

/// All messages of a change, made from what was seen.
pub fn plan<'a>(
    change: &'a Change,
    seen: &Seen,
    store: Store,
) -> Result<Batch<Origin<'a>>, Unsayable<'a>> {
    let mut plan = Plan {
        store,
        batch: Batch::new(),
    };
    for table in &change.tables {
        plan.declare(table, seen);
    }
    for table in &change.tables {
        plan.fill(table)?;
    }
    plan.batch.hooks();
    for table in &change.tables {
        let mut at = plan.within(table);
        for base in &table.base {
            at.change_base(base, seen_chain(seen, table, &base.chain))?;
        }
    }
    for table in &change.tables {
        plan.remove(table, seen);
    }
    Ok(plan.batch)
}

struct Plan<'a> {
    store: Store,
    batch: Batch<Origin<'a>>,
}

/// The messages of one table.
struct Within<'p, 'a> {
    batch: &'p mut Batch<Origin<'a>>,
    store: Store,
    family: Family,
    table: TableName,
}

impl<'a> Plan<'a> {
    fn within(&mut self, table: &TableChange) -> Within<'_, 'a> {
        Within {
            batch: &mut self.batch,
            store: self.store,
            family: table.family,
            table: table.name,
        }
    }

    /// Makes the table and our chains, as far as they are not there.
    fn declare(&mut self, table: &'a TableChange, seen: &Seen) {
        let exists = seen.table(table.family, table.name).is_some();
        let mut at = self.within(table);
        if !exists {
            at.message(NEW_TABLE, NLM_F_CREATE, What::Table, |_| {});
        }
        for chain in table.rewrite.iter().filter(|c| !c.exists) {
            at.chain(NEW_CHAIN, NLM_F_CREATE, &chain.name, What::Chain, |_| {});
        }
    }

    /// Empties our chains that were there, and writes all rules of our chains.
    fn fill(&mut self, table: &'a TableChange) -> Result<(), Unsayable<'a>> {
        let mut at = self.within(table);
        for chain in table.rewrite.iter().filter(|c| c.exists) {
            at.flush(&chain.name);
        }
        for chain in &table.rewrite {
            for rule in &chain.rules {
                at.rule(&chain.name, rule, NLM_F_APPEND)?;
            }
        }
        Ok(())
    }

    /// Takes away our stale chains, and then what nothing is left in.
    fn remove(&mut self, table: &'a TableChange, seen: &Seen) {
        let mut at = self.within(table);
        // They may jump to one another: first they are all emptied.
        for name in &table.remove {
            at.flush(name);
        }
        for name in &table.remove {
            at.chain(DELETE_CHAIN, 0, name, What::RemoveChain, |_| {});
        }
        let Some(found) = seen.table(table.family, table.name) else {
            return;
        };
        let mut left = found.chains.len() - table.remove.len().min(found.chains.len());
        for base in &table.base {
            let chain = found.chain(base.chain.as_str());
            if chain.is_some_and(|c| is_left_empty(base, c, at.store, table.name)) {
                at.chain(DELETE_CHAIN, 0, &base.chain, What::RemoveChain, |_| {});
                left -= 1;
            }
        }
        let only_chains = found.uses as usize == found.chains.len();
        if left == 0 && only_chains && is_mere_removal(table) {
            at.message(DELETE_TABLE, NLM_F_NONREC, What::RemoveTable, |_| {});
        }
    }
}

impl<'a> Within<'_, 'a> {
    /// The rules of ours in a chain that is not ours.
    fn change_base(
        &mut self,
        change: &'a BaseChange,
        found: Option<&seen::Chain>,
    ) -> Result<(), Unsayable<'a>> {
        if found.is_none() {
            self.base_chain(&change.chain);
        }
        for rule in &change.delete {
            let what = What::RemoveRule(&change.chain, rule);
            self.message(DELETE_RULE, 0, what, |w| {
                w.string(2, change.chain.as_str());
                w.u64(3, rule.handle);
            });
        }
        // Each goes before everything that is there: the last one first.
        for rule in change.head.iter().rev() {
            self.rule(&change.chain, rule, 0)?;
        }
        for rule in &change.tail {
            self.rule(&change.chain, rule, NLM_F_APPEND)?;
        }
        Ok(())
    }

    fn base_chain(&mut self, name: &'a ChainName) {
        let base = name.hook().map(|h| store::base(self.store, self.table, h));
        self.chain(NEW_CHAIN, NLM_F_CREATE, name, What::BaseChain, |w| {
            // A chain that iptables does not know cannot be hooked in; the kernel makes it a
            // regular one.
            let Some(Base {
                hook,
                priority,
                kind,
                ..
            }) = base
            else {
                return;
            };
            w.nest(4, |w| {
                w.u32(1, hook);
                w.u32(2, priority as u32);
            });
            w.u32(5, store::ACCEPT);
            w.string(7, &kind);
        });
    }

    fn rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        flags: u16,
    ) -> Result<(), Unsayable<'a>> {
        let what = What::Rule(chain, rule);
        let exprs = xt::write(rule, self.family).map_err(|_| Unsayable(self.origin(what)))?;
        let protocol = rule.protocol();
        self.message(NEW_RULE, NLM_F_CREATE | flags, what, |w| {
            w.string(2, chain.as_str());
            w.nest(4, |w| exprs.iter().for_each(|e| e.write(w)));
            // x_tables' extensions ask for the protocol apart from the expressions.
            if let Some(protocol) = protocol {
                w.nest(5, |w| {
                    w.u32(1, u32::from(protocol.number()));
                    w.u32(2, 0);
                });
            }
        });
        Ok(())
    }

    fn flush(&mut self, chain: &'a ChainName) {
        self.message(DELETE_RULE, 0, What::Flush(chain), |w| {
            w.string(2, chain.as_str())
        });
    }

    fn chain(
        &mut self,
        number: u16,
        flags: u16,
        name: &'a ChainName,
        what: fn(&'a ChainName) -> What<'a>,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.message(number, flags, what(name), |w| {
            w.string(3, name.as_str());
            fill(w);
        });
    }

    /// A message about something in the table.
    fn message(&mut self, number: u16, flags: u16, what: What<'a>, fill: impl FnOnce(&mut Writer)) {
        let (family, origin) = (store::number(self.family), self.origin(what));
        let table = store::table_name(self.store, self.table);
        self.batch.message(number, flags, family, origin, |w| {
            w.string(1, table);
            fill(w);
        });
    }

    fn origin(&self, what: What<'a>) -> Origin<'a> {
        Origin {
            family: self.family,
            table: self.table,
            what,
        }
    }
}

/// The base chain was made as iptables makes it, and holds no rule once the change is done.
fn is_left_empty(change: &BaseChange, found: &seen::Chain, store: Store, table: TableName) -> bool {
    let usual = change.chain.hook().map(|h| store::base(store, table, h));
    change.head.is_empty()
        && change.tail.is_empty()
        && change.delete.len() == found.rules.len()
        && found.base.is_some()
        && found.base == usual
}

/// Nothing is wanted in the table.
fn is_mere_removal(table: &TableChange) -> bool {
    let adds = |b: &BaseChange| !b.head.is_empty() || !b.tail.is_empty();
    table.rewrite.is_empty() && !table.base.iter().any(adds)
}

fn seen_chain<'s>(
    seen: &'s Seen,
    table: &TableChange,
    chain: &ChainName,
) -> Option<&'s seen::Chain> {
    seen.table(table.family, table.name)?.chain(chain.as_str())
}

/// What was being done, for an error.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{} table {}", self.family, self.table);
        match self.what {
            What::Table => write!(f, "making {place}"),
            What::RemoveTable => write!(f, "removing {place}"),
            What::Chain(c) | What::BaseChain(c) => write!(f, "making chain {c} in {place}"),
            What::Flush(c) => write!(f, "emptying chain {c} in {place}"),
            What::RemoveChain(c) => write!(f, "removing chain {c} from {place}"),
            What::Rule(c, rule) => write!(f, "adding \"-A {c} {rule}\" to {place}"),
            What::RemoveRule(c, rule) => {
                write!(f, "removing \"-A {c} {}\" from {place}", rule.text)
            }
        }
    }
}
