//! What a dump of nf_tables shows of the tables of one store.

use super::expr::Expr;
use super::kernel::Kernel;
use super::native::{self, Found};
use super::store::{self, Base};
use crate::backend::Store;
use crate::netlink::{AttributeTable, Error, Malformed, Transport, Writer};
use crate::ruleset::{Family, TableName};
use std::borrow::Cow;

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENTS: u16 = 13;

/// Everything of one store, as the kernel has it.
#[derive(Debug)]
pub struct Seen {
    /// The commit after which it was so.
    pub generation: u32,
    pub tables: Vec<Table>,
}

#[derive(Debug)]
pub struct Table {
    pub family: Family,
    pub name: TableName,
    pub chains: Vec<Chain>,
    pub sets: Found,
    /// There is something in it beside chains, and lists of ours.
    pub holds_more: bool,
    /// No packet comes to its chains (`NFT_TABLE_F_DORMANT`).
    pub dormant: bool,
    /// How many chains, sets and other things it holds.
    uses: usize,
}

#[derive(Debug)]
pub struct Chain {
    pub name: String,
    pub base: Option<Base>,
    /// Until they are in the model.
    pub rules: Vec<Rule>,
    /// How many rules of the model they are.
    pub count: usize,
    /// The chains that are later parts of this one.
    pub parts: Vec<String>,
    /// For a rule that needs several in the kernel: the handle of the first, and the others'.
    pub companions: Vec<(u64, Vec<u64>)>,
}

impl Chain {
    /// The handles of the rules that belong to the one with this handle.
    pub fn companions(&self, handle: u64) -> &[u64] {
        let found = self.companions.iter().find(|(first, _)| *first == handle);
        found.map_or(&[], |(_, others)| others)
    }
}

#[derive(Debug)]
pub struct Rule {
    pub handle: u64,
    pub exprs: Vec<Expr>,
    /// The comment that nft keeps beside a rule.
    pub comment: Option<String>,
}

impl Seen {
    /// Reads the tables of a store, or [`Error::Interrupted`] if somebody committed meanwhile.
    pub fn read<T: Transport>(kernel: &mut Kernel<T>, store: Store) -> Result<Self, Error> {
        let generation = kernel.generation()?;
        let tables = Self::read_tables(kernel, store);
        // One dump alone is of one moment. Several are not, nor does an error count before this is
        // asked: what was to be dumped may have gone.
        let one_moment = tables.as_ref().is_ok_and(Vec::is_empty);
        if !one_moment && kernel.generation()? != generation {
            return Err(Error::Interrupted);
        }
        Ok(Seen {
            generation,
            tables: tables?,
        })
    }

    fn read_tables<T: Transport>(
        kernel: &mut Kernel<T>,
        store: Store,
    ) -> Result<Vec<Table>, Error> {
        let mut tables = Vec::new();
        kernel.dump(
            GET_TABLE,
            0,
            |_| {},
            |family, a| {
                tables.extend(read_table(family, a, store)?);
                Ok(())
            },
        )?;
        if !tables.is_empty() {
            kernel.dump(
                GET_CHAIN,
                0,
                |_| {},
                |family, a| add_chain(&mut tables, family, a, store),
            )?;
        }
        for table in &mut tables {
            let name = store::table_name(store, table.name);
            if store == Store::Native {
                read_sets(kernel, table, name)?;
            }
            let filter = |w: &mut Writer| w.string(1, name);
            kernel.dump(GET_RULE, store::number(table.family), filter, |_, a| {
                add_rule(table, name, a)
            })?;
            let ours = table.chains.len() + table.sets.named().count();
            table.holds_more = table.uses != ours || !table.only_our_sets();
        }
        Ok(tables)
    }

    pub fn table(&self, family: Family, name: TableName) -> Option<&Table> {
        self.tables
            .iter()
            .find(|t| t.family == family && t.name == name)
    }
}

impl Table {
    /// Every set belongs to a rule or is a list of one of the chains.
    fn only_our_sets(&self) -> bool {
        let list = |set: &str| self.chains.iter().any(|c| native::is_list(set, &c.name));
        self.sets.named().all(list)
    }

    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }
}

fn read_table(family: u8, attributes: &[u8], store: Store) -> Result<Option<Table>, Malformed> {
    let a = AttributeTable::<4>::parse(attributes)?;
    let name = store::table_of(store, a.bytes(1)?);
    let (Some(family), Some(name)) = (store::family(family), name) else {
        return Ok(None);
    };
    let flags = a.get(2).map_or(Ok(0), |_| a.u32(2))?;
    Ok(Some(Table {
        family,
        name,
        uses: a.u32(3)? as usize,
        chains: Vec::new(),
        sets: Found::default(),
        holds_more: false,
        dormant: flags & 1 != 0,
    }))
}

/// Reads the sets of a table, and what is in them.
fn read_sets<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &mut Table,
    name: &str,
) -> Result<(), Error> {
    let family = store::number(table.family);
    let filter = |w: &mut Writer| w.string(1, name);
    kernel.dump(GET_SET, family, filter, |_, a| table.sets.add(a))?;
    let sets: Vec<String> = table.sets.names().map(str::to_owned).collect();
    for set in &sets {
        let filter = |w: &mut Writer| {
            w.string(1, name);
            w.string(2, set);
        };
        kernel.dump(GET_ELEMENTS, family, filter, |_, a| table.sets.fill(set, a))?;
    }
    Ok(())
}

fn add_chain(
    tables: &mut [Table],
    family: u8,
    attributes: &[u8],
    store: Store,
) -> Result<(), Malformed> {
    let a = AttributeTable::<8>::parse(attributes)?;
    let table = store::table_of(store, a.bytes(1)?);
    let table = tables
        .iter_mut()
        .find(|t| Some(t.family) == store::family(family) && Some(t.name) == table);
    if let Some(table) = table {
        table.chains.push(Chain {
            name: text(a.bytes(3)?).into_owned(),
            base: match a.get(4) {
                Some(hook) => Some(read_base(hook, &a)?),
                None => None,
            },
            rules: Vec::new(),
            count: 0,
            parts: Vec::new(),
            companions: Vec::new(),
        });
    }
    Ok(())
}

fn read_base(hook: &[u8], chain: &AttributeTable<8>) -> Result<Base, Malformed> {
    let hook = AttributeTable::<3>::parse(hook)?;
    Ok(Base {
        hook: hook.u32(1)?,
        priority: hook.u32(2)? as i32,
        kind: chain.string(7)?.to_owned().into(),
        accepts: chain.u32(5)? == store::ACCEPT,
    })
}

fn add_rule(table: &mut Table, table_name: &str, attributes: &[u8]) -> Result<(), Malformed> {
    let a = AttributeTable::<8>::parse(attributes)?;
    // Old kernels do not filter.
    if a.string(1)? != table_name {
        return Ok(());
    }
    let chain = text(a.bytes(2)?);
    let rule = Rule {
        handle: a.u64(3)?,
        exprs: Expr::read_list(a.get(4).unwrap_or_default())?,
        comment: a.get(7).and_then(read_comment),
    };
    // A chain that was not dumped is new: the generation tells.
    if let Some(chain) = table.chains.iter_mut().find(|c| c.name == chain) {
        chain.rules.push(rule);
    }
    Ok(())
}

/// A name, which may be any bytes if it is foreign.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes))
}

/// The comment in a rule's user data, which is types, lengths and values of a byte each (libnftnl).
fn read_comment(userdata: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    let mut rest = userdata;
    while let [kind, length, behind @ ..] = rest {
        let value = behind.get(..usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        rest = &behind[value.len()..];
    }
    None
}
