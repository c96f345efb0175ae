//! Rules as a change leaves them.

use super::change::{Change, TableChange};
use super::hooked::{Base, Entry, HookedChain, HookedTable, Rules};
use super::names::{ChainName, TableName};
use super::{Observed, Rule};

impl Rules {
    /// Does to the tables of one kind what a commit of the change would do. `named` is what they are
    /// called here.
    pub fn apply(
        &mut self,
        observed: &Observed,
        change: &Change,
        named: impl Fn(TableName) -> String,
    ) {
        for table in &change.tables {
            let (name, family) = (named(table.name), Some(table.family));
            let mut found = self.tables.iter();
            let found = found.position(|t| t.name == name && t.family == family);
            let at = found.unwrap_or_else(|| {
                // Nothing of a dormant table was in force.
                let woken = observed
                    .table(table.family, table.name)
                    .filter(|_| table.wake);
                self.tables.push(match woken {
                    Some(observed) => HookedTable::observed(name, observed),
                    None => HookedTable {
                        name,
                        family,
                        chains: Vec::new(),
                    },
                });
                self.tables.len() - 1
            });
            self.tables[at].apply(table);
        }
    }
}

impl HookedTable {
    fn apply(&mut self, change: &TableChange) {
        for base in &change.base {
            let rules = &mut self.chain(&base.chain, change.name).rules;
            let gone: Vec<Entry> = base.delete.iter().map(Entry::observed).collect();
            rules.retain(|entry| !gone.iter().any(|gone| gone.does_the_same(entry)));
            rules.splice(0..0, base.head.iter().map(known));
            rules.extend(base.tail.iter().map(known));
        }
        for chain in &change.rewrite {
            self.chain(&chain.name, change.name).rules = chain.rules.iter().map(known).collect();
        }
        self.chains
            .retain(|chain| !change.remove.contains(&chain.name));
        for name in &change.accept {
            if let Some(base) = &mut self.chain(name, change.name).base {
                base.accepts = true;
            }
        }
    }

    /// The chain of that name, made if it is not there.
    fn chain(&mut self, name: &ChainName, table: TableName) -> &mut HookedChain {
        let found = self.chains.iter().position(|chain| chain.name == *name);
        let at = found.unwrap_or_else(|| {
            self.chains.push(HookedChain {
                name: name.clone(),
                base: name.hook().map(|hook| Base::of(table, hook)),
                rules: Vec::new(),
            });
            self.chains.len() - 1
        });
        &mut self.chains[at]
    }
}

fn known(rule: &Rule) -> Entry {
    Entry::Known(rule.clone())
}

impl Entry {
    /// Whether both apply to the same packets and do the same to them, as far as that is known.
    fn does_the_same(&self, other: &Entry) -> bool {
        let known = self.target().is_some() && other.target().is_some();
        match known {
            true => self.matches() == other.matches() && self.target() == other.target(),
            false => self == other,
        }
    }
}
