//! What nf_tables holds of one store, as it was dumped: a value that nothing changes afterwards.

mod completeness;
mod objects;

pub(super) use objects::text;

use super::expr::{Expr, Verdict};
use super::hooks::{self, Base};
use super::kernel::Kernel;
use super::native::{self, Sets};
use super::nf_tables::*;
use crate::netfilter::backend::Store;
use crate::netfilter::model::{Counters, Family, TableName};
use crate::netfilter::netlink::{AttributeTable, Error, Malformed, Transport, Writer};
use std::collections::HashMap;

/// The tables of one store at one moment.
#[derive(Debug)]
pub(super) struct Dump {
    /// The commit after which it was so.
    pub generation: u32,
    pub tables: Vec<Table>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub family: Family,
    pub name: TableName,
    /// In the order in which they were made.
    pub chains: Vec<Chain>,
    /// Where in `chains` one stands.
    index: HashMap<String, usize>,
    /// Only of tables of our own: nobody asks for others.
    pub sets: Sets,
    /// No packet comes to its chains (`NFT_TABLE_F_DORMANT`).
    pub dormant: bool,
    /// Another program has it to itself (`NFT_TABLE_F_OWNER`, since Linux 5.12): nobody else may
    /// change it.
    pub owned: bool,
    /// How many chains, sets and other things it holds (`NFTA_TABLE_USE`).
    uses: u32,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub name: String,
    /// Where it is hooked in, if it is.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
    /// How many rules the kernel did not show. It ends a dump before a rule that is too long for it
    /// (32 KiB: sixteen `-m u32` matches), as if that had been all.
    pub hidden: u32,
    /// How many rules it has, and how many jump to it (`NFTA_CHAIN_USE`).
    uses: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub handle: u64,
    pub exprs: Vec<Expr>,
    /// The comment that nft keeps beside a rule.
    pub comment: Option<String>,
    pub counters: Option<Counters>,
}

impl Dump {
    /// Dumps the tables of a store.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if somebody committed meanwhile.
    pub(super) fn read<T: Transport>(kernel: &mut Kernel<T>, store: Store) -> Result<Self, Error> {
        let generation = kernel.generation()?;
        let tables = read_tables(kernel, store);
        // One dump alone is of one moment. Several are not, nor does an error count before this is
        // asked: what was to be dumped may have gone.
        let one_moment = tables.as_ref().is_ok_and(Vec::is_empty);
        if !one_moment && kernel.generation()? != generation {
            return Err(Error::Interrupted);
        }
        Ok(Dump {
            generation,
            tables: tables?,
        })
    }

    /// A base chain of which something is hidden, if there is one, and its table: rules of ours may be
    /// there.
    pub(super) fn unknown(&self) -> Option<(&Table, &Chain)> {
        let chains = self
            .tables
            .iter()
            .flat_map(|t| t.chains.iter().map(move |c| (t, c)));
        let mut unknown = chains.filter(|(_, c)| c.base.is_some() && c.hidden > 0);
        unknown.next()
    }

    pub(super) fn table(&self, family: Family, name: TableName) -> Option<&Table> {
        self.tables
            .iter()
            .find(|t| t.family == family && t.name == name)
    }
}

impl Table {
    pub(super) fn chain(&self, name: &str) -> Option<&Chain> {
        self.index.get(name).map(|at| &self.chains[*at])
    }

    /// The chains that are later parts of this one, in the order of [`native::lower`]: rules of its
    /// parts lead there, and they are called so. Only tables of our own have such.
    pub(super) fn parts(&self, chain: &str) -> Vec<&Chain> {
        let mut parts: Vec<&Chain> = Vec::new();
        if let Some(first) = self.chain(chain) {
            self.add_parts(chain, first, &mut parts);
        }
        parts
    }

    fn add_parts<'t>(&'t self, chain: &str, part: &Chain, parts: &mut Vec<&'t Chain>) {
        let gotos = part.rules.iter().filter_map(|r| match r.exprs.last() {
            Some(Expr::Verdict(Verdict::Goto(to))) => Some(to),
            _ => None,
        });
        for to in gotos.filter(|to| native::is_part_name(to, chain)) {
            let next = self.chain(to).filter(|c| c.base.is_none());
            if let Some(next) = next.filter(|n| parts.iter().all(|p| p.name != n.name)) {
                parts.push(next);
                self.add_parts(chain, next, parts);
            }
        }
    }

    /// The chains but for those that are later parts of others.
    pub(super) fn without_parts(&self) -> impl Iterator<Item = &Chain> {
        let is_part = |c: &Chain| {
            let of = native::chain_of_part(&c.name);
            of.is_some_and(|chain| self.parts(chain).iter().any(|p| p.name == c.name))
        };
        self.chains.iter().filter(move |c| !is_part(c))
    }

    /// Whether there is something in it beside chains, and lists of ours.
    pub(super) fn holds_more(&self) -> bool {
        let of_ours = |set: &str| self.chains.iter().any(|c| native::is_list(set, &c.name));
        let known = self.chains.len() + self.sets.named().count();
        self.uses as usize != known || !self.sets.named().all(of_ours)
    }

    /// A chain that was not dumped is new: the generation tells.
    fn add_rule(&mut self, chain: &str, rule: Rule) {
        if let Some(at) = self.index.get(chain) {
            self.chains[*at].rules.push(rule);
        }
    }

    fn add_chain(&mut self, chain: Chain) {
        self.index.insert(chain.name.clone(), self.chains.len());
        self.chains.push(chain);
    }
}

