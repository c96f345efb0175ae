//! From a dump to the model, as far as the model can say it. The rules of the model carry the
//! handles of the kernel's rules that they are.

use super::dump::{self, Chain, Dump, Table};
use super::expr::{Expr, Verdict};
use super::hooks;
use super::native::{self, Line};
use super::verdict;
use super::xt::{self, Understood};
use crate::netfilter::backend::Store;
use crate::netfilter::model::{
    ChainName, Counters, Family, Live, LiveChain, LiveRule, LiveTable, Rule, Target,
};

/// What was dumped, in the model. A chain whose name iptables would not take is foreign, and nothing
/// there concerns us.
pub(super) fn live(dump: &Dump, store: Store) -> Live {
    let tables = dump.tables.iter().map(|table| LiveTable {
        family: table.family,
        name: table.name,
        chains: match store {
            Store::Native => chains(table, store, table.without_parts(), native_rules),
            _ => chains(table, store, table.chains.iter(), xt_rules),
        },
    });
    Live {
        tables: tables.collect(),
    }
}

fn chains<'d>(
    table: &Table,
    store: Store,
    found: impl Iterator<Item = &'d Chain>,
    rules: fn(&Table, &Chain) -> Vec<LiveRule>,
) -> Vec<LiveChain> {
    let live = found.filter_map(|chain| {
        let name = ChainName::new(&chain.name).ok()?;
        let mut rules = rules(table, chain);
        if !hooks::is_hooked_as_named(store, table.name, &name, chain.base.as_ref()) {
            // They do something else than they say.
            rules.iter_mut().for_each(LiveRule::forget);
        }
        rules.extend((chain.hidden > 0).then(|| {
            unseen(format!(
                "[{} rules that the kernel does not show]",
                chain.hidden
            ))
        }));
        let drops = chain.base.as_ref().is_some_and(|base| !base.accepts);
        Some(LiveChain { name, drops, rules })
    });
    live.collect()
}

/// The rules of a chain as iptables-nft keeps them.
fn xt_rules(table: &Table, chain: &Chain) -> Vec<LiveRule> {
    let rules = chain.rules.iter().map(|r| xt_rule(r, table.family));
    rules.collect()
}

/// The rules of a chain, from all its parts.
fn native_rules(table: &Table, chain: &Chain) -> Vec<LiveRule> {
    let parts = [&[chain], table.parts(&chain.name).as_slice()].concat();
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    let lines: Vec<Vec<Option<Line>>> = parts
        .iter()
        .map(|part| part.rules.iter().map(|r| line(r, table)).collect())
        .collect();
    let rules = native::raise(&names, &lines).into_iter().map(|raised| {
        let found = raised
            .lines
            .iter()
            .map(|(part, at)| &parts[*part].rules[*at]);
        let found: Vec<&dump::Rule> = found.collect();
        match (raised.rule, found.as_slice()) {
            (Some(rule), found) => native_rule(rule, found),
            (None, [found, ..]) => opaque(found, None),
            (None, []) => unseen("[other rules for packets without a socket]".to_owned()),
        }
    });
    rules.collect()
}

fn line(rule: &dump::Rule, table: &Table) -> Option<Line> {
    native::read(
        &rule.exprs,
        rule.comment.as_deref(),
        table.family,
        &table.sets,
    )
}

/// A rule of the model that is some of the kernel's.
fn native_rule(rule: Rule, found: &[&dump::Rule]) -> LiveRule {
    let comment = rule.why.as_ref().map(ToString::to_string);
    let handles = found.iter().map(|r| r.handle).collect();
    // What leads to another part is counted there.
    let leads = |r: &dump::Rule| matches!(r.exprs.last(), Some(Expr::Verdict(Verdict::Goto(_))));
    // TPROXY's packets come to a second line only if there is nobody for them.
    let twice = matches!(rule.target, Target::Tproxy { .. });
    let counted = found.iter().filter(|r| !leads(r));
    let counted = counted.step_by(if twice { 2 } else { 1 });
    let counters = counted.filter_map(|r| r.counters);
    LiveRule {
        counters: counters.reduce(|a, b| Counters {
            packets: a.packets + b.packets,
            bytes: a.bytes + b.bytes,
        }),
        ..LiveRule::known(rule, comment, handles)
    }
}

fn xt_rule(rule: &dump::Rule, family: Family) -> LiveRule {
    match xt::read(&rule.exprs, family) {
        Some(Understood {
            rule: known,
            comment,
        }) => {
            let text = match (&known.why, &comment) {
                (None, Some(comment)) => commented(&known, comment),
                _ => known.to_string(),
            };
            let comment = comment.or_else(|| rule.comment.clone());
            LiveRule {
                text,
                counters: rule.counters,
                ..LiveRule::known(known, comment, vec![rule.handle])
            }
        }
        None => opaque(rule, xt::comment(&rule.exprs)),
    }
}

/// The rule with somebody else's comment, as iptables-save prints it.
fn commented(rule: &Rule, comment: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut text = rule.to_string();
    let target = format!("-j {}", rule.target);
    let comment = if !comment.is_empty() && comment.chars().all(plain) {
        comment.to_owned()
    } else {
        let mut quoted = String::from('"');
        for c in comment.chars() {
            if matches!(c, '"' | '\\' | '\'') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted + "\""
    };
    text.truncate(text.len() - target.len());
    text + &format!("-m comment --comment {comment} {target}")
}

/// Something that stands in a chain and is no rule that could be named.
fn unseen(text: String) -> LiveRule {
    LiveRule {
        rule: None,
        matches: Vec::new(),
        target: None,
        comment: None,
        jump: None,
        counters: None,
        text,
        handles: Vec::new(),
    }
}

/// A rule that is not understood, with what can be told of it.
pub(super) fn opaque(rule: &dump::Rule, comment: Option<String>) -> LiveRule {
    let steps: Vec<String> = rule.exprs.iter().map(describe).collect();
    LiveRule {
        rule: None,
        matches: Vec::new(),
        target: None,
        comment: comment.or_else(|| rule.comment.clone()),
        jump: verdict::jump(&rule.exprs),
        text: format!("[{}]", steps.join(", ")),
        handles: vec![rule.handle],
        counters: rule.counters,
    }
}

fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Match(e) | Expr::Target(e) => format!("{} {}", expr.name(), e.name),
        _ => expr.name().to_owned(),
    }
}
