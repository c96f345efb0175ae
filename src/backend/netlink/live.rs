//! From what was seen to the model.

use super::expr::Expr;
use super::native::{self, Line};
use super::seen::{self, Chain, Seen, Table};
use super::verdict;
use super::xt::{self, Understood};
use crate::backend::Store;
use crate::ruleset::{ChainName, Family, Live, LiveChain, LiveRule, LiveTable, Rule};

/// Says in the model what was seen, as far as the model can; of the rules only their number is kept.
pub fn take(seen: &mut Seen, store: Store) -> Live {
    let tables = seen.tables.iter_mut().map(|table| {
        let chains = match store {
            Store::Native => native_chains(table),
            _ => xt_chains(table),
        };
        LiveTable {
            family: table.family,
            name: table.name,
            chains,
        }
    });
    Live {
        tables: tables.collect(),
    }
}

/// The chains as iptables-nft keeps them. One whose name iptables would not take is foreign, and
/// nothing there concerns us.
fn xt_chains(table: &mut Table) -> Vec<LiveChain> {
    let family = table.family;
    let chains = table.chains.iter_mut().filter_map(|chain| {
        let rules = std::mem::take(&mut chain.rules);
        chain.count = rules.len();
        Some(LiveChain {
            name: ChainName::new(&chain.name).ok()?,
            rules: rules.iter().map(|r| xt_rule(r, family)).collect(),
        })
    });
    chains.collect()
}

/// The chains of a table that is ours alone, each with its parts in one piece.
fn native_chains(table: &mut Table) -> Vec<LiveChain> {
    let names: Vec<String> = table.chains.iter().map(|c| c.name.clone()).collect();
    let is_later = |c: &Chain| names.iter().any(|name| native::is_part(&c.name, name));
    let (later, mut chains): (Vec<Chain>, Vec<Chain>) = std::mem::take(&mut table.chains)
        .into_iter()
        .partition(is_later);
    let mut live = Vec::new();
    for chain in &mut chains {
        let parts = later
            .iter()
            .filter(|c| native::is_part(&c.name, &chain.name));
        chain.parts = parts.map(|c| c.name.clone()).collect();
        let rules = native_rules(table, chain, &later);
        chain.count = rules.len();
        live.extend(
            ChainName::new(&chain.name)
                .ok()
                .map(|name| LiveChain { name, rules }),
        );
    }
    for chain in &mut chains {
        chain.rules.clear();
    }
    table.chains = chains;
    live
}

/// The rules of a chain, from all its parts.
fn native_rules(table: &Table, chain: &mut Chain, later: &[Chain]) -> Vec<LiveRule> {
    let mut live = Vec::new();
    let mut companions = Vec::new();
    let mut rules = chain.rules.as_slice();
    let mut index = 0;
    loop {
        let lines: Vec<Option<Line>> = rules.iter().map(|r| native_line(r, table)).collect();
        let mut at = 0;
        while at < lines.len() {
            let next = native::part_name(&chain.name, index + 1);
            let rule = &rules[at];
            match native::raise(&lines[at..], &next) {
                Some((known, used)) => {
                    let comment = known.why.as_ref().map(ToString::to_string);
                    live.push(LiveRule::known(known, comment, rule.handle));
                    let others = rules[at + 1..at + used].iter().map(|r| r.handle);
                    companions.push((rule.handle, others.collect()));
                    at += used;
                }
                None => {
                    live.push(opaque(rule, None));
                    at += 1;
                }
            }
        }
        index += 1;
        let next = native::part_name(&chain.name, index);
        match later.iter().find(|c| c.name == next) {
            Some(part) => rules = &part.rules,
            None => break,
        }
    }
    companions.retain(|(_, others): &(u64, Vec<u64>)| !others.is_empty());
    chain.companions = companions;
    live
}

fn native_line(rule: &seen::Rule, table: &Table) -> Option<Line> {
    native::read(
        &rule.exprs,
        rule.comment.as_deref(),
        table.family,
        &table.sets,
    )
}

fn xt_rule(rule: &seen::Rule, family: Family) -> LiveRule {
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
                ..LiveRule::known(known, comment, rule.handle)
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
pub fn opaque(rule: &seen::Rule, comment: Option<String>) -> LiveRule {
    let steps: Vec<String> = rule.exprs.iter().map(describe).collect();
    LiveRule {
        rule: None,
        comment: comment.or_else(|| rule.comment.clone()),
        jump: verdict::jump(&rule.exprs),
        text: format!("[{}]", steps.join(", ")),
        handle: rule.handle,
    }
}

fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Match(e) | Expr::Target(e) => format!("{} {}", expr.name(), e.name),
        _ => expr.name().to_owned(),
    }
}
