//! Everything in nf_tables that an IP packet meets, whoever wrote it, to be followed by one.
//!
//! What the model can say is said in it. Of another rule, that much is kept as is certain: the first
//! conditions, up to the one that is not understood.

use super::dump::{self, Dump, Table, TableHead};
use super::expr::{Expr, Verdict, meta};
use super::hooks::{self, Base as LiveBase};
use super::native::{self, Sets};
use super::{decode, verdict, xt};
use crate::netfilter::backend::Store;
use crate::netfilter::model::{
    Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable, Match, Rule, Target, Why,
};
use nix::libc;

const NFPROTO_INET: u8 = libc::NFPROTO_INET as u8;
const NFPROTO_NETDEV: u8 = libc::NFPROTO_NETDEV as u8;

/// Whether IP packets come to the table.
pub(super) fn is_met(head: &TableHead) -> bool {
    let families = [NFPROTO_INET, NFPROTO_NETDEV];
    let of_ip = families.contains(&head.family) || hooks::family(head.family).is_some();
    of_ip && !head.is_dormant()
}

/// The tables of a dump. Of chains with the same priority the kernel asks the one that came last
/// first (`nf_hook_entries_grow`).
pub(super) fn tables(dump: &Dump) -> Vec<HookedTable> {
    dump.tables.iter().rev().flat_map(hooked).collect()
}

/// The table as each family meets it; those of our own as their backend reads them.
fn hooked(table: &Table) -> Vec<HookedTable> {
    let families = match hooks::family(table.head.family) {
        Some(family) => vec![family],
        None => Family::ALL.to_vec(),
    };
    let known = decode::live_table(table, Store::Native);
    let of_family = |family: Family| {
        let chains = table.chains.iter().rev().filter(|c| c.matters);
        let chains = chains.map(|chain| {
            let name = ChainName::of_nf_tables(&chain.name);
            let base = chain.base.as_ref();
            let live = known.as_ref().and_then(|known| known.chain(&name));
            HookedChain {
                rules: match live {
                    Some(live) => live.rules.iter().map(Entry::live).collect(),
                    None => entries(chain, table, family),
                },
                base: base.and_then(|base| base_of(table.head.family, base)),
                name,
            }
        });
        HookedTable {
            name: name_of(table),
            family: Some(family),
            chains: chains.collect(),
        }
    };
    families.into_iter().map(of_family).collect()
}

/// The rules of a chain, and one that may be anything for those that the kernel does not show.
fn entries(chain: &dump::Chain, table: &Table, family: Family) -> Vec<Entry> {
    let rules = chain.rules.iter().filter_map(|r| entry(r, table, family));
    let hidden = (chain.hidden > 0).then(|| Entry::Unread {
        text: decode::hidden_rules(chain.hidden),
        matches: Vec::new(),
        target: None,
    });
    rules.chain(hidden).collect()
}

/// As `iptables -t` names it where it is one of those, otherwise as nft does.
fn name_of(table: &Table) -> String {
    let family = match table.head.family {
        NFPROTO_INET => "inet ",
        NFPROTO_NETDEV => "netdev ",
        _ => "",
    };
    format!("{family}{}", table.head.name)
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
    let (matches, rest) = match table.head.family {
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
