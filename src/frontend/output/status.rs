//! The text of `status`.

use super::connections::words;
use super::escape::Foreign;
use super::summary::strings;
use super::verification;
use crate::actions::explain::connections::Direction;
use crate::actions::explain::connections::conditions::Condition;
use crate::actions::status::{
    Decision, InBackend, Leftover, NotInForce, ShownChain, State, Status, Verdict, Watch,
};
use crate::actions::verify::Ahead;
use crate::netfilter::model::{Counters, Match, Protocol, Rule, Test};
use std::fmt::{Display, Write};

/// One screen; behind it every rule, if they were asked for. `all` shows every value of a list.
pub(super) fn text(status: &Status, all: bool) -> String {
    let mut text = heading(status) + "\n";
    if !status.backends.is_empty() {
        decided(&mut text, "outbound", status, Direction::Outbound, all);
        decided(&mut text, "inbound", status, Direction::Inbound, all);
    }
    let blocks = [
        ("routing", status.routing.clone()),
        ("no effect", each(&status.not_in_force, not_in_force)),
        ("ahead", foreign(status, |a| a.redirected_to.is_none())),
        ("blocked", foreign(status, |a| a.redirected_to.is_some())),
        ("leftovers", each(&status.leftovers, leftover)),
        ("not seen", each(&status.unseen, verification::unread_words)),
        ("watch", vec![watch(status.watch.as_ref())]),
    ];
    for (name, lines) in blocks {
        block(&mut text, name, &[("", lines)]);
    }
    for shown in status.chains.iter().flatten() {
        chain(&mut text, shown);
    }
    text
}

fn foreign(status: &Status, which: fn(&&Ahead) -> bool) -> Vec<String> {
    let rules = status.ahead.iter().filter(which);
    rules.map(|rule| verification::ahead(rule, "")).collect()
}

fn each<T>(items: &[T], line: impl Fn(&T) -> String) -> Vec<String> {
    items.iter().map(line).collect()
}

/// Lines in columns: each name stands once.
fn block(text: &mut String, mut name: &str, parts: &[(&str, Vec<String>)]) {
    let is_plain = parts.iter().all(|(kind, _)| kind.is_empty());
    for (kind, lines) in parts {
        let mut kind = *kind;
        for line in lines {
            let line = Foreign(line);
            let _ = match is_plain {
                true => writeln!(text, "  {name:10} {line}"),
                false => writeln!(text, "  {name:10} {kind:9} {line}"),
            };
            (name, kind) = ("", "");
        }
    }
}

/// The state, and where the rules are.
fn heading(status: &Status) -> String {
    let backend = |b: &InBackend| {
        let (rules, families) = (b.rules, joined(&b.families, " and "));
        format!("{rules} rules of backend {} ({families})", b.backend)
    };
    let installed = match status.backends.as_slice() {
        [] => String::new(),
        backends => {
            let backends: Vec<String> = backends.iter().map(backend).collect();
            let meshes = joined(&status.meshes, " and ");
            format!(": {meshes}, {}", backends.join(" and "))
        }
    };
    let state = match status.state {
        State::InForce => "in force",
        State::NotInForce if is_captured(status) => "partly in force",
        State::NotInForce => "not in force",
        State::NotInstalled => "not installed",
        State::Undetermined => "cannot be determined",
    };
    format!("{state}{installed}")
}

fn is_captured(status: &Status) -> bool {
    let mut verdicts = status.decisions.iter().map(|d| d.verdict);
    verdicts.any(|verdict| matches!(verdict, Verdict::Captured { .. }))
}

/// What is captured, exempt and dropped in one direction, in the order of evaluation.
fn decided(text: &mut String, name: &str, status: &Status, direction: Direction, all: bool) {
    let of_direction = status.decisions.iter().filter(|d| d.direction == direction);
    let decisions: Vec<&Decision> = of_direction.collect();
    let mut parts: Vec<(&str, Vec<String>)> = decisions
        .chunk_by(|a, b| kind(a.verdict) == kind(b.verdict))
        .map(|run| (kind(run[0].verdict), lines(run, status, all)))
        .collect();
    if parts.iter().all(|(kind, _)| *kind != "captured") {
        parts.push(("captured", vec!["nothing".to_owned()]));
    }
    block(text, name, &parts);
}

fn kind(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Captured { .. } => "captured",
        Verdict::Exempt => "exempt",
        Verdict::Dropped => "dropped",
    }
}

/// The lines of successive decisions of one kind.
fn lines(run: &[&Decision], status: &Status, all: bool) -> Vec<String> {
    let (mut lines, mut exempt) = (Vec::new(), Vec::new());
    for decision in run {
        let packets = || packets(decision, status, all);
        match decision.verdict {
            Verdict::Captured { port, mark } => {
                let how = mark.map_or("", |_| " (TPROXY)");
                lines.push(format!("{} → port {port}{how}", packets()));
            }
            Verdict::Exempt => add(&mut exempt, decision, packets),
            Verdict::Dropped => lines.push(packets()),
        }
    }
    lines.extend(exempt.iter().map(|group| match group {
        Group::Field(condition) => words(condition, all),
        Group::Packets(packets) => packets.clone(),
    }));
    lines
}

