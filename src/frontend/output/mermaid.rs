//! The rules as a flow chart in Mermaid, which documentation and merge requests render.

use crate::actions::explain::connections::chart::{Arrow, Node};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How many rules are named at one arrow.
const SHOWN: usize = 4;

pub(super) fn text(arrows: &[Arrow]) -> String {
    let mut numbers = BTreeMap::new();
    for node in arrows.iter().flat_map(|arrow| [&arrow.from, &arrow.to]) {
        let next = numbers.len();
        numbers.entry(node).or_insert(next);
    }
    let mut text = String::from("flowchart TD\n");
    for (node, number) in &numbers {
        let _ = match node {
            Node::Process => writeln!(text, "  n{number}([a process here])"),
            Node::Outside => writeln!(text, "  n{number}([from outside])"),
            Node::Chain { table, chain } => {
                writeln!(text, "  n{number}[\"{} {}\"]", quoted(table), quoted(chain))
            }
            Node::Verdict(what) => writeln!(text, "  n{number}([\"{}\"])", quoted(what)),
        };
    }
    for arrow in arrows {
        let (from, to) = (numbers[&arrow.from], numbers[&arrow.to]);
        let named: Vec<String> = arrow.rules.iter().take(SHOWN).map(|r| quoted(r)).collect();
        let more = arrow.rules.len().saturating_sub(SHOWN);
        let _ = match (named.as_slice(), more) {
            ([], _) => writeln!(text, "  n{from} ==> n{to}"),
            (names, 0) => writeln!(text, "  n{from} -- \"{}\" --> n{to}", names.join("<br>")),
            (names, more) => {
                let names = names.join("<br>");
                writeln!(text, "  n{from} -- \"{names}<br>{more} more\" --> n{to}")
            }
        };
    }
    text
}

/// Text that neither ends its quotes nor is read as markup.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./:,!+=*".contains(c);
    let mut quoted = String::new();
    for c in text.chars() {
        let _ = match plain(c) {
            true => write!(quoted, "{c}"),
            false => write!(quoted, "#{};", u32::from(c)),
        };
    }
    quoted
}
