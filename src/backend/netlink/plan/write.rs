//! The messages of one table.

use super::origin::{Origin, Unsayable, What};
use crate::backend::Store;
use crate::backend::netlink::batch::Batch;
use crate::backend::netlink::expr::Expr;
use crate::backend::netlink::native::{self, Line, Lists, Set};
use crate::backend::netlink::seen;
use crate::backend::netlink::store;
use crate::backend::netlink::xt;
use crate::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_NONREC, Writer};
use crate::ruleset::{ChainName, Family, Rule, TableChange, TableName};

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
pub(super) const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;

const NO_SUCH_FORM: &str = "the rule has no such form";

/// Writes messages about one table into a batch.
pub struct Within<'p, 'a> {
    batch: &'p mut Batch<Origin<'a>>,
    pub store: Store,
    family: Family,
    pub table: TableName,
    /// The last number that a set of the batch was given.
    last_set: &'p mut u32,
}

impl<'p, 'a> Within<'p, 'a> {
    pub fn new(
        batch: &'p mut Batch<Origin<'a>>,
        store: Store,
        table: &TableChange,
        last_set: &'p mut u32,
    ) -> Self {
        Within {
            batch,
            store,
            family: table.family,
            table: table.name,
            last_set,
        }
    }

    pub fn make_table(&mut self) {
        self.message(NEW_TABLE, NLM_F_CREATE, What::Table, |_| {});
    }

    /// Nothing may be left in it.
    pub fn remove_table(&mut self) {
        self.message(DELETE_TABLE, NLM_F_NONREC, What::RemoveTable, |_| {});
    }

    pub fn make_chain(&mut self, name: &'a ChainName) {
        self.chain(NEW_CHAIN, What::Chain(name), name.as_str(), |_| {});
    }

    /// Makes the parts that the rules of a chain need beside the chain itself.
    pub fn make_parts(
        &mut self,
        chain: &'a ChainName,
        rules: &[&Rule],
        found: Option<&seen::Chain>,
    ) {
        for part in self.parts(chain, rules) {
            if !found.is_some_and(|c| c.parts.contains(&part)) {
                self.chain(NEW_CHAIN, What::Chain(chain), &part, |_| {});
            }
        }
    }

    /// Removes the parts that the rules of a chain do not need any more.
    pub fn remove_parts(
        &mut self,
        chain: &'a ChainName,
        rules: &[&Rule],
        found: Option<&seen::Chain>,
    ) {
        let needed = self.parts(chain, rules);
        for part in found.into_iter().flat_map(|c| &c.parts) {
            if !needed.contains(part) {
                self.chain(DELETE_CHAIN, What::RemoveChain(chain), part, |_| {});
            }
        }
    }

    fn parts(&self, chain: &ChainName, rules: &[&Rule]) -> Vec<String> {
        match self.store {
            Store::Native => native::later_parts(chain.as_str(), rules),
            _ => Vec::new(),
        }
    }

    /// Takes all rules out of a chain and its parts, and its address lists away.
    pub fn empty(&mut self, chain: &'a ChainName, found: Option<&seen::Table>) {
        let parts = found
            .and_then(|t| t.chain(chain.as_str()))
            .map(|c| &c.parts);
        let parts = parts.into_iter().flatten().map(String::as_str);
        for part in std::iter::once(chain.as_str()).chain(parts) {
            self.message(DELETE_RULE, 0, What::Flush(chain), |w| w.string(2, part));
        }
        let sets = found.into_iter().flat_map(|t| t.sets.names());
        for list in sets.filter(|s| native::is_list(s, chain.as_str())) {
            self.message(DELETE_SET, 0, What::Lists(chain), |w| w.string(2, list));
        }
    }

    /// Removes an empty chain with its parts.
    pub fn remove_chain(&mut self, chain: &'a ChainName, found: Option<&seen::Chain>) {
        self.chain(
            DELETE_CHAIN,
            What::RemoveChain(chain),
            chain.as_str(),
            |_| {},
        );
        self.remove_parts(chain, &[], found);
    }

