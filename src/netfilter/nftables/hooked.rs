//! All rules of nf_tables that an IP packet traverses, managed and foreign, for traces.
//!
//! Own tables are decoded by their backend, all others by [`foreign`].

use super::decode;
use super::dump::{self, Dump, Table, TableHead};
use super::foreign::{self, Context};
use super::hooks::{self, Base as ObservedBase, INET};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable};
use nix::libc;
use nix::net::if_::if_nameindex;
use std::collections::BTreeMap;

pub(super) const NFPROTO_NETDEV: u8 = libc::NFPROTO_NETDEV as u8;

/// Whether IP packets traverse the table.
pub(super) fn is_met(head: &TableHead) -> bool {
    let families = [INET, NFPROTO_NETDEV];
    let of_ip = families.contains(&head.family) || hooks::family(head.family).is_some();
    of_ip && !head.is_dormant()
}

/// The tables of a dump. Among chains of equal priority the one hooked last runs first
/// (`nf_hook_entries_grow`).
pub(super) fn tables(dump: &Dump) -> Vec<HookedTable> {
    let interfaces = interfaces();
    let tables = dump.tables.iter().rev();
    tables.flat_map(|t| hooked(t, &interfaces)).collect()
}

/// The table for each family; own ones as their backend reads them.
fn hooked(table: &Table, interfaces: &BTreeMap<u32, String>) -> Vec<HookedTable> {
    let families = match hooks::family(table.head.family) {
        Some(family) => vec![family],
        None => Family::ALL.to_vec(),
    };
    let known = decode::observed_table(table, TableKind::Native);
    let of_family = |family: Family| {
        let chains = table.chains.iter().rev().filter(|c| c.matters);
        let chains = chains.map(|chain| {
            let name = ChainName::of_nf_tables(&chain.name);
            let base = chain.base.as_ref();
            let observed = known.as_ref().and_then(|known| known.chain(&name));
            HookedChain {
                rules: match observed {
                    Some(observed) => observed.rules.iter().map(Entry::observed).collect(),
                    None => {
                        let sets = &table.foreign;
                        let context = Context {
                            family,
                            sets,
                            interfaces,
                        };
                        entries(chain, table, context)
                    }
                },
                base: base.and_then(|base| base_of(table.head.family, base)),
                name,
            }
        });
        HookedTable {
            name: full_name(table.head.family, &table.head.name),
            family: Some(family),
            chains: chains.collect(),
        }
    };
    families.into_iter().map(of_family).collect()
}

/// The rules of a chain, with an undecoded one for hidden rules.
fn entries(chain: &dump::Chain, table: &Table, context: Context) -> Vec<Entry> {
    let rules = chain.rules.iter();
    let entries = rules.filter_map(|rule| foreign::entry(rule, context));
    let hidden = (chain.hidden > 0).then(|| Entry::Undecoded {
        text: decode::hidden_rules(chain.hidden),
        handle: None,
        matches: Vec::new(),
        target: None,
    });
    match table.head.family {
        // The device is not known.
        NFPROTO_NETDEV => entries.map(Entry::undetermined).chain(hidden).collect(),
        _ => entries.chain(hidden).collect(),
    }
}

/// The name for `iptables -t`, or as nft prints it.
pub(super) fn full_name(family: u8, name: &str) -> String {
    let family = match family {
        INET => "inet ",
        NFPROTO_NETDEV => "netdev ",
        _ => "",
    };
    format!("{family}{name}")
}

/// The hook of a chain. Ingress and egress of a device come before and after all others.
pub(super) fn base_of(family: u8, base: &ObservedBase) -> Option<Base> {
    const NF_NETDEV_INGRESS: u32 = 0;
    const NF_INET_INGRESS: u32 = 5;
    let (hook, priority) = match (family, base.hook) {
        (NFPROTO_NETDEV, NF_NETDEV_INGRESS) | (INET, NF_INET_INGRESS) => {
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

/// Interface names by index.
fn interfaces() -> BTreeMap<u32, String> {
    let named = if_nameindex();
    let all = named.iter().flat_map(|names| names.iter());
    all.map(|i| (i.index(), i.name().to_string_lossy().into_owned()))
        .collect()
}
