//! The text of `diff --connections`: a line for each kind of new connection that is treated differently,
//! or for every kind of packet.

use super::connections::{counted, direction, fate, packets};
use super::escape::Foreign;
use crate::actions::differences::{Differences, End};
use std::fmt::Write;

pub(super) fn text(differences: &Differences, all: bool) -> String {
    let mut text = String::new();
    let mut others = 0;
    for difference in &differences.connections {
        let heading = format!("{}, {}", direction(difference.direction), difference.family);
        let (before, after) = (end(&difference.before), end(&difference.after));
        let new = difference.new_connections.as_ref();
        let conditions = match new.filter(|_| difference.before.fate != difference.after.fate) {
            _ if all => &difference.packets,
            Some(new) => new,
            None => {
                others += 1;
                continue;
            }
        };
        for (who, what) in packets(conditions.as_deref(), difference.direction, all) {
            let _ = writeln!(
                text,
                "{heading}: {}, {}: {before} → {after}",
                Foreign(&who),
                Foreign(&what)
            );
        }
    }
    if others > 0 {
        if others == differences.connections.len() {
            text.push_str("No new connection is treated differently.\n");
        }
        let others = counted(others, "more difference is", "more differences are");
        let _ = writeln!(
            text,
            "{others} about marked packets, states other than NEW, or a mark alone; -v lists them."
        );
    }
    if !differences.differs && differences.determined {
        text.push_str("No connection is treated differently.\n");
    }
    if !differences.determined {
        text.push_str(
            "Inconclusive: what depends on rules that could not be decoded was not compared.\n",
        );
    }
    if !differences.assumptions.is_empty() {
        let assumptions = differences.assumptions.join("; ");
        let _ = writeln!(text, "\nAssumptions: {}.", Foreign(&assumptions));
    }
    text
}

/// The fate, and the marks that are not the same as before.
fn end(end: &End) -> String {
    let mut text = fate(&end.fate);
    let marks = [("mark", end.mark), ("ct mark", end.ct_mark)];
    for (name, mark) in marks {
        let _ = mark.map(|mark| write!(text, " with {name} {mark:#x}"));
    }
    let _ = end.zone.map(|zone| write!(text, " in zone {zone}"));
    text
}
