//! The table of who goes where: a line for each kind of connection, in columns.

use super::escape::Foreign;
use crate::actions::explain::connections::conditions::{Condition, Field};
use crate::actions::explain::connections::rows::{Decider, Fate, Group, Policy, Row};
use crate::actions::explain::connections::{Connections, Direction, Section};
use crate::mesh::signature::with_port;
use std::collections::BTreeSet;
use std::fmt::Write;

/// How many values of a list are shown, unless all are asked for.
const SHOWN: usize = 4;

/// The whole text, in lines of this width where words allow it. `all` shows every value and every rule.
pub(super) fn text(connections: &Connections, all: bool, width: usize) -> String {
    let mut text = String::new();
    // Where there is no address, nothing comes in.
    for section in connections.sections.iter().filter(|s| !s.rows.is_empty()) {
        let families: Vec<String> = section.families.iter().map(ToString::to_string).collect();
        let direction = direction(section.direction);
        let _ = write!(text, "{direction}, {}", families.join(" and "));
        let (classes, rows) = (section.classes, section.rows.len());
        let _ = match all || classes > 2 * rows {
            true => {
                let classes = counted(classes, "class", "classes");
                let rows = counted(rows, "row", "rows");
                writeln!(text, ": {classes} of connections in {rows}")
            }
            false => writeln!(text),
        };
        columns(&mut text, &lines(section, all), width);
        text.push('\n');
    }
    match connections.assumptions.as_slice() {
        [] => text.truncate(text.trim_end().len() + 1),
        assumptions => {
            let assumptions = format!("Assumptions: {}.", assumptions.join("; "));
            for line in wrapped(&assumptions, width) {
                let _ = writeln!(text, "{}", Foreign(&line));
            }
        }
    }
    text
}

pub(super) fn counted(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "Outbound",
        Direction::Inbound => "Inbound",
    }
}

/// Who, to what, fate, rule.
type Line = [String; COLUMNS];
const COLUMNS: usize = 4;

/// The lines of each row.
fn lines(section: &Section, all: bool) -> Vec<(Group, Vec<Line>)> {
    let rows = section.rows.iter().map(|row| {
        let shown = packets(row.packets.as_deref(), section.direction, all);
        let lines = shown
            .into_iter()
            .enumerate()
            .map(|(at, (who, what))| match at {
                0 => [who, what, fate(&row.fate), rules(row, all)],
                _ => [who, what, "the same".to_owned(), String::new()],
            });
        (row.group, lines.collect())
    });
    rows.collect()
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
pub(super) fn words(condition: &Condition, all: bool) -> String {
    let mut values = match condition.own {
        true => "its own addresses".to_owned(),
        false => listed(&condition.values, all),
    };
    if !condition.except.is_empty() {
        let _ = write!(values, " except {}", listed(&condition.except, all));
    }
    let not = if condition.not { "not " } else { "" };
    let preposition = match condition.field {
        Field::InInterface | Field::OutInterface => Some("through"),
        Field::Source => Some("from"),
        Field::Destination => Some("to"),
        _ => None,
    };
    if let Some(preposition) = preposition {
        return format!("{not}{preposition} {values}");
    }
    let name = match condition.field {
        Field::Uid => "uid ",
        Field::Gid => "gid ",
        Field::Process => "has a process: ",
        Field::SourcePort => "source port ",
        Field::Mark => "mark ",
        Field::CtMark => "ct mark ",
        Field::CtState => "state ",
        Field::Socket => "socket ",
        Field::DestinationPort => "port ",
        _ => "",
    };
    format!("{name}{not}{values}")
}

/// The first values of a list, and how many more there are.
fn listed(values: &[String], all: bool) -> String {
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
        Fate::Refused {
            with,
            redirected_to,
        } => format!("{}refused ({with})", before(*redirected_to)),
        Fate::Dropped { redirected_to } => before(*redirected_to) + "dropped",
        Fate::NoRoute => "no route".to_owned(),
        Fate::ByChance { among } => {
            let fates: Vec<String> = among.iter().map(self::fate).collect();
            format!("by chance {}", either(&fates))
        }
        Fate::Undetermined => "cannot be determined".to_owned(),
    }
}

