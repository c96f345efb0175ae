//! The one line that a successful run logs.

use super::apply::Applied;
use crate::config::{Config, Dns, Selection};
use crate::mesh;
use crate::ruleset::{Match, Ruleset, Side, Target, Test};
use std::fmt::Display;
use std::time::Duration;

/// What is captured, what is exempt, how many rules, which backend, how long; and, on a host that
/// people log in to, whether they now do so through the proxy.
pub fn applied(
    config: &Config,
    wanted: &Ruleset,
    done: &Applied,
    took: Duration,
    on_a_host: bool,
) -> String {
    let verb = match done.changed() {
        true => "installed",
        false => "already in place",
    };
    let families: Vec<String> = crate::ruleset::Family::ALL
        .into_iter()
        .filter(|f| wanted.of(*f).next().is_some())
        .map(|f| f.to_string())
        .collect();
    format!(
        "{verb}: inbound {}{}, outbound {}{}; exempt {}; {} rules ({}), {}, {:.1} ms",
        inbound(config),
        match on_a_host && captures_ssh(config, wanted) {
            true => " (SSH on port 22 too: without the proxy nobody logs in)",
            false => "",
        },
        outbound(config),
        dns(config),
        exempt(config),
        wanted.rule_count(),
        families.join(" and "),
        done.backend,
        took.as_secs_f64() * 1000.0,
    )
}

/// Whether there was anything to remove, and how long it took.
pub fn cleaned(changed: bool, took: Duration) -> String {
    let done = match changed {
        true => "removed all rules of a mesh",
        false => "nothing of a mesh was here",
    };
    format!("{done}, {:.1} ms", took.as_secs_f64() * 1000.0)
}

fn inbound(config: &Config) -> String {
    let port = config.inbound_capture_port;
    let how = match config.tproxy {
        None => "",
        Some(_) => " (TPROXY)",
    };
    match &config.inbound_ports {
        Selection::All => format!("all TCP to port {port}{how}"),
        Selection::Only(ports) if ports.is_empty() => "nothing".to_owned(),
        Selection::Only(ports) => format!("{} to port {port}{how}", some(ports, "TCP port")),
    }
}

/// The port that people log in to a host through.
const SSH: u16 = 22;

/// Whether new connections to sshd go to the proxy: inbound ports have it, and no rule lets it by.
fn captures_ssh(config: &Config, wanted: &Ruleset) -> bool {
    let asked_for = match &config.inbound_ports {
        Selection::All => true,
        Selection::Only(ports) => ports.iter().any(|p| p.contains(SSH)),
    };
    let is_ssh = |m: &Match| match &m.test {
        Test::Port { side, ports } => !m.not && *side == Side::Destination && ports.contains(SSH),
        _ => false,
    };
    let chains = wanted.tables.iter().flat_map(|t| &t.chains);
    let let_by = chains
        .filter(|c| c.name == mesh::INBOUND)
        .flat_map(|c| &c.rules)
        .any(|r| r.target == Target::Return && r.matches.iter().any(is_ssh));
    asked_for && !let_by
}

fn outbound(config: &Config) -> String {
    let port = config.proxy_port;
    let mut parts = match &config.outbound_cidrs {
        Selection::All => vec!["all TCP".to_owned()],
        Selection::Only(cidrs) if cidrs.is_empty() => vec![],
        Selection::Only(cidrs) => vec![some(cidrs, "CIDR")],
    };
    if !config.outbound_ports.is_empty() {
        parts.push(some(&config.outbound_ports, "TCP port"));
    }
    let whose = match &config.owner_groups {
        Selection::All => String::new(),
        Selection::Only(groups) if groups.is_empty() => " of nobody".to_owned(),
        Selection::Only(groups) => format!(" of {}", some(groups, "group")),
    };
    match parts.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{}{whose} to port {port}", parts.join(" and ")),
    }
}

fn dns(config: &Config) -> String {
    match &config.dns {
        None => String::new(),
        Some(Dns::All) => ", DNS to any nameserver".to_owned(),
        Some(Dns::Servers(servers)) => format!(", DNS to {}", some(servers, "nameserver")),
    }
}

fn exempt(config: &Config) -> String {
    let mut parts = vec![some(&config.proxy_uids, "uid")];
    if !config.proxy_gids.is_empty() && config.proxy_gids != config.proxy_uids {
        parts.push(some(&config.proxy_gids, "gid"));
    }
    let inbound_ports = match &config.inbound_ports {
        Selection::All => config.inbound_exclude_ports.as_slice(),
        Selection::Only(_) => &[],
    };
    let groups = match &config.owner_groups {
        Selection::All => config.owner_groups_exclude.as_slice(),
        Selection::Only(_) => &[],
    };
    let lists = [
        (strings(&config.outbound_exclude_cidrs), "CIDR"),
        (strings(&config.outbound_exclude_ports), "outbound port"),
        (strings(inbound_ports), "inbound port"),
        (strings(&config.exclude_interfaces), "interface"),
        (strings(groups), "group"),
    ];
    for (items, noun) in lists.iter().filter(|(items, _)| !items.is_empty()) {
        parts.push(some(items, noun));
    }
    parts.join(", ")
}

fn strings<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

/// A short list in full, a long one by its length.
fn some<T: Display>(items: &[T], noun: &str) -> String {
    match items.len() {
        1 => format!("{noun} {}", items[0]),
        2..=4 => format!("{noun}s {}", strings(items).join(",")),
        n => format!("{n} {noun}s"),
    }
}
