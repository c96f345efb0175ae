//! From a dump to the model, as far as the model can say it. The rules of the model carry the
//! handles of the kernel's rules that they are.

use super::dump::{self, Chain, Dump, Table};
use super::expr::Expr;
use super::hooks;
use super::native::{self, Line};
use super::verdict;
use super::xt::{self, Understood};
use crate::backend::Store;
use crate::ruleset::{ChainName, Family, Live, LiveChain, LiveRule, LiveTable, Rule};

/// What was dumped, in the model. A chain whose name iptables would not take is foreign, and nothing
/// there concerns us.
pub fn live(dump: &Dump, store: Store) -> Live {
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
        rules.extend((chain.hidden > 0).then(|| hidden(chain.hidden)));
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
    let mut live = Vec::new();
    let mut part = chain;
    for index in 1.. {
        let next = native::part_name(&chain.name, index);
        let lines: Vec<Option<Line>> = part.rules.iter().map(|r| line(r, table)).collect();
        let mut at = 0;
        while at < lines.len() {
            let (rule, used) = match native::raise(&lines[at..], &next) {
                Some((known, used)) => (native_rule(known, &part.rules[at..at + used]), used),
                None => (opaque(&part.rules[at], None), 1),
            };
            live.push(rule);
            at += used;
        }
        match table.chain(&next) {
            Some(next) => part = next,
            None => break,
        }
    }
    live
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
fn native_rule(rule: Rule, found: &[dump::Rule]) -> LiveRule {
    let comment = rule.why.as_ref().map(ToString::to_string);
    let handles = found.iter().map(|r| r.handle).collect();
    LiveRule {
        // What leads past the rule is counted by the others.
        counters: found.last().and_then(|r| r.counters),
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

/// Rules that the kernel does not show.
fn hidden(count: u32) -> LiveRule {
    LiveRule {
        rule: None,
        matches: Vec::new(),
        comment: None,
        jump: None,
        counters: None,
        text: format!("[{count} rules that the kernel does not show]"),
        handles: Vec::new(),
    }
}

/// A rule that is not understood, with what can be told of it.
pub fn opaque(rule: &dump::Rule, comment: Option<String>) -> LiveRule {
    let steps: Vec<String> = rule.exprs.iter().map(describe).collect();
    LiveRule {
        rule: None,
        matches: Vec::new(),
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
