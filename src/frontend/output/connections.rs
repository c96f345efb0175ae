//! The table of who goes where: a line for each kind of connection, in columns.

use super::escape::Foreign;
use crate::actions::explain::connections::conditions::{Condition, Field};
use crate::actions::explain::connections::rows::{Decider, Fate, Group};
use crate::actions::explain::connections::{Connections, Direction, Section};
use crate::mesh::signature::with_port;
use std::collections::BTreeSet;
use std::fmt::Write;

/// How many values of a list are shown, unless all are asked for.
const SHOWN: usize = 4;

/// The whole text. `all` shows every value and every rule.
pub(super) fn text(connections: &Connections, all: bool) -> String {
    let mut text = String::new();
    // Where there is no address, nothing comes in.
    for section in connections.sections.iter().filter(|s| !s.rows.is_empty()) {
        let families: Vec<String> = section.families.iter().map(ToString::to_string).collect();
        let direction = direction(section.direction);
        let _ = writeln!(text, "{direction}, {}", families.join(" and "));
        columns(&mut text, &lines(section, all));
        text.push('\n');
    }
    match connections.assumptions.as_slice() {
        [] => text.truncate(text.trim_end().len() + 1),
        assumptions => {
            let assumptions = assumptions.join("; ");
            let _ = writeln!(text, "Assumptions: {}.", Foreign(&assumptions));
        }
    }
    text
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "Outbound",
        Direction::Inbound => "Inbound",
    }
}

/// Group, who, to what, fate, rule.
type Line = [String; 5];

fn lines(section: &Section, all: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut group = None;
    for row in &section.rows {
        let heading = match group.replace(row.group) == Some(row.group) {
            true => "",
            false => heading(row.group),
        };
        let (fate, rules) = (fate(&row.fate), rules(&row.rules, all));
        let shown = packets(row.packets.as_deref(), section.direction, all);
        for (at, (who, what)) in shown.into_iter().enumerate() {
            lines.push(match at {
                0 => [heading.to_owned(), who, what, fate.clone(), rules.clone()],
                _ => [
                    String::new(),
                    who,
                    what,
                    "the same".to_owned(),
                    String::new(),
                ],
            });
        }
    }
    lines
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Proxy => "the proxy's own",
        Group::Exempt => "exempt",
        Group::Captured => "captured",
        Group::Other => "other",
    }
}

/// Who sends, and to what; one pair for each list of conditions.
pub(super) fn packets(
    lists: Option<&[Vec<Condition>]>,
    direction: Direction,
    all: bool,
) -> Vec<(String, String)> {
    let Some(lists) = lists else {
        return vec![("various".to_owned(), "too many conditions".to_owned())];
    };
    lists
        .iter()
        .map(|list| {
            let (who, what): (Vec<_>, Vec<_>) =
                list.iter().partition(|c| c.field < Field::Protocol);
            let words = |list: Vec<&Condition>| {
                list.iter()
                    .map(|c| words(c, all))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let anyone = match direction {
                Direction::Outbound => "any process",
                Direction::Inbound => "anyone",
            };
            let who = if who.is_empty() {
                anyone.to_owned()
            } else {
                words(who)
            };
            let what = if what.is_empty() {
                "anything".to_owned()
            } else {
                words(what)
            };
            (who, what)
        })
        .collect()
}

/// One condition: `uid 1337`, `port not 15008`.
fn words(condition: &Condition, all: bool) -> String {
    let mut values = match condition.own {
        true => "its own addresses".to_owned(),
        false => listed(&condition.values, all),
    };
    if !condition.except.is_empty() {
        let _ = write!(values, " except {}", listed(&condition.except, all));
    }
    let not = if condition.not { "not " } else { "" };
    let name = match condition.field {
        Field::Uid => "uid ",
        Field::Gid => "gid ",
        Field::Process => "has a process: ",
        Field::InInterface => "through ",
        Field::Source => "from ",
        Field::SourcePort => "source port ",
        Field::Mark => "mark ",
        Field::CtMark => "ct mark ",
        Field::CtState => "state ",
        Field::Socket => "socket ",
        Field::Protocol => "",
        Field::Destination => "to ",
        Field::DestinationPort => "port ",
    };
    format!("{name}{not}{values}")
}

/// The first values of a list, and how many more there are.
pub(super) fn listed(values: &[String], all: bool) -> String {
    let shown = if all || values.len() <= SHOWN + 1 {
        values.len()
    } else {
        SHOWN
    };
    let mut text = values[..shown].join(" ");
    if shown < values.len() {
        let _ = write!(text, " … {} more", values.len() - shown);
    }
    text
}

pub(super) fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Proxy {
            listener,
            port,
            transparent,
        } => {
            let how = if *transparent { " (TPROXY)" } else { "" };
            match listener {
                Some(who) => with_port(who, ", port ", *port) + how,
                None => format!("local port {port}{how}"),
            }
        }
        Fate::Loop { port } => format!("loops: sent to the proxy's own port {port}"),
        Fate::Direct => "direct".to_owned(),
        Fate::Translated { address, port } => {
            let address = address.as_deref().unwrap_or("another address");
            match port {
                Some(port) => format!("translated to {address}, port {port}"),
                None => format!("translated to {address}"),
            }
        }
        Fate::Refused { with } => format!("refused ({with})"),
        Fate::Dropped => "dropped".to_owned(),
        Fate::NoRoute => "no route".to_owned(),
        Fate::Undetermined => "cannot be determined".to_owned(),
    }
}

/// The rules that decide, by their ids.
fn rules(rules: &[Decider], all: bool) -> String {
    let name = |rule: &Decider| match &rule.id {
        Some(id) => id.clone(),
        None => format!("\"{}\" in {} {}", rule.rule, rule.table, rule.chain),
    };
    let mut names: Vec<String> = rules.iter().map(name).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    match names.as_slice() {
        [] => "no rule".to_owned(),
        [first, .., last] if !all && names.len() > 2 => {
            format!("{first} … {last} ({} rules)", names.len())
        }
        names => names.join(", "),
    }
}

/// Columns as wide as their widest text, within a limit.
fn columns(text: &mut String, lines: &[Line]) {
    const WIDEST: usize = 44;
    let width = |column: usize| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths
            .filter(|length| *length <= WIDEST)
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    for line in lines {
        let mut row = String::from(" ");
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(row, " {:width$} ", Foreign(cell).to_string());
        }
        let _ = write!(row, " {}", Foreign(&line[4]));
        text.push_str(row.trim_end());
        text.push('\n');
    }
}
