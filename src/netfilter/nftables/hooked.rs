//! Everything in nf_tables that an IP packet meets, whoever wrote it, to be followed by one.
//!
//! Rules of our own tables are read as what was written, all others as [`foreign`] reads them.

use super::decode;
use super::dump::{self, Dump};
use super::foreign::{self, Context, Sets};
use super::hooks::{self, Base as LiveBase};
use super::kernel::Kernel;
use super::nf_tables::*;
use crate::netfilter::backend::Store;
use crate::netfilter::model::{
    Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable, LiveTable,
};
use crate::netfilter::netlink::{AttributeTable, Error, Malformed, Transport};
use nix::libc;
use nix::net::if_::if_nameindex;
use std::collections::BTreeMap;

const NFPROTO_INET: u8 = libc::NFPROTO_INET as u8;
const NFPROTO_NETDEV: u8 = libc::NFPROTO_NETDEV as u8;

/// A table of any family.
struct Table {
    /// `NFPROTO_*`.
    family: u8,
    name: String,
    dormant: bool,
    chains: Vec<dump::Chain>,
    sets: Sets,
}

/// Reads all tables.
///
/// # Errors
/// [`Error::Interrupted`] if somebody committed meanwhile.
pub(super) fn read<T: Transport>(kernel: &mut Kernel<T>) -> Result<Vec<HookedTable>, Error> {
    let ours = Dump::read(kernel, Store::Native)?;
    let mut tables = Vec::new();
    kernel.dump(
        NFT_MSG_GETTABLE,
        0,
        |_| {},
        |family, a| {
            tables.extend(read_table(family, a)?);
            Ok(())
        },
    )?;
    let find = |tables: &mut [Table], family: u8, name: &[u8]| {
        let name = dump::text(name);
        tables
            .iter()
            .position(|t| t.family == family && t.name == name)
    };
    kernel.dump(
        NFT_MSG_GETCHAIN,
        0,
        |_| {},
        |family, a| {
            let a = AttributeTable::<8>::parse(a)?;
            let at = find(&mut tables, family, a.bytes(NFTA_CHAIN_TABLE)?);
            if let Some(at) = at {
                tables[at].chains.push(dump::Chain::read(&a)?);
            }
            Ok(())
        },
    )?;
    for table in &mut tables {
        let (family, name) = (table.family, table.name.clone());
        table.sets = Sets::read(kernel, family, &name)?;
    }
    kernel.dump(
        NFT_MSG_GETRULE,
        0,
        |_| {},
        |family, a| {
            let a = AttributeTable::<8>::parse(a)?;
            let chain = dump::text(a.bytes(NFTA_RULE_CHAIN)?);
            let table =
                find(&mut tables, family, a.bytes(NFTA_RULE_TABLE)?).map(|at| &mut tables[at]);
            let chains = table.into_iter().flat_map(|t| &mut t.chains);
            if let Some(chain) = chains.into_iter().find(|c| c.name == chain) {
                chain.rules.push(dump::Rule::read(&a)?);
            }
            Ok(())
        },
    )?;
    if kernel.generation()? != ours.generation {
        return Err(Error::Interrupted);
    }
    let live = decode::live(&ours, Store::Native);
    let interfaces = interfaces();
    // Of chains with the same priority the kernel asks the one that came last first
    // (`nf_hook_entries_grow`).
    Ok(tables
        .iter()
        .rev()
        .flat_map(|t| hooked(t, &ours, &live.tables, &interfaces))
        .collect())
}

fn read_table(family: u8, attributes: &[u8]) -> Result<Option<Table>, Malformed> {
    let met = [NFPROTO_INET, NFPROTO_NETDEV].contains(&family) || hooks::family(family).is_some();
    let a = AttributeTable::<4>::parse(attributes)?;
    let flags = match a.get(NFTA_TABLE_FLAGS) {
        Some(_) => a.u32(NFTA_TABLE_FLAGS)?,
        None => 0,
    };
    Ok(met.then_some(Table {
        family,
        name: dump::text(a.bytes(NFTA_TABLE_NAME)?).into_owned(),
        dormant: flags & NFT_TABLE_F_DORMANT != 0,
        chains: Vec::new(),
        sets: Sets::default(),
    }))
}

/// The table as each family meets it; those of our own from the dump that puts their parts together.
fn hooked(
    table: &Table,
    ours: &Dump,
    live: &[LiveTable],
    interfaces: &BTreeMap<u32, String>,
) -> Vec<HookedTable> {
    if table.dormant {
        return Vec::new();
    }
    let families = match hooks::family(table.family) {
        Some(family) => vec![family],
        None => Family::ALL.to_vec(),
    };
    let known = ours.tables.iter().zip(live).find(|(t, _)| {
        Some(t.family) == hooks::family(table.family)
            && hooks::table_name(Store::Native, t.name) == table.name
    });
    let of_family = |family: Family| {
        let chains = table.chains.iter().rev().map(|chain| HookedChain {
            name: ChainName::of_nf_tables(&chain.name),
            base: chain
                .base
                .as_ref()
                .and_then(|base| base_of(table.family, base)),
            rules: match known
                .and_then(|(_, live)| live.chain(&ChainName::of_nf_tables(&chain.name)))
            {
                Some(live) => live.rules.iter().map(Entry::live).collect(),
                None => {
                    let context = Context {
                        family,
                        sets: &table.sets,
                        interfaces,
                    };
                    let rules = chain.rules.iter();
                    let entries = rules.filter_map(|rule| foreign::entry(rule, context));
                    match table.family {
                        // Which device they are for is not known.
                        NFPROTO_NETDEV => entries.map(Entry::undetermined).collect(),
                        _ => entries.collect(),
                    }
                }
            },
        });
        HookedTable {
            name: name_of(table),
            family: Some(family),
            chains: chains.collect(),
        }
    };
    families.into_iter().map(of_family).collect()
}

/// As `iptables -t` names it where it is one of those, otherwise as nft does.
fn name_of(table: &Table) -> String {
    let family = match table.family {
        NFPROTO_INET => "inet ",
        NFPROTO_NETDEV => "netdev ",
        _ => "",
    };
    format!("{family}{}", table.name)
}

/// Where a packet meets the chain. Ingress and egress of a device come before and after all else.
fn base_of(family: u8, base: &LiveBase) -> Option<Base> {
    const NF_NETDEV_INGRESS: u32 = 0;
    const NF_INET_INGRESS: u32 = 5;
    let (hook, priority) = match (family, base.hook) {
        (NFPROTO_NETDEV, NF_NETDEV_INGRESS) | (NFPROTO_INET, NF_INET_INGRESS) => {
            (Hook::Prerouting, i32::MIN)
        }
        (NFPROTO_NETDEV, _) => (Hook::Postrouting, i32::MAX),
        (_, hook) => (*Hook::ALL.get(hook as usize)?, base.priority),
    };
    Some(Base {
        hook,
        priority,
        is_nat: base.kind == "nat",
        reroutes: base.kind == "route",
        accepts: base.accepts,
    })
}

/// The names of this namespace's interfaces by their numbers.
fn interfaces() -> BTreeMap<u32, String> {
    let named = if_nameindex();
    let all = named.iter().flat_map(|names| names.iter());
    all.map(|i| (i.index(), i.name().to_string_lossy().into_owned()))
        .collect()
}
