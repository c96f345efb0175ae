//! Decodes a dump into the model. Decoded rules carry the handles of their kernel rules.

use super::dump::{self, Chain, Dump, Table};
use super::expr::Expr;
use super::hooks;
use super::native;
use super::nflog;
use super::verdict;
use super::xt::{self, Understood};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{
    ChainName, Family, Observed, ObservedChain, ObservedRule, ObservedTable, Rule,
};

pub(super) fn observed(dump: &Dump, kind: TableKind) -> Observed {
    let tables = dump.tables.iter().filter_map(|t| observed_table(t, kind));
    Observed {
        tables: tables.collect(),
        inet_tables: dump.inet_tables.clone(),
    }
}

/// Decodes a table, if it belongs to this backend. Chains whose names iptables does not accept, and
/// those that were not read, are omitted.
pub(super) fn observed_table(table: &Table, kind: TableKind) -> Option<ObservedTable> {
    let (family, name) = table.head.place(kind)?;
    let chains = table.chains.iter().filter(|c| c.was_read);
    let chains = chains.filter_map(|chain| {
        let chain_name = ChainName::new(&chain.name).ok()?;
        let mut rules = match kind {
            TableKind::Native => native_rules(table, chain, family),
            _ => chain.rules.iter().map(|r| xt_rule(r, family)).collect(),
        };
        if !hooks::is_hooked_as_named(kind, name, &chain_name, chain.base.as_ref()) {
            // They are evaluated elsewhere than their names say.
            rules.iter_mut().for_each(ObservedRule::forget);
        }
        rules.extend((chain.hidden > 0).then(|| unseen(chain.hidden)));
        Some(ObservedChain {
            name: chain_name,
            drops: chain.base.as_ref().is_some_and(|base| !base.accepts),
            rules,
        })
    });
    Some(ObservedTable {
        family,
        name,
        dormant: table.head.is_dormant(),
        chains: chains.collect(),
    })
}

/// The rules of a chain in native expressions, each with its [`native::companion`].
fn native_rules(table: &Table, chain: &Chain, family: Family) -> Vec<ObservedRule> {
    let read = |r: &dump::Rule| native::read(&r.exprs, r.comment.as_deref(), family, &table.sets);
    let mut observed = Vec::new();
    let mut found = chain.rules.iter().peekable();
    while let Some(first) = found.next() {
        let Some(rule) = read(first) else {
            observed.push(undecoded(first, None));
            continue;
        };
        let mut handles = vec![first.handle];
        if let Some(companion) = native::companion(&rule) {
            let second = found.next_if(|next| read(next) == Some(companion));
            let Some(second) = second else {
                observed.push(undecoded(first, None));
                continue;
            };
            handles.push(second.handle);
        }
        let comment = rule.id.as_ref().map(ToString::to_string);
        observed.push(ObservedRule {
            counters: first.counters,
            ..ObservedRule::known(rule, comment, handles)
        });
    }
    observed
}

fn xt_rule(rule: &dump::Rule, family: Family) -> ObservedRule {
    match xt::read(&rule.exprs, family) {
        Some(Understood {
            rule: known,
            comment,
        }) => {
            let text = match (&known.id, &comment) {
                (None, Some(comment)) => commented(&known, comment),
                _ => known.to_string(),
            };
            let comment = comment.or_else(|| rule.comment.clone());
            ObservedRule {
                text,
                counters: rule.counters,
                ..ObservedRule::known(known, comment, vec![rule.handle])
            }
        }
        None => undecoded(rule, xt::comment(&rule.exprs)),
    }
}

/// The rule with a foreign comment, as iptables-save prints it.
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

/// Stands for hidden rules.
fn unseen(count: u32) -> ObservedRule {
    ObservedRule {
        rule: None,
        matches: Vec::new(),
        target: None,
        comment: None,
        jump: None,
        counters: None,
        text: hidden_rules(count),
        handles: Vec::new(),
    }
}

/// The text for hidden rules.
pub(super) fn hidden_rules(count: u32) -> String {
    format!("[{count} rules that the kernel does not show]")
}

/// An undecoded rule, with what is known of it.
pub(super) fn undecoded(rule: &dump::Rule, comment: Option<String>) -> ObservedRule {
    let steps: Vec<String> = rule.exprs.iter().map(describe).collect();
    ObservedRule {
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
    if let Some(target) = nflog::target(expr) {
        return target;
    }
    match expr {
        Expr::Match(e) | Expr::Target(e) => format!("{} {}", expr.name(), e.name),
        _ => expr.name().to_owned(),
    }
}
