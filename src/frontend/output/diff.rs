//! The text of `diff`: one paragraph a chain; `-` is removed, `+` is added, what stays is indented.

use super::escape::Foreign;
use super::verification;
use crate::actions::diff::{Diff, Line, LineAction};
use std::fmt::Write;

/// Empty where nothing differs.
pub(super) fn text(diff: &Diff) -> String {
    let mut text = String::new();
    for dormant in &diff.dormant {
        let (family, table, backend) = (dormant.family, dormant.table, dormant.backend);
        let _ = writeln!(text, "{family} {table} ({backend}): the table is dormant");
    }
    for chain in &diff.chains {
        let stays = |line: &Line| line.action == LineAction::Keep;
        let fate = match chain.action {
            // Nothing differs but the order.
            LineAction::Keep if chain.rules.iter().all(stays) => ", behind foreign rules",
            LineAction::Keep => "",
            LineAction::Remove => ", removed",
            LineAction::Add => ", new",
        };
        let (family, table, backend) = (chain.family, chain.table, chain.backend);
        let name = chain.chain.to_string();
        let _ = writeln!(
            text,
            "{family} {table} {} ({backend}{fate})",
            Foreign(&name)
        );
        lines(&mut text, &chain.rules);
    }
    for table in &diff.inet_tables {
        let _ = writeln!(text, "table {table} (nftables, removed)");
    }
    if !diff.routing.is_empty() {
        text.push_str("routing\n");
    }
    lines(&mut text, &diff.routing);
    for rule in &diff.ahead {
        let _ = writeln!(text, "{}", verification::ahead(rule, ""));
    }
    text
}

/// Rules or commands, with the rule id behind each.
fn lines(text: &mut String, lines: &[Line]) {
    let width = lines.iter().map(|l| l.rule.len()).max().unwrap_or(0);
    for line in lines {
        let sign = match line.action {
            LineAction::Keep => ' ',
            LineAction::Remove => '-',
            LineAction::Add => '+',
        };
        let rule = Foreign(&line.rule);
        let _ = match &line.id {
            Some(id) => writeln!(text, "  {sign} {rule:width$}  # {}", Foreign(id)),
            None => writeln!(text, "  {sign} {rule}"),
        };
    }
}
