//! The rules as a flow chart: from where a connection begins, through the chains in the kernel's order,
//! to its end.
//!
//! It shows the first packets of connections; nat is evaluated for no others. Rules and chains that
//! change nothing about where a packet goes (MARK, CT, LOG, MASQUERADE) are left out.

mod drawing;
#[cfg(test)]
mod tests;

use crate::netfilter::model::{Family, Rules};
use drawing::Drawing;

/// The chart of the families for which it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    pub families: Vec<Family>,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub label: Label,
    /// What leaves it, in the order of the rules.
    pub arrows: Vec<Arrow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub way: Way,
    /// The index of a node of the chart.
    pub to: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    Process,
    Outside,
    Chain {
        table: String,
        chain: String,
    },
    /// The packet is now for this port of this namespace.
    Port {
        port: u16,
        transparent: bool,
    },
    /// The packet has the destination that this target gives it.
    Translated(String),
    /// Its route is looked up.
    Route,
    Dropped,
    Refused,
    /// A rule that could not be decoded decides.
    Undetermined,
    /// It goes where it was sent, and no rule has changed that.
    Direct,
    /// It goes where it was sent or where a rule before has sent it.
    Accepted,
}

/// Which packets take an arrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those that match these rules: each id or text, with its positions among the rules that the
    /// chart shows of the chain.
    Rules(Vec<(Vec<usize>, String)>),
    /// All that no rule sends elsewhere.
    Otherwise,
    /// Those for an address of this namespace.
    Here,
    /// Those for other addresses.
    Elsewhere,
}

/// The charts of the families, one where they are the same.
pub(super) fn charts(rules: &Rules, families: &[Family]) -> Vec<Chart> {
    let mut charts: Vec<Chart> = Vec::new();
    for family in families {
        let nodes = Drawing::of(rules, *family);
        match charts.iter_mut().find(|chart| chart.nodes == nodes) {
            Some(chart) => chart.families.push(*family),
            None => charts.push(Chart {
                families: vec![*family],
                nodes,
            }),
        }
    }
    charts
}
