//! From a dump to the model, as far as the model can say it. The rules of the model carry the
//! handles of the kernel's rules that they are.

use super::dump::{self, Chain, Dump, Table};
use super::expr::Expr;
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
            Store::Native => native_chains(table),
            _ => xt_chains(table),
        },
    });
    Live {
        tables: tables.collect(),
    }
}

/// The chains as iptables-nft keeps them.
fn xt_chains(table: &Table) -> Vec<LiveChain> {
    let chains = table.chains.iter().filter_map(|chain| {
        let rules = chain.rules.iter().map(|r| xt_rule(r, table.family));
        Some(LiveChain {
            name: ChainName::new(&chain.name).ok()?,
            drops: chain.base.as_ref().is_some_and(|base| !base.accepts),
            rules: rules.collect(),
        })
    });
    chains.collect()
}

/// The chains of a table that is ours alone, each with its parts in one piece.
fn native_chains(table: &Table) -> Vec<LiveChain> {
    let chains = table.without_parts().filter_map(|chain| {
        Some(LiveChain {
            name: ChainName::new(&chain.name).ok()?,
            drops: chain.base.as_ref().is_some_and(|base| !base.accepts),
            rules: native_rules(table, chain),
        })
    });
    chains.collect()
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
