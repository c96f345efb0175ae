//! The explanation for a person: the answer, then the way, hook by hook and rule by rule.

use super::Detail;
use super::escape::Foreign;
use crate::actions::explain::view::{Case, Explanation, Hop, Outcome, Rule, Table, Undecoded};
use std::fmt::Write;

/// How many rules in a row that are about other packets are shown, unless all are asked for.
const SHOWN: usize = 4;

/// The answer, then how it comes about: with every rule, and hooks and tables where nothing happens, if
/// everything is asked for.
pub(super) fn text(explanation: &Explanation, detail: Detail) -> String {
    let mut text = format!("{}\n", Foreign(&explanation.answer));
    if detail == Detail::Answer {
        return text;
    }
    let all = detail == Detail::Everything;
    if !explanation.assumptions.is_empty() {
        let assumptions = explanation.assumptions.join("; ");
        let _ = writeln!(text, "\nAssumptions: {}.", Foreign(&assumptions));
    }
    undecoded(&mut text, &explanation.undecoded);
    let several = explanation.cases.len() > 1;
    for (at, case) in explanation.cases.iter().enumerate() {
        if several && !(explanation.determined && explanation.undecoded.is_empty()) {
            heading(&mut text, case);
        }
        // One is enough to see the rules.
        if at == 0 || all {
            for place in case.trace.iter().filter(|place| all || has_news(place)) {
                hook(&mut text, place, all);
            }
        }
    }
    text
}

/// The rules that were not decoded, numbered.
fn undecoded(text: &mut String, undecoded: &[Undecoded]) {
    if undecoded.is_empty() {
        return;
    }
    text.push_str("\nNot decoded, or by chance:\n");
    for (at, u) in undecoded.iter().enumerate() {
        let handle = u
            .handle
            .map_or(String::new(), |handle| format!(", handle {handle}"));
        let number = at + 1;
        let (table, chain, rule) = (Foreign(&u.table), Foreign(&u.chain), Foreign(&u.rule));
        let _ = writeln!(text, "  {number}. {rule}  ({table} {chain}{handle})");
    }
}

/// Which of several cases this is.
fn heading(text: &mut String, case: &Case) {
    let mut conditions: Vec<String> = case
        .order
        .iter()
        .map(|order| format!("{} comes first", order.chains.join(" and not ")))
        .collect();
    let numbers: Vec<String> = case
        .applying
        .iter()
        .map(|at| (at + 1).to_string())
        .collect();
    match numbers.as_slice() {
        [] if conditions.is_empty() => conditions.push("none of them applies".to_owned()),
        [] => {}
        numbers => conditions.push(format!("rule {} applies", numbers.join(" and "))),
    }
    let _ = writeln!(
        text,
        "\nIf {}, it {}.",
        Foreign(&conditions.join(" and ")),
        Foreign(&case.answer)
    );
}

/// Whether a table there has rules that were evaluated.
fn has_news(place: &Hop) -> bool {
    place
        .tables
        .iter()
        .any(|table| !table.rules.is_empty() || table.skipped.is_some())
}

fn hook(text: &mut String, place: &Hop, all: bool) {
    let _ = write!(text, "\n{}: {} → {}", place.hook, place.from, place.to);
    if let Some(name) = &place.in_interface {
        let _ = write!(text, ", in through {}", Foreign(name));
    }
    if let Some(name) = &place.out_interface {
        let _ = write!(text, ", out through {}", Foreign(name));
    }
    if place.mark != 0 {
        let _ = write!(text, ", mark {:#x}", place.mark);
    }
    text.push('\n');
    let is_shown = |t: &&Table| all || !t.rules.is_empty() || t.skipped.is_some();
    for table in place.tables.iter().filter(is_shown) {
        let _ = writeln!(text, "  {}", Foreign(&table.table));
        if let Some(reason) = table.skipped {
            let _ = writeln!(
                text,
                "    {} is not evaluated: {reason}",
                Foreign(&table.chain)
            );
        }
        rules(text, &table.rules, all);
        match table.policy {
            Some("drop") => text.push_str("    => the chain's policy: dropped\n"),
            Some(_) if all => text.push_str("    the chain's policy: accepted\n"),
            _ => {}
        }
    }
}

fn rules(text: &mut String, rules: &[Rule], all: bool) {
    let mut rest = rules;
    let mut chain = "";
    while let Some(first) = rest.first() {
        let indent = " ".repeat(4 + 2 * first.depth);
        if first.chain != chain {
            chain = &first.chain;
            let _ = writeln!(text, "{indent}{}", Foreign(chain));
        }
        let alike = |r: &&Rule| r.outcome == Outcome::PassedOver && r.chain == chain;
        let run = rest.iter().take_while(alike).count().max(1);
        let shown = if all || run <= SHOWN + 1 { run } else { SHOWN };
        rest[..shown]
            .iter()
            .for_each(|rule| line(text, rule, &indent));
        if shown < run {
            let more = run - shown;
            let _ = writeln!(text, "{indent} … {more} more that are about others (-v)");
        }
        rest = &rest[run..];
    }
}

fn line(text: &mut String, rule: &Rule, indent: &str) {
    let sign = match rule.outcome {
        _ if rule.decides => "=>",
        Outcome::PassedOver => " -",
        Outcome::Taken => " >",
        Outcome::Undecoded | Outcome::ByChance => " ?",
    };
    let _ = write!(text, "{indent}{sign} {}", Foreign(&rule.rule));
    if let Some(id) = &rule.id {
        let _ = write!(text, "  [{}]", Foreign(id));
    }
    let _ = writeln!(text, "\n{indent}     {}", Foreign(&rule.says));
}