/// The first of several fates, and how many more there are.
fn either(fates: &[String]) -> String {
    match fates.len().checked_sub(SHOWN).filter(|more| *more > 1) {
        Some(more) => format!("{} or {more} more", fates[..SHOWN].join(" or ")),
        None => fates.join(" or "),
    }
}

/// What happened before packets were dropped.
fn before(redirected_to: Option<u16>) -> String {
    redirected_to.map_or_else(String::new, |port| {
        format!("redirected to port {port}, then ")
    })
}

/// The rules that decide, by their ids, or the policy.
fn rules(row: &Row, all: bool) -> String {
    if let Some(Policy { table, chain }) = &row.policy {
        return format!("policy DROP of {table} {chain}");
    }
    let name = |rule: &Decider| match &rule.id {
        Some(id) => id.clone(),
        None => format!("\"{}\" in {} {}", rule.rule, rule.table, rule.chain),
    };
    let mut names: Vec<String> = row.rules.iter().map(name).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    match names.as_slice() {
        [] => "no rule".to_owned(),
        [first, others @ ..] if !all && others.len() > 1 => {
            format!("{first} and {} more", others.len())
        }
        names => names.join(", "),
    }
}

/// How much room a column gets at least in a table of 100 characters; those before the last share what
/// is left in others. The last one has names of rules, which are searched for and so not divided.
const NARROWEST: [usize; COLUMNS] = [16, 26, 22, 26];

/// Columns as wide as their widest text, or less where that is too wide: then cells take several
/// lines.
fn columns(text: &mut String, rows: &[(Group, Vec<Line>)], width: usize) {
    let widths = widths(rows.iter().flat_map(|(_, lines)| lines), width);
    let mut before = None;
    for (group, lines) in rows {
        if before.replace(*group) != Some(*group) {
            let _ = writeln!(text, "  {}", heading(*group));
        }
        for line in lines {
            let cells = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| wrapped(cell, width));
            let cells: Vec<Vec<String>> = cells.collect();
            for at in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut row = String::from("  ");
                for (cell, width) in cells.iter().zip(widths) {
                    let part = cell.get(at).map_or("", String::as_str);
                    let _ = write!(row, "  {:width$}", Foreign(part).to_string());
                }
                text.push_str(row.trim_end());
                text.push('\n');
            }
        }
    }
}

fn widths<'l>(lines: impl Iterator<Item = &'l Line>, width: usize) -> [usize; COLUMNS] {
    const LAST: usize = COLUMNS - 1;
    let mut widths = lines.fold([0; COLUMNS], |widths, line| {
        std::array::from_fn(|at| widths[at].max(line[at].chars().count()))
    });
    // Two spaces before each column, and two before all.
    let room = width - 2 * (COLUMNS + 1);
    let names = widths[LAST];
    widths[LAST] = names.min(NARROWEST[LAST]);
    let shared = room - NARROWEST[LAST];
    let narrowest = |at: usize| NARROWEST[at] * shared / NARROWEST[..LAST].iter().sum::<usize>();
    while widths.iter().sum::<usize>() > room {
        let wide = (0..LAST).filter(|at| widths[*at] > narrowest(*at));
        let Some(widest) = wide.max_by_key(|at| widths[*at]) else {
            break;
        };
        widths[widest] -= 1;
    }
    widths[LAST] = names.min(room - widths[..LAST].iter().sum::<usize>());
    widths
}

/// The words of a cell in lines of a width, all but the first a little further in.
fn wrapped(cell: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in cell.split(' ') {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_the_terminal_and_every_word_is_shown() {
        let cells = [8, 12, 9, 11].map(|words| vec!["four"; words].join(" "));
        let words: usize = cells.iter().map(|cell| cell.split(' ').count()).sum();
        let rows = [(Group::Other, vec![cells])];
        let shown = |width| {
            let mut text = String::new();
            columns(&mut text, &rows, width);
            assert_eq!(text.matches("four").count(), words);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= width), "{text}");
            text.lines().count()
        };
        let lines = [60, 80, 100, 160, 250].map(shown);
        assert!(
            lines.is_sorted_by(|wider, narrower| wider >= narrower),
            "{lines:?}"
        );
        assert_eq!(lines[4], 2);
    }
}