/// What is exempt.
#[derive(PartialEq)]
enum Group {
    /// By one field, of which several rules name values.
    Field(Condition),
    Packets(String),
}

/// Adds an exemption: one by a single field to the others by that field.
fn add(groups: &mut Vec<Group>, decision: &Decision, packets: impl Fn() -> String) {
    let one = match telling(decision).as_slice() {
        [one] if !one.not => Condition::of(one),
        _ => None,
    };
    let Some(one) = one else {
        let packets = Group::Packets(packets());
        if !groups.contains(&packets) {
            groups.push(packets);
        }
        return;
    };
    let same = groups.iter_mut().find_map(|group| match group {
        Group::Field(other) if other.field == one.field => Some(other),
        _ => None,
    });
    match same {
        None => groups.push(Group::Field(one)),
        Some(other) => {
            for value in one.values {
                if !other.values.contains(&value) {
                    other.values.push(value);
                }
            }
        }
    }
}

/// The conditions beside that for TCP.
fn telling(decision: &Decision) -> Vec<&Match> {
    let is_tcp = |m: &&Match| m.test == Test::Protocol(Protocol::Tcp) && !m.not;
    decision.matches.iter().filter(|m| !is_tcp(m)).collect()
}

fn packets(decision: &Decision, status: &Status, all: bool) -> String {
    let telling = telling(decision);
    let (mut conditions, mut others) = (Vec::new(), Vec::new());
    for m in &telling {
        match Condition::of(m) {
            Some(condition) => conditions.push(condition),
            None => others.push(Rule::text_of(std::slice::from_ref(*m), "")),
        }
    }
    conditions.sort_by_key(|condition| condition.field);
    let words = conditions.iter().map(|condition| words(condition, all));
    let words: Vec<String> = words.chain(others).collect();
    let packets = match (words.is_empty(), telling.len() == decision.matches.len()) {
        (true, false) => "all TCP".to_owned(),
        (true, true) => "everything".to_owned(),
        _ => words.join(", "),
    };
    let mut families = status.backends.iter().flat_map(|b| &b.families);
    let names_family = conditions.iter().any(|c| c.field.is_address());
    match decision.families.as_slice() {
        [family] if families.any(|f| f != family) && !names_family => {
            format!("{packets}, {family} only")
        }
        _ => packets,
    }
}

fn joined<T: Display>(items: &[T], by: &str) -> String {
    strings(items).join(by)
}

fn not_in_force(part: &NotInForce) -> String {
    match part {
        NotInForce::Dormant { family, table } => {
            format!("{family} table {table} is dormant")
        }
        NotInForce::Unreachable {
            family,
            table,
            chain,
        } => format!("no hook leads to chain {chain} of {family} table {table}"),
        NotInForce::NoRoute { family, mark } => {
            format!("no {family} policy route for mark {mark:#x} of TPROXY")
        }
    }
}

fn leftover(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Rule {
            family,
            table,
            chain,
            rule,
        } => format!("rule of an older tool in {family} {table} {chain}: {rule}"),
        Leftover::Table(table) => format!("table {table} of istio-iptables --native-nftables"),
    }
}

fn watch(watch: Option<&Watch>) -> String {
    let Some(watch) = watch else {
        return "none".to_owned();
    };
    let process = match watch.pid {
        0 => "a process of another PID namespace".to_owned(),
        pid => format!("process {pid}"),
    };
    let minutes = watch.running_for.map(|seconds| seconds / 60);
    match minutes.map(|m| (m / 1440, m / 60 % 24, m % 60)) {
        None => process,
        Some((0, 0, minutes)) => format!("{process}, running for {minutes} min"),
        Some((0, hours, minutes)) => format!("{process}, running for {hours} h {minutes} min"),
        Some((days, hours, _)) => format!("{process}, running for {days} d {hours} h"),
    }
}

fn chain(text: &mut String, shown: &ShownChain) {
    let only = match shown.managed {
        true => "",
        false => ", managed rules only",
    };
    let (family, table, name) = (shown.family, shown.table, shown.chain.to_string());
    let _ = writeln!(
        text,
        "\n{family} {table} {} ({}{only})",
        Foreign(&name),
        shown.backend
    );
    text.push_str("   packets        bytes  rule\n");
    let ids = shown.rules.iter().filter_map(|r| r.id.as_deref());
    let width = ids.map(|id| id.chars().count()).max();
    let width = width.unwrap_or_default();
    for rule in &shown.rules {
        let id = Foreign(rule.id.as_deref().unwrap_or_default());
        let Counters { packets, bytes } = rule.counters.unwrap_or_default();
        let rule = Foreign(&rule.rule);
        let _ = writeln!(text, "{packets:>10} {bytes:>12}  {id:width$}  {rule}");
    }
}