fn read_tables<T: Transport>(kernel: &mut Kernel<T>, store: Store) -> Result<Vec<Table>, Error> {
    let mut tables = Vec::new();
    let everything = |_: &mut Writer| {};
    kernel.dump(NFT_MSG_GETTABLE, 0, everything, |family, a| {
        tables.extend(read_table(family, a, store)?);
        Ok(())
    })?;
    if !tables.is_empty() {
        kernel.dump(NFT_MSG_GETCHAIN, 0, everything, |family, a| {
            read_chain(&mut tables, family, a, store)
        })?;
    }
    for table in &mut tables {
        let name = hooks::table_name(store, table.name);
        if store == Store::Native {
            let family = hooks::nfproto(table.family);
            read_sets(kernel, &mut table.sets, family, name)?;
        }
        let family = hooks::nfproto(table.family);
        let filter = |w: &mut Writer| w.string(NFTA_RULE_TABLE, name);
        kernel.dump(NFT_MSG_GETRULE, family, filter, |_, a| {
            if let Some((chain, rule)) = read_rule(name, a)? {
                table.add_rule(&chain, rule);
            }
            Ok(())
        })?;
        completeness::complete(kernel, table, name)?;
    }
    Ok(tables)
}

fn read_table(family: u8, attributes: &[u8], store: Store) -> Result<Option<Table>, Malformed> {
    let a = AttributeTable::<4>::parse(attributes)?;
    let name = hooks::table_of(store, a.bytes(NFTA_TABLE_NAME)?);
    let (Some(family), Some(name)) = (hooks::family(family), name) else {
        return Ok(None);
    };
    let flags = match a.get(NFTA_TABLE_FLAGS) {
        Some(_) => a.u32(NFTA_TABLE_FLAGS)?,
        None => 0,
    };
    Ok(Some(Table {
        family,
        name,
        chains: Vec::new(),
        index: HashMap::new(),
        sets: Sets::default(),
        dormant: flags & NFT_TABLE_F_DORMANT != 0,
        owned: flags & NFT_TABLE_F_OWNER != 0,
        uses: a.u32(NFTA_TABLE_USE)?,
    }))
}

/// Reads the sets of a table of this family (`NFPROTO_*`) and name, and what is in them.
pub(super) fn read_sets<T: Transport>(
    kernel: &mut Kernel<T>,
    sets: &mut Sets,
    family: u8,
    name: &str,
) -> Result<(), Error> {
    let filter = |w: &mut Writer| w.string(NFTA_SET_TABLE, name);
    kernel.dump(NFT_MSG_GETSET, family, filter, |_, a| sets.add(a))?;
    let names: Vec<String> = sets.names().map(str::to_owned).collect();
    for set in &names {
        let filter = |w: &mut Writer| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, name);
            w.string(NFTA_SET_ELEM_LIST_SET, set);
        };
        kernel.dump(NFT_MSG_GETSETELEM, family, filter, |_, a| sets.fill(set, a))?;
    }
    Ok(())
}

fn read_chain(
    tables: &mut [Table],
    family: u8,
    attributes: &[u8],
    store: Store,
) -> Result<(), Malformed> {
    let a = AttributeTable::<8>::parse(attributes)?;
    let table = hooks::table_of(store, a.bytes(NFTA_CHAIN_TABLE)?);
    let table = tables
        .iter_mut()
        .find(|t| Some(t.family) == hooks::family(family) && Some(t.name) == table);
    if let Some(table) = table {
        table.add_chain(Chain::read(&a)?);
    }
    Ok(())
}

/// A rule and the name of its chain, if it is in the table called so: kernels before 4.19 do not
/// filter.
fn read_rule(table: &str, attributes: &[u8]) -> Result<Option<(String, Rule)>, Malformed> {
    let a = AttributeTable::<8>::parse(attributes)?;
    if a.string(NFTA_RULE_TABLE)? != table {
        return Ok(None);
    }
    let chain = text(a.bytes(NFTA_RULE_CHAIN)?).into_owned();
    Ok(Some((chain, Rule::read(&a)?)))
}
