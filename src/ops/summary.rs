//! The one line that a successful run logs.

use super::apply::Applied;
use crate::config::{Config, Mode, Selection};
use crate::ruleset::Ruleset;
use std::fmt::Display;
use std::time::Duration;

/// What is captured, what is exempt, how many rules, which backend, how long.
pub fn applied(config: &Config, wanted: &Ruleset, done: &Applied, took: Duration) -> String {
    let verb = match done.changed {
        true => "installed",
        false => "already in place",
    };
    let families: Vec<String> = crate::ruleset::Family::ALL
        .into_iter()
        .filter(|f| wanted.of(*f).next().is_some())
        .map(|f| f.to_string())
        .collect();
    format!(
        "{verb}: inbound {}, outbound {}; exempt {}; {} rules ({}), {}, {:.1} ms",
        inbound(config),
        outbound(config),
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
    let how = match config.mode {
        Mode::Redirect => "",
        Mode::Tproxy => " (TPROXY)",
    };
    match &config.inbound_ports {
        Selection::All => format!("all TCP to port {port}{how}"),
        Selection::Only(ports) if ports.is_empty() => "nothing".to_owned(),
        Selection::Only(ports) => format!("{} to port {port}{how}", some(ports, "TCP port")),
    }
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
    match parts.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{} to port {port}", parts.join(" and ")),
    }
}

fn exempt(config: &Config) -> String {
    let mut parts = vec![some(&config.proxy_uids, "uid")];
    if config.proxy_gids != config.proxy_uids {
        parts.push(some(&config.proxy_gids, "gid"));
    }
    let lists = [
        (strings(&config.outbound_exclude_cidrs), "CIDR"),
        (strings(&config.outbound_exclude_ports), "outbound port"),
        (strings(&config.inbound_exclude_ports), "inbound port"),
        (strings(&config.exclude_interfaces), "interface"),
        (strings(&config.owner_groups_exclude), "group"),
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
