//! The one line that a successful run logs.

use super::apply::Applied;
use super::warnings::captures;
use crate::mesh::config::{Config, Dns, Selection};
use crate::netfilter::model::{Family, Ruleset};
use ipnet::IpNet;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

/// What is captured, what is exempt, how many rules, which backend, how long. It tells what rules
/// do, not what was asked for: a destination of a family without rules is not captured.
pub(super) fn applied(config: &Config, wanted: &Ruleset, done: &Applied, took: Duration) -> String {
    let verb = match done.changed() {
        true => "installed",
        false => "already in place",
    };
    let families: Vec<String> = Family::ALL
        .into_iter()
        .filter(|f| wanted.of(*f).next().is_some())
        .map(|f| f.to_string())
        .collect();
    format!(
        "{verb}: inbound {}, outbound {}{}; exempt {}; {} rules ({}), {}, {:.1} ms",
        inbound(config),
        outbound(config, wanted),
        dns(config, wanted),
        exempt(config, wanted),
        wanted.rule_count(),
        families.join(" and "),
        done.backend,
        took.as_secs_f64() * 1000.0,
    )
}

/// Whether there was anything to remove, and how long it took.
pub(super) fn cleaned(changed: bool, took: Duration) -> String {
    let done = match changed {
        true => "removed all rules of a mesh",
        false => "nothing of a mesh was here",
    };
    format!("{done}, {:.1} ms", took.as_secs_f64() * 1000.0)
}

fn inbound(config: &Config) -> String {
    let (port, how) = match config.tproxy {
        None => (config.inbound_capture_port, ""),
        Some(tproxy) => (tproxy.port, " (TPROXY)"),
    };
    match &config.inbound_ports {
        Selection::All => format!("all TCP to port {port}{how}"),
        Selection::Only(ports) if ports.is_empty() => "nothing".to_owned(),
        Selection::Only(ports) => format!("{} to port {port}{how}", some(ports, "TCP port")),
    }
}

fn outbound(config: &Config, wanted: &Ruleset) -> String {
    let port = config.proxy_port;
    let mut parts = match &config.outbound_cidrs {
        Selection::All => vec!["all TCP".to_owned()],
        Selection::Only(cidrs) => match captured_cidrs(cidrs, wanted) {
            none if none.is_empty() => vec![],
            captured => vec![some(&captured, "CIDR")],
        },
    };
    if !config.outbound_ports.is_empty() {
        parts.push(some(&config.outbound_ports, "TCP port"));
    }
    let whose = match &config.owner_groups {
        Selection::All => String::new(),
        Selection::Only(groups) if groups.is_empty() => " of nobody".to_owned(),
        Selection::Only(groups) => format!(" of {}", some(groups, "group")),
    };
    match captures_outbound(config, wanted) {
        false => "nothing".to_owned(),
        true => format!("{}{whose} to port {port}", parts.join(" and ")),
    }
}

/// Whether any outbound TCP goes to the proxy.
pub(super) fn captures_outbound(config: &Config, wanted: &Ruleset) -> bool {
    let by_address = match &config.outbound_cidrs {
        Selection::All => true,
        Selection::Only(cidrs) => !captured_cidrs(cidrs, wanted).is_empty(),
    };
    by_address || !config.outbound_ports.is_empty()
}

/// Those destinations for whose family there are rules.
pub(super) fn captured_cidrs(cidrs: &[IpNet], wanted: &Ruleset) -> Vec<IpNet> {
    let has_rules = |cidr: &&IpNet| captures(wanted, Family::of(cidr.addr()));
    cidrs.iter().filter(has_rules).copied().collect()
}

fn dns(config: &Config, wanted: &Ruleset) -> String {
    match &config.dns {
        None => String::new(),
        Some(Dns::All) => ", DNS to any nameserver".to_owned(),
        Some(Dns::Servers(servers)) => {
            let has_rules = |server: &&IpAddr| captures(wanted, Family::of(**server));
            let servers: Vec<&IpAddr> = servers.iter().filter(has_rules).collect();
            match servers.is_empty() {
                true => ", no DNS".to_owned(),
                false => format!(", DNS to {}", some(&servers, "nameserver")),
            }
        }
    }
}

fn exempt(config: &Config, wanted: &Ruleset) -> String {
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
        (
            strings(&captured_cidrs(&config.outbound_exclude_cidrs, wanted)),
            "CIDR",
        ),
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
