//! The rules as arrows: from hook to chain to verdict.

use crate::mesh::managed::purpose_of;
use crate::netfilter::model::{Entry, Family, Hook, HookedChain, HookedTable, Rules, Target};
use crate::netfilter::trace::chains_at;
use std::collections::BTreeSet;

/// An arrow of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub from: Node,
    /// The rules, each by its id or its text; none on the way from one chain to the next.
    pub rules: Vec<String>,
    pub to: Node,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Process,
    Outside,
    Chain { table: String, chain: String },
    Verdict(String),
}

/// The arrows of the chart. What is the same for both families is drawn once.
pub(super) fn arrows(rules: &Rules, families: &[Family]) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for family in families {
        for hooks in [
            [Hook::Output, Hook::Postrouting].as_slice(),
            &[Hook::Prerouting, Hook::Input],
        ] {
            let start = match hooks[0] {
                Hook::Output => Node::Process,
                _ => Node::Outside,
            };
            draw(&mut arrows, rules, *family, hooks, start);
        }
    }
    for arrow in &mut arrows {
        let mut seen = BTreeSet::new();
        arrow.rules.retain(|rule| seen.insert(rule.clone()));
    }
    arrows
}

fn draw(arrows: &mut Vec<Arrow>, rules: &Rules, family: Family, hooks: &[Hook], start: Node) {
    let mut before = start;
    let chains = hooks
        .iter()
        .flat_map(|hook| chains_at(rules, family, *hook));
    for (table, chain, base) in chains.filter(|(_, chain, _)| !chain.rules.is_empty()) {
        let here = node(table, chain);
        add(arrows, &before, Vec::new(), here.clone());
        draw_chain(arrows, table, chain, &mut Vec::new());
        before = here;
        if !base.accepts {
            let policy = vec!["policy".to_owned()];
            add(arrows, &before, policy, Node::Verdict("dropped".to_owned()));
        }
    }
    add(
        arrows,
        &before,
        Vec::new(),
        Node::Verdict("direct".to_owned()),
    );
}

fn draw_chain<'a>(
    arrows: &mut Vec<Arrow>,
    table: &'a HookedTable,
    chain: &'a HookedChain,
    drawn: &mut Vec<&'a HookedChain>,
) {
    drawn.push(chain);
    for entry in &chain.rules {
        let Some(target) = entry.target() else {
            continue;
        };
        let to = match target {
            Target::Jump(name) | Target::Goto(name) => {
                let called = table.chains.iter().find(|c| c.name == *name);
                let Some(called) = called else { continue };
                if !drawn.iter().any(|c| c.name == called.name) {
                    draw_chain(arrows, table, called, drawn);
                }
                node(table, called)
            }
            Target::Return | Target::Accept => Node::Verdict("direct".to_owned()),
            Target::Redirect { to_port } => Node::Verdict(format!("port {to_port}")),
            Target::Tproxy { on_port, .. } => Node::Verdict(format!("port {on_port} (TPROXY)")),
            Target::Drop => Node::Verdict("dropped".to_owned()),
            Target::Reject(_) => Node::Verdict("refused".to_owned()),
            target => Node::Verdict(target.to_string()),
        };
        add(arrows, &node(table, chain), vec![name_of(entry)], to);
    }
}

fn node(table: &HookedTable, chain: &HookedChain) -> Node {
    Node::Chain {
        table: table.name.clone(),
        chain: chain.name.to_string(),
    }
}

/// The rule's id, without what is a value in it; the text of a foreign one.
fn name_of(entry: &Entry) -> String {
    match entry.id() {
        Some(id) => {
            let rest = purpose_of(id).map_or("", |(_, rest)| rest);
            let id = id.as_str();
            let stem = &id[..id.len() - rest.len()];
            stem.trim_end_matches('-').to_owned()
        }
        None => entry.text(),
    }
}

/// Adds an arrow, or its rules to one that has the same ends.
fn add(arrows: &mut Vec<Arrow>, from: &Node, rules: Vec<String>, to: Node) {
    let same =
        |a: &&mut Arrow| a.from == *from && a.to == to && a.rules.is_empty() == rules.is_empty();
    match arrows.iter_mut().find(same) {
        Some(arrow) => arrow.rules.extend(rules),
        None => arrows.push(Arrow {
            from: from.clone(),
            rules,
            to,
        }),
    }
}
