//! From a change to the messages that make it, in their order.
//!
//! First what nothing is hooked to yet: tables, our chains, their rules. Then base chains and the
//! rules in them. At last what nothing jumps to any more.

mod base;
mod origin;
mod write;

use super::batch::Batch;
use super::seen::{self, Seen};
use super::store;
use crate::backend::Store;
use crate::ruleset::{BaseChange, Change, Rule, TableChange, TableName};
pub use origin::{Origin, Unsayable, What};
use write::Within;

/// All messages of a change, made from what was seen.
pub fn plan<'a>(
    change: &'a Change,
    seen: &Seen,
    store: Store,
) -> Result<Batch<Origin<'a>>, Unsayable<'a>> {
    let mut batch = Batch::new();
    let mut last_set = 0;
    let mut each = |batch: &mut Batch<Origin<'a>>, step: Step<'a>| {
        change.tables.iter().try_for_each(|table| {
            let found = seen.table(table.family, table.name);
            let mut within = Within::new(batch, store, table, &mut last_set);
            step(&mut within, table, found)
        })
    };
    each(&mut batch, declare)?;
    each(&mut batch, empty)?;
    each(&mut batch, fill)?;
    batch.hooks();
    each(&mut batch, change_bases)?;
    each(&mut batch, remove)?;
    Ok(batch)
}

/// One round over the tables.
type Step<'a> =
    fn(&mut Within<'_, 'a>, &'a TableChange, Option<&seen::Table>) -> Result<(), Unsayable<'a>>;

/// Makes the table and our chains, as far as they are not there.
fn declare<'a>(
    at: &mut Within<'_, 'a>,
    table: &'a TableChange,
    found: Option<&seen::Table>,
) -> Result<(), Unsayable<'a>> {
    if found.is_none() {
        at.make_table();
    }
    for chain in &table.rewrite {
        if !chain.exists {
            at.make_chain(&chain.name);
        }
        let found = found.and_then(|t| t.chain(chain.name.as_str()));
        at.make_parts(&chain.name, &all(&chain.rules), found);
    }
    Ok(())
}

/// Empties our chains that were there.
fn empty<'a>(
    at: &mut Within<'_, 'a>,
    table: &'a TableChange,
    found: Option<&seen::Table>,
) -> Result<(), Unsayable<'a>> {
    for chain in table.rewrite.iter().filter(|c| c.exists) {
        at.empty(&chain.name, found);
    }
    Ok(())
}

/// Writes the rules of our chains.
fn fill<'a>(
    at: &mut Within<'_, 'a>,
    table: &'a TableChange,
    found: Option<&seen::Table>,
) -> Result<(), Unsayable<'a>> {
    for chain in &table.rewrite {
        let rules = all(&chain.rules);
        at.fill(&chain.name, &rules)?;
        let found = found.and_then(|t| t.chain(chain.name.as_str()));
        at.remove_parts(&chain.name, &rules, found);
    }
    Ok(())
}

/// The rules of ours in chains that are not ours.
fn change_bases<'a>(
    at: &mut Within<'_, 'a>,
    table: &'a TableChange,
    found: Option<&seen::Table>,
) -> Result<(), Unsayable<'a>> {
    table
        .base
        .iter()
        .try_for_each(|base| at.change_base(base, found))
}

/// Takes away our stale chains, and then what nothing is left in.
fn remove<'a>(
    at: &mut Within<'_, 'a>,
    table: &'a TableChange,
    found: Option<&seen::Table>,
) -> Result<(), Unsayable<'a>> {
    let Some(found) = found else {
        return Ok(());
    };
    // They may jump to one another: first they are all emptied.
    for name in &table.remove {
        at.empty(name, Some(found));
    }
    for name in &table.remove {
        at.remove_chain(name, found.chain(name.as_str()));
    }
    let left_empty = |base: &&BaseChange| {
        let chain = found.chain(base.chain.as_str());
        chain.is_some_and(|c| is_left_empty(base, c, at.store, table.name))
    };
    let emptied: Vec<&BaseChange> = table.base.iter().filter(left_empty).collect();
    for base in &emptied {
        at.remove_chain(&base.chain, found.chain(base.chain.as_str()));
    }
    let all_gone = table.remove.len() + emptied.len() == found.chains.len();
    if all_gone && !found.holds_more && is_mere_removal(table) {
        at.remove_table();
    }
    Ok(())
}

fn all(rules: &[Rule]) -> Vec<&Rule> {
    rules.iter().collect()
}

/// The base chain was made as it is made here, and holds no rule once the change is done.
fn is_left_empty(change: &BaseChange, found: &seen::Chain, store: Store, table: TableName) -> bool {
    let usual = change.chain.hook().map(|h| store::base(store, table, h));
    change.head.is_empty()
        && change.tail.is_empty()
        && change.delete.len() == found.count
        && found.base.is_some()
        && found.base == usual
}

/// Nothing is wanted in the table.
fn is_mere_removal(table: &TableChange) -> bool {
    let adds = |b: &BaseChange| !b.head.is_empty() || !b.tail.is_empty();
    table.rewrite.is_empty() && !table.base.iter().any(adds)
}
