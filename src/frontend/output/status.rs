//! The text of `status`: the managed rules of each backend, with their counters.

use super::escape::Foreign;
use crate::actions::status::{ShownChain, Status};
use crate::netfilter::model::Counters;
use std::fmt::Write;

pub(super) fn text(status: &Status) -> String {
    if status.stores.is_empty() && status.routing.is_empty() {
        return "no managed rules\n".to_owned();
    }
    let mut text = String::new();
    for kind in &status.stores {
        let rules: usize = kind.chains.iter().map(|c| c.rules.len()).sum();
        let _ = writeln!(text, "{}: {rules} rules", kind.backend);
        for shown in &kind.chains {
            chain(&mut text, shown);
        }
        for table in &kind.inet_tables {
            let _ = writeln!(text, "\ntable {table}");
        }
        text.push('\n');
    }
    for command in &status.routing {
        let _ = writeln!(text, "{command}");
    }
    text
}

fn chain(text: &mut String, shown: &ShownChain) {
    let only = match shown.ours {
        true => "",
        false => " (managed rules only)",
    };
    let (family, table, name) = (shown.family, shown.table, shown.chain.to_string());
    let _ = writeln!(text, "\n{family} {table} {}{only}", Foreign(&name));
    text.push_str("   packets        bytes  rule\n");
    let ids = shown.rules.iter().filter_map(|r| r.id.as_deref());
    let width = ids.map(|id| id.chars().count()).max();
    let width = width.unwrap_or_default();
    for rule in &shown.rules {
        let id = Foreign(rule.id.as_deref().unwrap_or_default());
        let Counters { packets, bytes } = rule.counters.unwrap_or_default();
        let rule = Foreign(&rule.rule);
        let _ = writeln!(text, "{packets:>10} {bytes:>12}  {id:width$}  {rule}");
    }
}
