//! An immutable dump of nf_tables.
//!
//! Rules are dumped chain by chain, and only for relevant chains: in a dump of a whole table the
//! kernel starts again at its first rule for each 32 KiB.

mod chain;
mod completeness;
mod tables;

pub(super) use tables::{TableHead, table_heads};

use super::foreign;
use super::hooks::Base;
use super::kernel::Kernel;
use super::native::{self, Sets};
use super::nf_tables::*;
pub(super) use super::rule::{Rule, text};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{ChainName, Family, Hook, InetTable, TableName};
use crate::netfilter::netlink::{AttributeTable, Error, Malformed, Transport, Writer};
use std::collections::HashMap;

#[derive(Debug)]
pub(super) struct Dump {
    /// The generation id.
    pub generation: u32,
    pub tables: Vec<Table>,
    /// Tables that are managed as a whole, whose content is not read.
    pub inet_tables: Vec<InetTable>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub head: TableHead,
    /// In order of creation.
    pub chains: Vec<Chain>,
    /// Index into `chains`.
    index: HashMap<String, usize>,
    pub sets: Sets,
    /// Sets as foreign rules use them; read with [`Scope::Reachable`] only.
    pub foreign: foreign::Sets,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub name: String,
    /// Its hook, for base chains.
    pub base: Option<Base>,
    /// Empty if they were not read.
    pub rules: Vec<Rule>,
    /// Its rules were read because it is relevant itself, not only because a relevant chain jumps
    /// to it.
    pub matters: bool,
    /// Its rules were read.
    pub was_read: bool,
    /// How many rules the kernel did not return: it silently ends a dump before a rule that exceeds
    /// 32 KiB (sixteen `-m u32` matches).
    pub hidden: u32,
    /// Rules plus jumps to it (`NFTA_CHAIN_USE`).
    pub uses: Option<u32>,
}

/// The chains whose rules are dumped.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// Base chains, chains named like them, and managed chains; others only if they may jump to
    /// these.
    Managed(fn(&ChainName) -> bool),
    /// Base chains and all chains reachable from them, with sets.
    Reachable,
}

impl Scope {
    fn begins_with(self, chain: &Chain) -> bool {
        let named = |is_managed: fn(&ChainName) -> bool| {
            Hook::named(&chain.name).is_some()
                || ChainName::new(&chain.name).is_ok_and(|name| is_managed(&name))
        };
        chain.base.is_some() || matches!(self, Scope::Managed(is_managed) if named(is_managed))
    }
}

impl Dump {
    /// Dumps these tables, whose heads were read at `generation`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if another program committed meanwhile.
    pub(super) fn read<T: Transport>(
        kernel: &mut Kernel<T>,
        generation: u32,
        heads: Vec<TableHead>,
        scope: Scope,
    ) -> Result<Self, Error> {
        // Only the dump of the heads is consistent in itself.
        let inet_tables = Vec::new();
        if heads.is_empty() {
            let tables = Vec::new();
            return Ok(Dump {
                generation,
                tables,
                inet_tables,
            });
        }
        // Check the generation before reporting an error: objects may have been deleted meanwhile.
        let tables = read_tables(kernel, heads, scope);
        match kernel.generation()? == generation {
            true => Ok(Dump {
                generation,
                tables: tables?,
                inet_tables,
            }),
            false => Err(Error::Interrupted),
        }
    }

    pub(super) fn table(&self, kind: TableKind, family: Family, name: TableName) -> Option<&Table> {
        let mut tables = self.tables.iter();
        tables.find(|t| t.head.place(kind) == Some((family, name)))
    }

    /// Relevant chains with hidden rules, and their tables.
    pub(super) fn hidden(&self) -> impl Iterator<Item = (&Table, &Chain)> {
        let of = |t| {
            let table: &Table = t;
            table.chains.iter().map(move |c| (table, c))
        };
        self.tables
            .iter()
            .flat_map(of)
            .filter(|(_, c)| c.hidden > 0)
    }
}

impl Table {
    fn new(head: TableHead) -> Self {
        Table {
            head,
            chains: Vec::new(),
            index: HashMap::new(),
            sets: Sets::default(),
            foreign: foreign::Sets::default(),
        }
    }

    pub(super) fn chain(&self, name: &str) -> Option<&Chain> {
        self.index.get(name).map(|at| &self.chains[*at])
    }

