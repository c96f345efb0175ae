//! The text of `diff --connections`: a line for each kind of connection that is treated differently.

use super::connections::{direction, fate, packets};
use super::escape::Foreign;
use crate::actions::differences::{Differences, End};
use std::fmt::Write;

pub(super) fn text(differences: &Differences, all: bool) -> String {
    let mut text = String::new();
    for difference in &differences.connections {
        let heading = format!("{}, {}", direction(difference.direction), difference.family);
        let (before, after) = (end(&difference.before), end(&difference.after));
        for (who, what) in packets(difference.packets.as_deref(), difference.direction, all) {
            let _ = writeln!(
                text,
                "{heading}: {}, {}: {before} → {after}",
                Foreign(&who),
                Foreign(&what)
            );
        }
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
