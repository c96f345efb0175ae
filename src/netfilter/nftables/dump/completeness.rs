//! Whether the kernel showed every rule.
//!
//! A rule that does not fit into 32 KiB ends a dump, without an error (nf_tables_dump_rules and
//! netlink_dump of the kernel): it hides itself and all that stand behind it in the table. But each
//! chain says how often it is used: once for each of its rules, and once for each rule or element of
//! a map that jumps to it.

use super::{Chain, Rule, Table, read_rule, text};
use crate::netfilter::netlink::{AttributeTable, Attributes, Error, Malformed, Transport, Writer};
use crate::netfilter::nftables::expr::immediate::NFTA_VERDICT_CHAIN;
use crate::netfilter::nftables::expr::{Expr, Verdict};
use crate::netfilter::nftables::hooks;
use crate::netfilter::nftables::kernel::Kernel;
use crate::netfilter::nftables::nf_tables::*;
use std::collections::HashMap;

/// How often something jumps to a chain, by the chain's name.
type Jumps = HashMap<String, u32>;

/// Dumps chain by chain what a dump of the whole table left out, and counts what is hidden even so.
pub(super) fn complete<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &mut Table,
    name: &str,
) -> Result<(), Error> {
    if hidden(table, &jumps(table)).is_empty() {
        return Ok(());
    }
    for (at, _) in hidden(table, &jumps(table)) {
        let chain = &table.chains[at];
        let rules = rules_of(kernel, table, name, &chain.name)?;
        if rules.len() > chain.rules.len() {
            table.chains[at].rules = rules;
        }
    }
    let mut jumps = jumps(table);
    if !hidden(table, &jumps).is_empty() {
        add_jumps_of_maps(kernel, table, name, &mut jumps)?;
    }
    for (at, count) in hidden(table, &jumps) {
        table.chains[at].hidden = count;
    }
    Ok(())
}

/// The chains that are used more often than can be seen, and how much more.
fn hidden(table: &Table, jumps: &Jumps) -> Vec<(usize, u32)> {
    let more = |chain: &Chain| {
        let jumps = jumps.get(&chain.name).copied().unwrap_or(0);
        let seen = chain.rules.len() as u32 + jumps;
        chain.uses.map_or(0, |uses| uses.saturating_sub(seen))
    };
    let counted = table.chains.iter().map(more).enumerate();
    counted.filter(|(_, more)| *more > 0).collect()
}

/// The jumps of rules that were seen.
fn jumps(table: &Table) -> Jumps {
    let mut jumps = Jumps::new();
    let rules = table.chains.iter().flat_map(|c| &c.rules);
    for expr in rules.flat_map(|r| &r.exprs) {
        if let Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) = expr {
            *jumps.entry(chain.clone()).or_default() += 1;
        }
    }
    jumps
}

fn rules_of<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &Table,
    name: &str,
    chain: &str,
) -> Result<Vec<Rule>, Error> {
    let mut rules = Vec::new();
    let filter = |w: &mut Writer| {
        w.string(NFTA_RULE_TABLE, name);
        w.string(NFTA_RULE_CHAIN, chain);
    };
    let family = hooks::nfproto(table.family);
    kernel.dump(NFT_MSG_GETRULE, family, filter, |_, a| {
        let rule = read_rule(name, a)?.filter(|(of, _)| of == chain);
        rules.extend(rule.map(|(_, rule)| rule));
        Ok(())
    })?;
    Ok(rules)
}

/// The jumps of the table's verdict maps.
fn add_jumps_of_maps<T: Transport>(
    kernel: &mut Kernel<T>,
    table: &Table,
    name: &str,
    jumps: &mut Jumps,
) -> Result<(), Error> {
    let family = hooks::nfproto(table.family);
    let mut maps = Vec::new();
    let filter = |w: &mut Writer| w.string(NFTA_SET_TABLE, name);
    kernel.dump(NFT_MSG_GETSET, family, filter, |_, a| {
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
        kernel.dump(NFT_MSG_GETSETELEM, family, filter, |_, a| {
            let a = AttributeTable::<4>::parse(a)?;
            for element in Attributes::new(a.get(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default()) {
                if let Some(chain) = jump_of(element?.1)? {
                    *jumps.entry(chain).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The chain that an element of a verdict map leads to.
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