    /// Whether it holds anything beside chains and own address lists.
    pub(super) fn holds_more(&self) -> bool {
        let is_managed = |set: &str| self.chains.iter().any(|c| native::is_list(set, &c.name));
        let known = self.chains.len() + self.sets.named().count();
        self.head.uses as usize != known || !self.sets.named().all(is_managed)
    }

    fn add_chain(&mut self, chain: Chain) {
        self.index.insert(chain.name.clone(), self.chains.len());
        self.chains.push(chain);
    }
}

fn read_tables<T: Transport>(
    kernel: &mut Kernel<T>,
    heads: Vec<TableHead>,
    scope: Scope,
) -> Result<Vec<Table>, Error> {
    let mut tables: Vec<Table> = heads.into_iter().map(Table::new).collect();
    let mut at = 0;
    kernel.dump(
        NFT_MSG_GETCHAIN,
        0,
        |_| {},
        |family, a| {
            let a = AttributeTable::<8>::parse(a)?;
            let name = text(a.bytes(NFTA_CHAIN_TABLE)?);
            let is_it = |t: &Table| t.head.family == family && t.head.name == name;
            // Chains are dumped table by table.
            if !is_it(&tables[at]) {
                at = match tables.iter().position(is_it) {
                    Some(at) => at,
                    None => return Ok(()),
                };
            }
            tables[at].add_chain(Chain::read(&a)?);
            Ok(())
        },
    )?;
    for table in &mut tables {
        if matches!(scope, Scope::Reachable) || table.head.place(TableKind::Native).is_some() {
            read_sets(kernel, table)?;
        }
        if matches!(scope, Scope::Reachable) {
            table.foreign = foreign::Sets::read(kernel, table.head.family, &table.head.name)?;
        }
        read_rules(kernel, table, scope)?;
        completeness::count_hidden(kernel, table)?;
    }
    Ok(tables)
}

/// Reads the sets of a table with their elements.
fn read_sets<T: Transport>(kernel: &mut Kernel<T>, table: &mut Table) -> Result<(), Error> {
    let (TableHead { family, name, .. }, sets) = (&table.head, &mut table.sets);
    let filter = |w: &mut Writer| w.string(NFTA_SET_TABLE, name);
    kernel.dump(NFT_MSG_GETSET, *family, filter, |_, a| sets.add(a))?;
    let names: Vec<String> = sets.names().map(str::to_owned).collect();
    for set in &names {
        let filter = |w: &mut Writer| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, name);
            w.string(NFTA_SET_ELEM_LIST_SET, set);
        };
        kernel.dump(NFT_MSG_GETSETELEM, *family, filter, |_, a| {
            sets.fill(set, a)
        })?;
    }
    Ok(())
}

/// Reads the rules of relevant chains.
fn read_rules<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &mut Table,
    scope: Scope,
) -> Result<(), Error> {
    // A verdict map may lead to any chain.
    let all = matches!(scope, Scope::Reachable) && table.sets.lead_to_chains();
    let chains = table.chains.iter().enumerate();
    let first = chains.filter(|(_, chain)| all || scope.begins_with(chain));
    let mut next: Vec<usize> = first.map(|(at, _)| at).collect();
    while let Some(at) = next.pop() {
        if table.chains[at].matters {
            continue;
        }
        table.chains[at].matters = true;
        read_chain(kernel, table, at)?;
        if matches!(scope, Scope::Reachable) {
            let jumps = table.chains[at].rules.iter().filter_map(Rule::jump);
            next.extend(jumps.filter_map(|to| table.index.get(to)));
        }
    }
    Ok(())
}

/// Reads the rules of a chain, if not read yet.
fn read_chain<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &mut Table,
    at: usize,
) -> Result<(), Error> {
    let (head, chain) = (&table.head, &mut table.chains[at]);
    if chain.was_read {
        return Ok(());
    }
    chain.was_read = true;
    let Chain { name, rules, .. } = chain;
    let filter = |w: &mut Writer| {
        w.string(NFTA_RULE_TABLE, &head.name);
        w.string(NFTA_RULE_CHAIN, name);
    };
    kernel.dump(NFT_MSG_GETRULE, head.family, filter, |_, a| {
        let a = AttributeTable::<8>::parse(a)?;
        // Old kernels ignore the filter.
        let is_here = text(a.bytes(NFTA_RULE_TABLE)?) == head.name
            && text(a.bytes(NFTA_RULE_CHAIN)?) == *name;
        if is_here {
            rules.push(Rule::read(&a)?);
        }
        Ok::<(), Malformed>(())
    })
}
