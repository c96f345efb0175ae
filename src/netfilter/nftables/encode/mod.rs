//! Encodes a change as messages: tables and chains, then rules, then removals.

mod base;
mod origin;
mod write;

use super::batch::Batch;
use super::dump::{self, Dump};
use super::hooks;
use super::nf_tables::{NFT_MSG_DELTABLE, NFTA_TABLE_NAME};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{BaseChange, Change, Hook, InetTable, Rule, TableChange};
pub(super) use origin::{Operation, Origin, Place, Reason, Unsupported};
use write::TableEncoder;

/// All messages of a change made from this dump. With `tidy`, base chains and tables left empty are
/// removed.
///
/// A dormant table needs a second transaction: the kernel refuses to clear the flag in one that
/// adds or removes base chains.
pub(super) fn encode<'a>(
    change: &'a Change,
    dump: &'a Dump,
    kind: TableKind,
    tidy: bool,
) -> Result<(Batch<Origin<'a>>, Batch<Origin<'a>>), Unsupported<'a>> {
    let (mut batch, mut later) = (Batch::new(), Batch::new());
    let mut last_set = 0;
    for table in &change.tables {
        let found = dump.table(kind, table.family, table.name);
        let mut at = TableEncoder::new(&mut batch, kind, table, found, &mut last_set);
        declare(&mut at, table)?;
        for chain in &table.rewrite {
            if at.chain_found(&chain.name).is_some() {
                at.empty(&chain.name);
            }
            at.fill(&chain.name, &all(&chain.rules))?;
        }
        for chain in &table.accept {
            at.accept(chain);
        }
        table
            .base
            .iter()
            .try_for_each(|base| at.change_base(base))?;
        remove(&mut at, table);
        if tidy {
            remove_what_is_empty(&mut at, table);
        }
        if let Some(found) = found.filter(|_| table.wake) {
            let mut at = TableEncoder::new(&mut later, kind, table, Some(found), &mut last_set);
            at.wake(found.head.flags);
        }
    }
    change
        .remove
        .iter()
        .for_each(|t| remove_inet(&mut batch, t));
    Ok((batch, later))
}

/// Removes a table with its content.
fn remove_inet<'a>(batch: &mut Batch<Origin<'a>>, table: &'a InetTable) {
    let origin = Origin {
        place: Place::Inet(table),
        what: Operation::RemoveTable,
    };
    batch.message(NFT_MSG_DELTABLE, 0, hooks::INET, origin, |w| {
        w.string(NFTA_TABLE_NAME, &table.0);
    });
}

/// Creates the table and managed chains, if missing.
fn declare<'a>(
    at: &mut TableEncoder<'_, 'a>,
    table: &'a TableChange,
) -> Result<(), Unsupported<'a>> {
    match at.found {
        Some(found) if found.head.is_owned() => {
            return Err(at.unsupported(Operation::Table, Reason::Owned));
        }
        Some(_) => {}
        None => at.make_table(),
    }
    for chain in table.rewrite.iter().filter(|c| !c.exists) {
        at.make_chain(&chain.name);
    }
    Ok(())
}

/// Removes obsolete managed chains.
fn remove<'a>(at: &mut TableEncoder<'_, 'a>, table: &'a TableChange) {
    // They may jump to each other, so all are flushed first.
    for name in &table.remove {
        at.empty(name);
    }
    for name in &table.remove {
        at.remove_chain(name);
    }
}

/// Removes empty base chains, and the table if nothing else is in it.
fn remove_what_is_empty<'a>(at: &mut TableEncoder<'_, 'a>, table: &'a TableChange) {
    let Some(found) = at.found else {
        return;
    };
    let is_removed = |c: &dump::Chain| table.remove.iter().any(|name| name.as_str() == c.name);
    let empty = |c: &&dump::Chain| is_left_empty(c, table, at);
    let nothing_stays = found.chains.iter().all(|c| is_removed(c) || empty(&c));
    let goes = nothing_stays && !found.holds_more() && is_mere_removal(table);
    // Empty base chains made by iptables are removed only with the whole table.
    let is_managed =
        |c: &&dump::Chain| goes || table.base.iter().any(|b| b.chain.as_str() == c.name);
    let chains = found.chains.iter().filter(empty).filter(is_managed);
    let chains: Vec<&str> = chains.map(|c| c.name.as_str()).collect();
    for chain in chains {
        at.remove_base_chain(chain);
    }
    if goes {
        at.remove_table();
    }
}

fn all(rules: &[Rule]) -> Vec<&Rule> {
    rules.iter().collect()
}

/// Whether a base chain is as this program creates it, and empty after the change.
fn is_left_empty(found: &dump::Chain, table: &TableChange, at: &TableEncoder) -> bool {
    let Some(hook) = Hook::named(&found.name) else {
        return false;
    };
    let change = table.base.iter().find(|b| b.chain.as_str() == found.name);
    let emptied = match change {
        Some(change) => {
            change.head.is_empty() && change.tail.is_empty() && at.is_all_managed(change)
        }
        None => found.rules.is_empty() && found.hidden == 0,
    };
    emptied && found.base == Some(hooks::base(at.kind, at.table, hook))
}

/// Whether the table has no desired rules.
fn is_mere_removal(table: &TableChange) -> bool {
    let adds = |b: &BaseChange| !b.head.is_empty() || !b.tail.is_empty();
    table.rewrite.is_empty() && !table.base.iter().any(adds)
}
