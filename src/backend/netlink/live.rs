//! From what was seen to the model.

use super::expr::Expr;
use super::seen::{self, Seen};
use super::verdict;
use super::xt::{self, Understood};
use crate::ruleset::{ChainName, Family, Live, LiveChain, LiveRule, LiveTable, Rule};

/// The tables that iptables-nft keeps, as far as the model can say what is in them.
pub fn xt(seen: &Seen) -> Live {
    let tables = seen.tables.iter().map(|table| LiveTable {
        family: table.family,
        name: table.name,
        chains: table
            .chains
            .iter()
            .filter_map(|chain| xt_chain(chain, table.family))
            .collect(),
    });
    Live {
        tables: tables.collect(),
    }
}

/// A chain whose name iptables would not take is foreign, and nothing there concerns us.
fn xt_chain(chain: &seen::Chain, family: Family) -> Option<LiveChain> {
    Some(LiveChain {
        name: ChainName::new(&chain.name).ok()?,
        rules: chain.rules.iter().map(|r| xt_rule(r, family)).collect(),
    })
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
