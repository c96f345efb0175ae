//! Renders a [`Change`] for iptables-restore, and as commands.

use super::order;
use super::words::for_shell;
use crate::netfilter::model::{BaseChange, ChainName, Change, Family, Rule, TableChange};
use std::fmt::Write;

/// Input for `iptables-restore --noflush` (or `ip6tables-restore`) for one family; empty without
/// changes. Each table commits atomically, and additions come before removals.
pub fn restore(change: &Change, family: Family) -> String {
    let mut text = String::new();
    for table in &order::steps(change, family) {
        line(&mut text, format_args!("*{}", table.name));
        // A chain declaration flushes it, even with --noflush.
        for chain in &table.rewrite {
            line(&mut text, format_args!(":{} - [0:0]", chain.name));
        }
        for chain in &table.accept {
            line(&mut text, format_args!(":{chain} ACCEPT [0:0]"));
        }
        for step in steps(table) {
            line(&mut text, format_args!("{step}"));
        }
        line(&mut text, format_args!("COMMIT"));
    }
    text
}

/// Renders commands, one a line, that a shell can run in order. Special characters in names are
/// quoted.
pub fn commands(change: &Change, family: Family) -> String {
    let program = program(family);
    let mut text = String::new();
    for table in change.tables.iter().filter(|t| t.family == family) {
        let name = table.name;
        for chain in &table.rewrite {
            let verb = if chain.exists { "-F" } else { "-N" };
            line(
                &mut text,
                format_args!("{program} -t {name} {verb} {}", chain.name),
            );
        }
        for chain in &table.accept {
            line(
                &mut text,
                format_args!("{program} -t {name} -P {chain} ACCEPT"),
            );
        }
        for step in steps(table) {
            let step = for_shell(&step);
            line(&mut text, format_args!("{program} -t {name} {step}"));
        }
    }
    text
}

/// The name of the iptables command for a family.
fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}

/// Everything after the chain declarations: managed chains are filled before anything jumps to
/// them, and removed after the last jump to them.
fn steps(table: &TableChange) -> Vec<String> {
    let fill = table.rewrite.iter().flat_map(|chain| {
        let append = |rule| format!("-A {} {rule}", chain.name);
        chain.rules.iter().map(append)
    });
    let base = table.base.iter().flat_map(base_steps);
    let flush = table.remove.iter().map(|chain| format!("-F {chain}"));
    let delete = table.remove.iter().map(|chain| format!("-X {chain}"));
    fill.chain(base).chain(flush).chain(delete).collect()
}

fn base_steps(base: &BaseChange) -> Vec<String> {
    let chain = &base.chain;
    let delete = base.delete.iter().map(|r| format!("-D {chain} {}", r.text));
    let head = numbered(chain, &base.head);
    let tail = base.tail.iter().map(|rule| format!("-A {chain} {rule}"));
    delete.chain(head).chain(tail).collect()
}

/// Insertions in order: the first at 1, the second at 2…
fn numbered<'a>(chain: &'a ChainName, rules: &'a [Rule]) -> impl Iterator<Item = String> + 'a {
    let insert = move |(at, rule)| format!("-I {chain} {} {rule}", at + 1);
    rules.iter().enumerate().map(insert)
}
