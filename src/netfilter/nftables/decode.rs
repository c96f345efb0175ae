//! Decodes a dump into the model. Decoded rules carry the handles of their kernel rules.

use super::dump::{self, Dump, Table};
use super::expr::Expr;
use super::hooks::{self, Base};
use super::native;
use super::nflog;
use super::verdict;
use super::xt::{self, Understood};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{
    ChainName, Family, Observed, ObservedChain, ObservedRule, ObservedTable, Rule, TableName,
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
        let rules = chain.rules.iter().map(|rule| match kind {
            TableKind::Native => native_rule(rule, table, family),
            _ => xt_rule(rule, family),
        });
        let base = chain.base.as_ref();
        let mut observed = observed_chain(kind, name, chain_name, base, rules.collect());
        let hidden = (chain.hidden > 0).then(|| unseen(chain.hidden));
        observed.rules.extend(hidden);
        Some(observed)
    });
    Some(ObservedTable {
        family,
        name,
        dormant: table.head.is_dormant(),
        chains: chains.collect(),
    })
}

/// A chain with its rules, each decoded alone.
pub(super) fn observed_chain(
    kind: TableKind,
    table: TableName,
    name: ChainName,
    base: Option<&Base>,
    mut rules: Vec<ObservedRule>,
) -> ObservedChain {
    if kind == TableKind::Native {
        rules = with_companions(rules);
    }
    if !hooks::is_hooked_as_named(kind, table, &name, base) {
        // They are evaluated elsewhere than their names say.
        rules.iter_mut().for_each(ObservedRule::forget);
    }
    ObservedChain {
        name,
        drops: base.is_some_and(|base| !base.accepts),
        rules,
    }
}

/// Joins rules with their [`native::companion`], without which they do something else.
fn with_companions(rules: Vec<ObservedRule>) -> Vec<ObservedRule> {
    let mut joined = Vec::new();
    let mut rules = rules.into_iter().peekable();
    while let Some(mut rule) = rules.next() {
        if let Some(companion) = rule.rule.as_ref().and_then(native::companion) {
            match rules.next_if(|next| next.rule.as_ref() == Some(&companion)) {
                Some(second) => rule.handles.extend(second.handles),
                None => rule.forget(),
            }
        }
        joined.push(rule);
    }
    joined
}

/// A rule in native expressions.
fn native_rule(rule: &dump::Rule, table: &Table, family: Family) -> ObservedRule {
    let read = native::read(&rule.exprs, rule.comment.as_deref(), family, &table.sets);
    let Some(known) = read else {
        return undecoded(rule, None);
    };
    let comment = known.id.as_ref().map(ToString::to_string);
    ObservedRule {
        counters: rule.counters,
        ..ObservedRule::known(known, comment, vec![rule.handle])
    }
}

fn xt_rule(rule: &dump::Rule, family: Family) -> ObservedRule {
    let Some(Understood {
        rule: known,
        comment,
    }) = xt::read(&rule.exprs, family)
    else {
        return undecoded(rule, xt::comment(&rule.exprs));
    };
    let foreign = comment.clone().filter(|_| known.id.is_none());
    let comment = comment.or_else(|| rule.comment.clone());
    let mut observed = ObservedRule::known(known, comment, vec![rule.handle]);
    observed.counters = rule.counters;
    if let (Some(comment), Some(known)) = (foreign, &observed.rule) {
        observed.text = commented(&observed.text, known, &comment);
    }
    observed
}

/// The text of a rule with a foreign comment, as iptables-save prints it.
fn commented(text: &str, rule: &Rule, comment: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let target = "-j ".len() + rule.target.to_string().len();
    let (matches, target) = text.split_at(text.len() - target);
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
    format!("{matches}-m comment --comment {comment} {target}")
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
