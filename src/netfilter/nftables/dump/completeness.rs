//! Detects rules that the kernel did not return.
//!
//! A rule over 32 KiB silently ends the dump of its chain (nf_tables_dump_rules and netlink_dump of
//! the kernel), hiding itself and all later rules. But each chain has a use count: one for each of
//! its rules, and one for each jump to it from a rule or map element. Uncommitted rules of other
//! programs are counted too.

use super::{Chain, Rule, Table, TableHead, read_chain, text};
use crate::netfilter::netlink::{AttributeTable, Attributes, Error, Malformed, Transport, Writer};
use crate::netfilter::nftables::expr::immediate::NFTA_VERDICT_CHAIN;
use crate::netfilter::nftables::kernel::Kernel;
use crate::netfilter::nftables::nf_tables::*;
use std::collections::HashMap;

/// Jumps to each chain, by name.
type Jumps = HashMap<String, u32>;

/// Counts the hidden rules of relevant chains.
pub(super) fn count_hidden<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &mut Table,
) -> Result<(), Error> {
    if unseen(table, &jumps(table)).is_empty() {
        return Ok(());
    }
    // Jumps may be in a chain that was not read.
    for at in 0..table.chains.len() {
        read_chain(kernel, table, at)?;
    }
    let mut jumps = jumps(table);
    if !unseen(table, &jumps).is_empty() {
        for (chain, count) in jumps_of_maps(kernel, table)? {
            *jumps.entry(chain).or_default() += count;
        }
    }
    for (at, count) in unseen(table, &jumps) {
        table.chains[at].hidden = count;
    }
    Ok(())
}

/// Relevant chains whose use count exceeds what was read, and by how much.
fn unseen(table: &Table, jumps: &Jumps) -> Vec<(usize, u32)> {
    let more = |chain: &Chain| {
        let jumps = jumps.get(&chain.name).copied().unwrap_or(0);
        let seen = chain.rules.len() as u32 + jumps;
        let uses = chain.uses.filter(|_| chain.matters);
        uses.map_or(0, |uses| uses.saturating_sub(seen))
    };
    let counted = table.chains.iter().map(more).enumerate();
    counted.filter(|(_, more)| *more > 0).collect()
}

fn jumps(table: &Table) -> Jumps {
    let mut jumps = Jumps::new();
    let rules = table.chains.iter().flat_map(|c| &c.rules);
    for to in rules.filter_map(Rule::jump) {
        match jumps.get_mut(to) {
            Some(count) => *count += 1,
            None => _ = jumps.insert(to.to_owned(), 1),
        }
    }
    jumps
}

/// Jumps of verdict maps.
fn jumps_of_maps<T: Transport>(kernel: &mut Kernel<T>, table: &Table) -> Result<Jumps, Error> {
    let TableHead { family, name, .. } = &table.head;
    let (mut jumps, mut maps) = (Jumps::new(), Vec::new());
    let filter = |w: &mut Writer| w.string(NFTA_SET_TABLE, name);
    kernel.dump(NFT_MSG_GETSET, *family, filter, |_, a| {
        let a = AttributeTable::<8>::parse(a)?;
        if a.get(NFTA_SET_DATA_TYPE).is_some() && a.u32(NFTA_SET_DATA_TYPE)? == NFT_DATA_VERDICT {
            maps.push(a.string(NFTA_SET_NAME)?.to_owned());
        }
        Ok(())
    })?;
    for map in maps {
        let filter = |w: &mut Writer| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, name);
            w.string(NFTA_SET_ELEM_LIST_SET, &map);
        };
        kernel.dump(NFT_MSG_GETSETELEM, *family, filter, |_, a| {
            let a = AttributeTable::<4>::parse(a)?;
            for element in Attributes::new(a.get(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default()) {
                if let Some(chain) = jump_of(element?.1)? {
                    *jumps.entry(chain).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }
    Ok(jumps)
}

/// The chain in an element of a verdict map.
fn jump_of(element: &[u8]) -> Result<Option<String>, Malformed> {
    let element = AttributeTable::<3>::parse(element)?;
    let Some(data) = element.get(NFTA_SET_ELEM_DATA) else {
        return Ok(None);
    };
    let data = AttributeTable::<3>::parse(data)?;
    let Some(verdict) = data.get(NFTA_DATA_VERDICT) else {
        return Ok(None);
    };
    let verdict = AttributeTable::<3>::parse(verdict)?;
    Ok(verdict
        .get(NFTA_VERDICT_CHAIN)
        .map(|c| text(c).into_owned()))
}
