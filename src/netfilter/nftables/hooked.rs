//! Everything in nf_tables that an IP packet meets, whoever wrote it, to be followed by one.
//!
//! What the model can say is said in it. Of another rule, that much is kept as is certain: the first
//! conditions, up to the one that is not understood.

use super::dump::{self, Dump};
use super::expr::{Expr, Verdict, meta};
use super::hooks::{self, Base as LiveBase};
use super::kernel::Kernel;
use super::native::{self, Sets};
use super::nf_tables::*;
use super::{decode, verdict, xt};
use crate::netfilter::backend::Store;
use crate::netfilter::model::{
    Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable, LiveTable, Match, Rule, Target,
    Why,
};
use crate::netfilter::netlink::{AttributeTable, Error, Malformed, Transport};
use nix::libc;

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
        dump::read_sets(kernel, &mut table.sets, family, &name)?;
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
    // Of chains with the same priority the kernel asks the one that came last first
    // (`nf_hook_entries_grow`).
    Ok(tables
        .iter()
        .rev()
        .flat_map(|t| hooked(t, &ours, &live.tables))
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
fn hooked(table: &Table, ours: &Dump, live: &[LiveTable]) -> Vec<HookedTable> {
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
                None => chain
                    .rules
                    .iter()
                    .filter_map(|r| entry(r, table, family))
                    .collect(),
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
        accepts: base.accepts,
    })
}

/// A rule as packets of a family meet it; nothing if it is for the other family alone.
fn entry(rule: &dump::Rule, table: &Table, family: Family) -> Option<Entry> {
    // What a device's rules look at is not yet an IP packet, or no longer.
    let (matches, rest) = match table.family {
        NFPROTO_NETDEV => (Vec::new(), rule.exprs.clone()),
        _ => conditions(of_family(&rule.exprs, family)?, family, &table.sets),
    };
    if let Some(target) = target(&rest, family) {
        return Some(known(Rule::without_comment(matches, target), rule));
    }
    let text = decode::opaque(rule, xt::comment(&rule.exprs)).text;
    if let [Expr::Verdict(Verdict::Goto(chain))] = rest.as_slice() {
        let chain = ChainName::of_nf_tables(chain);
        return Some(Entry::Goto {
            text,
            matches,
            chain,
        });
    }
    Some(match rest.iter().all(only_asks) {
        true => Entry::Idle { text },
        false => Entry::Unread {
            text,
            matches,
            target: unread_target(&rest),
        },
    })
}

/// What a rule says to packets of a family, without what changes nothing; nothing if it is for the
/// other family alone.
fn of_family(exprs: &[Expr], family: Family) -> Option<Vec<Expr>> {
    let nfproto = [hooks::nfproto(family)];
    let mut rest = Vec::new();
    let mut exprs = exprs
        .iter()
        .filter(|e| !is_idle(e) && !xt::is_comment(e))
        .peekable();
    while let Some(expr) = exprs.next() {
        match (expr, exprs.peek()) {
            (Expr::Meta(meta::NFT_META_NFPROTO), Some(Expr::Cmp { not, value })) => {
                if (*value == nfproto) == *not {
                    return None;
                }
                exprs.next();
            }
            _ => rest.push(expr.clone()),
        }
    }
    Some(rest)
}

/// The conditions at the front that the model can say, and what is left.
fn conditions(exprs: Vec<Expr>, family: Family, sets: &Sets) -> (Vec<Match>, Vec<Expr>) {
    let mut matches = Vec::new();
    let mut rest = exprs.as_slice();
    while let Some((m, used)) = condition(rest, family, sets) {
        matches.push(m);
        rest = rest.get(used..).unwrap_or_default();
    }
    (matches, rest.to_vec())
}

fn known(rule: Rule, found: &dump::Rule) -> Entry {
    let comment = xt::comment(&found.exprs).or_else(|| found.comment.clone());
    let why = comment.and_then(|c| Why::from_comment(&c));
    Entry::Known(Rule { why, ..rule })
}

/// One condition off the front.
fn condition(exprs: &[Expr], family: Family, sets: &Sets) -> Option<(Match, usize)> {
    match exprs {
        [Expr::Match(extension), ..] => Some((xt::matches::read(extension)?, 1)),
        exprs => native::read_match(exprs, family, sets),
    }
}

/// The target, if that is all that is left.
fn target(exprs: &[Expr], family: Family) -> Option<Target> {
    match exprs {
        [Expr::Target(extension)] => xt::target::read(extension, family),
        exprs => native::action::read(exprs, family),
    }
}

/// The verdict at the end, if nothing before it changes the packet.
fn unread_target(exprs: &[Expr]) -> Option<Target> {
    match exprs.split_last()? {
        (Expr::Verdict(Verdict::Goto(_)), _) => None,
        (Expr::Verdict(found), before) if before.iter().all(only_asks) => verdict::read(found),
        _ => None,
    }
}

/// Whether it leaves the packet as it is, and at most ends the rule.
fn only_asks(expr: &Expr) -> bool {
    const ASKING: [&str; 8] = [
        "fib",
        "limit",
        "lookup",
        "range",
        "cmp",
        "bitwise",
        "connlimit",
        "quota",
    ];
    match expr {
        Expr::Other(name) => ASKING.contains(&name.as_str()),
        Expr::MetaSet(_)
        | Expr::CtSet(_)
        | Expr::Verdict(_)
        | Expr::Target(_)
        | Expr::Redirect
        | Expr::Tproxy { .. }
        | Expr::Reject { .. } => false,
        _ => true,
    }
}

/// It counts, logs or marks for tracing, and no more.
fn is_idle(expr: &Expr) -> bool {
    match expr {
        Expr::Counter => true,
        Expr::Other(name) => name == "log",
        Expr::Target(extension) => {
            ["LOG", "NFLOG", "TRACE", "AUDIT"].contains(&extension.name.as_ref())
        }
        _ => false,
    }
}
