//! The rules as a flow chart in Mermaid, which documentation and merge requests render.

use crate::actions::explain::connections::chart::{Chart, Label, Node, Way};
use std::fmt::Write;

/// How many rules are named at one arrow.
const SHOWN: usize = 4;

/// The whole chart: a part for each family where they differ.
pub(super) fn text(charts: &[Chart]) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut first = 0;
    for chart in charts {
        if let ([family], true) = (chart.families.as_slice(), charts.len() > 1) {
            let _ = writeln!(text, "  subgraph {family}");
            part(&mut text, chart, first);
            text.push_str("  end\n");
        } else {
            part(&mut text, chart, first);
        }
        first += chart.nodes.len();
    }
    text
}

/// Its nodes, numbered from `first` on, and then its arrows.
fn part(text: &mut String, chart: &Chart, first: usize) {
    for (at, node) in chart.nodes.iter().enumerate() {
        let _ = writeln!(text, "  n{}{}", first + at, shape(&node.label));
    }
    for (at, node) in chart.nodes.iter().enumerate() {
        let from = first + at;
        let are_numbered = is_numbered(node);
        for arrow in &node.arrows {
            let to = first + arrow.to;
            let label = match &arrow.way {
                Way::Rules(rules) => named(rules, are_numbered),
                Way::Otherwise if chart.nodes[arrow.to].label == Label::Dropped => {
                    "policy".to_owned()
                }
                Way::Otherwise => {
                    let _ = writeln!(text, "  n{from} ==> n{to}");
                    continue;
                }
                Way::Here => "to here".to_owned(),
                Way::Elsewhere => "to elsewhere".to_owned(),
            };
            let _ = writeln!(text, "  n{from} -- \"{label}\" --> n{to}");
        }
    }
}

fn shape(label: &Label) -> String {
    let end = |what: &str| format!("([{what}])");
    match label {
        Label::Process => end("a process here"),
        Label::Outside => end("from outside"),
        Label::Chain { table, chain } => format!("[\"{} {}\"]", quoted(table), quoted(chain)),
        Label::Port { port, transparent } => {
            let how = if *transparent { " (TPROXY)" } else { "" };
            let port = format!("port {port}{how}");
            format!("([\"{}\"])", quoted(&port))
        }
        Label::Translated(target) => format!("([\"{}\"])", quoted(target)),
        Label::Route => "{routed}".to_owned(),
        Label::Dropped => end("dropped"),
        Label::Refused => end("refused"),
        Label::Undetermined => end("cannot be determined"),
        Label::Direct => end("direct"),
        Label::Accepted => end("accepted"),
    }
}

/// Whether several of its rules lead elsewhere, so that their order matters.
fn is_numbered(node: &Node) -> bool {
    let rules = node.arrows.iter().flat_map(|arrow| match &arrow.way {
        Way::Rules(rules) => rules.as_slice(),
        _ => &[],
    });
    rules.flat_map(|(positions, _)| positions).max() > Some(&1)
}

/// The first rules of an arrow. No full stop is behind a number: Mermaid reads that as a list.
fn named(rules: &[(Vec<usize>, String)], are_numbered: bool) -> String {
    let name = |(positions, rule): &(Vec<usize>, String)| {
        let positions: Vec<String> = positions.iter().map(usize::to_string).collect();
        match are_numbered {
            true => format!("{}: {}", positions.join(", "), quoted(rule)),
            false => quoted(rule),
        }
    };
    let mut names: Vec<String> = rules.iter().take(SHOWN).map(name).collect();
    if rules.len() > SHOWN {
        names.push(format!("{} more", rules.len() - SHOWN));
    }
    names.join("<br>")
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
