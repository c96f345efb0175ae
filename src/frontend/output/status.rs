//! The text of `status`.

use super::connections::listed;
use super::escape::Foreign;
use super::verification;
use crate::actions::explain::connections::Direction;
use crate::actions::status::{
    Decision, InBackend, Leftover, NotInForce, ShownChain, State, Status, Verdict, Watch,
};
use crate::netfilter::model::{Counters, Match, Owner, Protocol, Rule, Side, Target, Test};
use ipnet::IpNet;
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
        ("ahead", each(&status.ahead, |a| verification::ahead(a, ""))),
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

fn each<T>(items: &[T], line: impl Fn(&T) -> String) -> Vec<String> {
    items.iter().map(line).collect()
}

/// Lines in columns: each name stands once.
fn block(text: &mut String, mut name: &str, parts: &[(&str, Vec<String>)]) {
    for (kind, lines) in parts {
        let mut kind = *kind;
        for line in lines {
            let line = Foreign(line);
            let _ = match kind {
                "" if parts.len() == 1 => writeln!(text, "  {name:10} {line}"),
                kind => writeln!(text, "  {name:10} {kind:9} {line}"),
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

/// What is captured, exempt and dropped in one direction.
fn decided(text: &mut String, name: &str, status: &Status, direction: Direction, all: bool) {
    let (mut captured, mut exempt, mut dropped) = (Vec::new(), Groups::new(), Vec::new());
    for decision in status.decisions.iter().filter(|d| d.direction == direction) {
        let packets = || conditions(decision, status, all);
        match decision.verdict {
            Verdict::Captured { port, mark: None } => {
                captured.push(format!("{} → port {port}", packets()));
            }
            Verdict::Captured { port, .. } => {
                captured.push(format!("{} → port {port} (TPROXY)", packets()));
            }
            Verdict::Exempt => add(&mut exempt, decision, packets()),
            Verdict::Dropped => dropped.push(packets()),
        }
    }
    if captured.is_empty() {
        captured.push("nothing".to_owned());
    }
    let exempt = exempt.iter().map(|(name, values)| match values.as_slice() {
        [] => name.clone(),
        values => format!("{name} {}", listed(values, all)),
    });
    let parts = [
        ("captured", captured),
        ("exempt", exempt.collect()),
        ("dropped", dropped),
    ];
    block(text, name, &parts);
}

/// Fields, each with its values; or whole conditions.
type Groups = Vec<(String, Vec<String>)>;

/// Adds an exemption: one by a single field to the others by that field.
fn add(groups: &mut Groups, decision: &Decision, packets: String) {
    let one = match telling(decision).as_slice() {
        [one] if !one.not => Some(words(one)),
        _ => None,
    };
    let (name, values) = one.unwrap_or((packets, Vec::new()));
    let found = groups.iter_mut().find(|(n, _)| *n == name);
    let group = match found {
        Some((_, group)) => group,
        None => {
            groups.push((name, Vec::new()));
            &mut groups.last_mut().expect("a group was added").1
        }
    };
    let new = values.into_iter().filter(|v| !group.contains(v));
    let new: Vec<String> = new.collect();
    group.extend(new);
}

/// The conditions beside that for TCP, in the reader's order: who, from where, to where.
fn telling(decision: &Decision) -> Vec<&Match> {
    let is_tcp = |m: &&Match| m.test == Test::Protocol(Protocol::Tcp) && !m.not;
    let mut telling: Vec<&Match> = decision.matches.iter().filter(|m| !is_tcp(m)).collect();
    telling.sort_by_key(|m| match m.test {
        Test::Owner(_) => 0,
        Test::Source(_) => 1,
        Test::InInterface(_) | Test::OutInterface(_) => 2,
        Test::Protocol(_) => 3,
        Test::Destination(_) | Test::DestinationSet(_) => 4,
        _ => 5,
    });
    telling
}

fn conditions(decision: &Decision, status: &Status, all: bool) -> String {
    let telling = telling(decision);
    let word = |m: &&Match| {
        let not = if m.not { "not " } else { "" };
        match words(m) {
            (name, values) if values.is_empty() => format!("{not}{name}"),
            (name, values) => format!("{name} {not}{}", listed(&values, all)),
        }
    };
    let words: Vec<String> = telling.iter().map(word).collect();
    let packets = match (words.is_empty(), telling.len() == decision.matches.len()) {
        (true, false) => "all TCP".to_owned(),
        (true, true) => "everything".to_owned(),
        _ => words.join(", "),
    };
    let families = status.backends.iter().flat_map(|b| &b.families);
    let names_family = |m: &&Match| matches!(m.test, Test::Source(_) | Test::Destination(_));
    match decision.families.as_slice() {
        [family] if families.clone().any(|f| f != family) && !telling.iter().any(names_family) => {
            format!("{packets}, {family} only")
        }
        _ => packets,
    }
}

/// The field of a match, and its values.
fn words(m: &Match) -> (String, Vec<String>) {
    let one = |name: &str, value: String| (name.to_owned(), vec![value]);
    match &m.test {
        Test::Source(net) => one("from", prefix(net)),
        Test::Destination(net) => one("to", prefix(net)),
        Test::DestinationSet(set) => {
            let prefixes = set.as_slice().iter().map(prefix);
            ("to".to_owned(), prefixes.collect())
        }
        Test::InInterface(name) | Test::OutInterface(name) => one("through", name.to_string()),
        Test::Protocol(protocol) => (protocol.to_string(), Vec::new()),
        Test::Port { side, ports } => (port(*side), vec![ports.to_string()]),
        Test::Multiport { side, ports } => (port(*side), strings(ports.as_slice())),
        Test::Owner(Owner::Uid(uid)) => one("uid", uid.to_string()),
        Test::Owner(Owner::Gid(gid)) => one("gid", gid.to_string()),
        Test::ConnState(states) => {
            let states = states.iter().map(|state| state.as_str().to_owned());
            ("state".to_owned(), states.collect())
        }
        Test::Mark { value, .. } => one("mark", format!("{value:#x}")),
        Test::Connmark { value, .. } => one("ct mark", format!("{value:#x}")),
        Test::Socket { .. } => ("with a socket".to_owned(), Vec::new()),
        Test::Fields(_) | Test::Undecoded(_) => {
            let rule = Rule::without_comment(vec![Match::new(m.test.clone())], Target::Return);
            (rule.to_string(), Vec::new())
        }
    }
}

/// A single address without its length.
fn prefix(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

fn port(side: Side) -> String {
    match side {
        Side::Source => "source port".to_owned(),
        Side::Destination => "port".to_owned(),
    }
}

fn strings<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
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
