//! From a change to the messages that make it, in their order.
//!
//! First what no packet meets yet: tables, new chains, their rules. Then the switch: rules of chains
//! that are there, base chains and the rules in them. At last what no packet meets any more.

mod base;
mod origin;
mod write;

use super::batch::Batch;
use super::detour::Bypass;
use super::dump::Dump;
use super::hooks;
use crate::backend::Store;
use crate::ruleset::{BaseChange, ChainRewrite, Change, Rule, TableChange};
pub use origin::{Origin, Unsupported, What};
use write::TableEncoder;

/// All messages of a change that was made from this dump.
pub fn encode<'a>(
    change: &'a Change,
    dump: &Dump,
    store: Store,
) -> Result<Batch<Origin<'a>>, Unsupported<'a>> {
    let mut batch = Batch::new();
    let mut last_set = 0;
    let mut each = |batch: &mut Batch<Origin<'a>>, step: Step<'a>| {
        change.tables.iter().try_for_each(|table| {
            let found = dump.table(table.family, table.name);
            let mut at = TableEncoder::new(batch, store, table, found, &mut last_set);
            step(&mut at, table)
        })
    };
    each(&mut batch, declare)?;
    each(&mut batch, prepare)?;
    batch.begin_switch();
    each(&mut batch, rewrite)?;
    each(&mut batch, change_bases)?;
    batch.end_switch();
    each(&mut batch, remove)?;
    Ok(batch)
}

/// One round over the tables.
type Step<'a> = fn(&mut TableEncoder<'_, 'a>, &'a TableChange) -> Result<(), Unsupported<'a>>;

/// How the rules of a chain of ours come to stand in it.
enum Way {
    /// Nothing jumps to it.
    New,
    /// It is emptied and filled at once.
    InPlace,
    /// Behind two rules that no packet comes past, and which go when all is there.
    Behind(Bypass),
}

fn way(at: &TableEncoder, table: &TableChange, chain: &ChainRewrite) -> Way {
    match at.chain_found(&chain.name) {
        None => Way::New,
        Some(found) => Bypass::of(found, table).map_or(Way::InPlace, Way::Behind),
    }
}

/// Makes the table and our chains, as far as they are not there.
fn declare<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    if at.found.is_none() {
        at.make_table();
    }
    for chain in table.rewrite.iter().filter(|c| !c.exists) {
        at.make_chain(&chain.name);
    }
    Ok(())
}

/// Writes the rules of chains to which no packet comes yet.
fn prepare<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    for chain in &table.rewrite {
        match way(at, table, chain) {
            Way::New => {}
            Way::Behind(bypass) => at.empty_behind(&chain.name, bypass),
            Way::InPlace => continue,
        }
        at.refill(&chain.name, &all(&chain.rules))?;
    }
    Ok(())
}

/// Writes the rules of chains to which packets come.
fn rewrite<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    for chain in &table.rewrite {
        match way(at, table, chain) {
            Way::New => {}
            Way::Behind(bypass) => at.end_bypass(&chain.name, bypass),
            Way::InPlace => {
                at.empty(&chain.name);
                at.refill(&chain.name, &all(&chain.rules))?;
            }
        }
    }
    Ok(())
}

/// The rules of ours in chains that are not ours.
fn change_bases<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    table.base.iter().try_for_each(|base| at.change_base(base))
}

/// Takes away our stale chains, and then what nothing is left in.
fn remove<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    let Some(found) = at.found else {
        return Ok(());
    };
    // They may jump to one another: first they are all emptied.
    for name in &table.remove {
        at.empty(name);
    }
    for name in &table.remove {
        at.remove_chain(name);
    }
    let emptied = table.base.iter().filter(|b| is_left_empty(b, at));
    let emptied: Vec<&BaseChange> = emptied.collect();
    for base in &emptied {
        at.remove_chain(&base.chain);
    }
    let parts = |chain| at.parts_found(chain).count();
    let removed = table.remove.iter().chain(emptied.iter().map(|b| &b.chain));
    let removed: usize = removed.map(|chain| 1 + parts(chain)).sum();
    let all_gone = removed == found.chains.len();
    if all_gone && !found.holds_more() && is_mere_removal(table) {
        at.remove_table();
    }
    Ok(())
}

fn all(rules: &[Rule]) -> Vec<&Rule> {
    rules.iter().collect()
}

/// The base chain was made as it is made here, and holds no rule once the change is done.
fn is_left_empty(change: &BaseChange, at: &TableEncoder) -> bool {
    let found = at.found.and_then(|t| t.chain(change.chain.as_str()));
    let Some(found) = found.filter(|c| c.base.is_some()) else {
        return false;
    };
    let usual = change
        .chain
        .hook()
        .map(|h| hooks::base(at.store, at.table, h));
    change.head.is_empty()
        && change.tail.is_empty()
        && at.is_all_ours(change)
        && found.base == usual
}

/// Nothing is wanted in the table.
fn is_mere_removal(table: &TableChange) -> bool {
    let adds = |b: &BaseChange| !b.head.is_empty() || !b.tail.is_empty();
    table.rewrite.is_empty() && !table.base.iter().any(adds)
}