    /// Writes rules to an empty chain.
    pub fn fill(&mut self, chain: &'a ChainName, rules: &[&'a Rule]) -> Result<(), Unsayable<'a>> {
        match self.store {
            Store::Native => {
                let lists = Lists::of(chain.as_str(), rules);
                for (name, addresses) in lists.all() {
                    *self.last_set += 1;
                    let set = Set::of_addresses(name, *self.last_set, addresses);
                    self.set(What::Lists(chain), &set);
                }
                let parts = native::lower(chain.as_str(), rules);
                parts.iter().try_for_each(|part| {
                    let mut lines = part.lines.iter();
                    lines.try_for_each(|(rule, line)| {
                        self.line(chain, rule, line, &part.name, &lists, NLM_F_APPEND)
                    })
                })
            }
            _ => rules
                .iter()
                .try_for_each(|rule| self.rule(chain, rule, NLM_F_APPEND)),
        }
    }

    /// A rule as iptables-nft writes it.
    pub(super) fn rule(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        flags: u16,
    ) -> Result<(), Unsayable<'a>> {
        let what = What::Rule(chain, rule);
        let exprs = xt::write(rule, self.family).map_err(|_| self.unsayable(what, NO_SUCH_FORM))?;
        let protocol = rule.protocol();
        self.message(NEW_RULE, NLM_F_CREATE | flags, what, |w| {
            write_rule(w, chain.as_str(), &exprs);
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

    /// A rule in nf_tables' own expressions, and before it the sets that are its own.
    pub(super) fn line(
        &mut self,
        chain: &'a ChainName,
        rule: &'a Rule,
        line: &Line,
        part: &str,
        lists: &Lists,
        flags: u16,
    ) -> Result<(), Unsayable<'a>> {
        let what = What::Rule(chain, rule);
        let written = native::write(line, self.family, lists, self.last_set);
        let encoded = written.map_err(|_| self.unsayable(what, NO_SUCH_FORM))?;
        for set in &encoded.sets {
            self.set(what, set);
        }
        self.message(NEW_RULE, NLM_F_CREATE | flags, what, |w| {
            write_rule(w, part, &encoded.exprs);
            if let Some(why) = &line.why {
                native::write_comment(w, &why.to_string());
            }
        });
        if !encoded.sets.is_empty() {
            self.batch.join();
        }
        Ok(())
    }

    /// A set and what is in it; if it has no name, in one piece.
    fn set(&mut self, what: What<'a>, set: &Set) {
        self.message(NEW_SET, NLM_F_CREATE, what, |w| set.write(w));
        for chunk in set.chunks() {
            let fill = |w: &mut Writer| set.write_elements(chunk, w);
            self.message(NEW_ELEMENTS, NLM_F_CREATE, what, fill);
            if set.is_nameless() {
                self.batch.join();
            }
        }
    }

    pub(super) fn chain(
        &mut self,
        number: u16,
        what: What<'a>,
        name: &str,
        fill: impl FnOnce(&mut Writer),
    ) {
        let flags = match number {
            NEW_CHAIN => NLM_F_CREATE,
            _ => 0,
        };
        self.message(number, flags, what, |w| {
            w.string(3, name);
            fill(w);
        });
    }

    /// A message about something in the table.
    pub(super) fn message(
        &mut self,
        number: u16,
        flags: u16,
        what: What<'a>,
        fill: impl FnOnce(&mut Writer),
    ) {
        let (family, origin) = (store::number(self.family), self.origin(what));
        let table = store::table_name(self.store, self.table);
        self.batch.message(number, flags, family, origin, |w| {
            w.string(1, table);
            fill(w);
        });
    }

    pub(super) fn unsayable(&self, what: What<'a>, reason: &'static str) -> Unsayable<'a> {
        let origin = self.origin(what);
        Unsayable { origin, reason }
    }

    fn origin(&self, what: What<'a>) -> Origin<'a> {
        Origin {
            family: self.family,
            table: self.table,
            what,
        }
    }
}

fn write_rule(w: &mut Writer, chain: &str, exprs: &[Expr]) {
    w.string(2, chain);
    w.nest(4, |w| exprs.iter().for_each(|e| e.write(w)));
}
