//! From a change to the messages that make it, in their order.
//!
//! First what no packet meets yet: tables, new chains, their rules. Then the switch: rules of chains
//! that are there, base chains and the rules in them. At last what no packet meets any more.

mod base;
mod origin;
mod parts;
mod write;

use super::batch::Batch;
use super::detour::Bypass;
use super::dump::{self, Dump};
use super::hooks;
use crate::netfilter::backend::Store;
use crate::netfilter::model::{
    BaseChange, ChainName, ChainRewrite, Change, Hook, Rule, TableChange,
};
pub(super) use origin::{Origin, Reason, Unsupported, What};
use write::TableEncoder;

/// All messages of a change that was made from this dump. With `tidy`, base chains and tables go in
/// which nothing is left.
pub(super) fn encode<'a>(
    change: &'a Change,
    dump: &'a Dump,
    store: Store,
    tidy: bool,
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
    if tidy {
        each(&mut batch, remove_what_is_empty)?;
    }
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
    match at.found {
        Some(found) if found.owned => return Err(at.unsupported(What::Table, Reason::Owned)),
        Some(_) => {}
        None => at.make_table(),
    }
    for chain in &table.rewrite {
        if !chain.exists {
            at.make_chain(&chain.name);
        }
        at.make_parts(&chain.name, &all(&chain.rules));
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

/// Takes away our stale chains.
fn remove<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    // They may jump to one another: first they are all emptied.
    for name in &table.remove {
        at.empty(name);
    }
    for name in &table.remove {
        at.remove_chain(name);
    }
    Ok(())
}

/// Takes away base chains that hold no rule any more, and the table if it holds nothing else.
fn remove_what_is_empty<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    let Some(found) = at.found else {
        return Ok(());
    };
    let removed: Vec<&str> = table.remove.iter().map(ChainName::as_str).collect();
    let is_removed = |c: &dump::Chain| {
        let part_of = |chain: &&str| at.parts_found(chain).iter().any(|p| p.name == c.name);
        removed.contains(&c.name.as_str()) || removed.iter().any(part_of)
    };
    let empty = |c: &&dump::Chain| is_left_empty(c, table, at);
    let nothing_stays = found.chains.iter().all(|c| is_removed(c) || empty(&c));
    let goes = nothing_stays && !found.holds_more() && is_mere_removal(table);
    // Chains that iptables has made beside those with our rules go only with the whole table.
    let of_ours = |c: &&dump::Chain| goes || table.base.iter().any(|b| b.chain.as_str() == c.name);
    let chains = found.chains.iter().filter(empty).filter(of_ours);
    let chains: Vec<&str> = chains.map(|c| c.name.as_str()).collect();
    for chain in chains {
        at.remove_base_chain(chain);
    }
    if goes {
        at.remove_table();
    }
    Ok(())
}

fn all(rules: &[Rule]) -> Vec<&Rule> {
    rules.iter().collect()
}

/// The base chain was made as it is made here, and holds no rule once the change is done.
fn is_left_empty(found: &dump::Chain, table: &TableChange, at: &TableEncoder) -> bool {
    let Some(hook) = Hook::named(&found.name) else {
        return false;
    };
    let change = table.base.iter().find(|b| b.chain.as_str() == found.name);
    let emptied = match change {
        Some(change) => change.head.is_empty() && change.tail.is_empty() && at.is_all_ours(change),
        None => found.rules.is_empty() && found.hidden == 0,
    };
    emptied && found.base == Some(hooks::base(at.store, at.table, hook))
}

/// Nothing is wanted in the table.
fn is_mere_removal(table: &TableChange) -> bool {
    let adds = |b: &BaseChange| !b.head.is_empty() || !b.tail.is_empty();
    table.rewrite.is_empty() && !table.base.iter().any(adds)
}
