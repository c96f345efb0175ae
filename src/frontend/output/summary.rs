//! The one line that a successful run logs.

use crate::actions::{Applied, Cleaned};
use crate::engine::reconcile::Reconciled;
use crate::mesh::config::{Config, Dns, Selection};
use crate::mesh::{Resolved, captures, with_rules};
use crate::netfilter::model::{Family, Ruleset};
use ipnet::IpNet;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) fn applied(applied: &Applied) -> String {
    installed(&applied.resolved, &applied.done, applied.took)
}

/// What is captured and exempt, how many rules, which backend and how long. Destinations of a
/// family without rules are not captured.
pub(crate) fn installed(resolved: &Resolved, done: &Reconciled, took: Duration) -> String {
    let Resolved {
        config, desired, ..
    } = resolved;
    let verb = match done.changed() {
        true => "installed",
        false => "already in place",
    };
    let families: Vec<String> = Family::ALL
        .into_iter()
        .filter(|f| desired.of(*f).next().is_some())
        .map(|f| f.to_string())
        .collect();
    format!(
        "{verb}: inbound {}, outbound {}{}; exempt {}; {} rules ({}), {}, {}",
        inbound(config),
        outbound(config, desired),
        dns(config, desired),
        exempt(config, desired),
        desired.rule_count(),
        families.join(" and "),
        done.backend,
        milliseconds(took),
    )
}

pub(crate) fn cleaned(cleaned: &Cleaned) -> String {
    let done = match cleaned.changed {
        true => "removed all managed rules",
        false => "no managed rules to remove",
    };
    format!("{done}, {}", milliseconds(cleaned.took))
}

pub(super) fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
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

fn outbound(config: &Config, desired: &Ruleset) -> String {
    let port = config.proxy_port;
    let mut parts = match &config.outbound_cidrs {
        Selection::All => vec!["all TCP".to_owned()],
        Selection::Only(_) => Vec::from_iter(any(&config.captured_cidrs(desired), "CIDR")),
    };
    parts.extend(any(&config.outbound_ports, "TCP port"));
    let whose = match &config.owner_groups {
        Selection::All => String::new(),
        Selection::Only(groups) if groups.is_empty() => " of no group".to_owned(),
        Selection::Only(groups) => format!(" of {}", some(groups, "group")),
    };
    match config.captures_outbound(desired) {
        false => "nothing".to_owned(),
        true => format!("{}{whose} to port {port}", parts.join(" and ")),
    }
}

fn dns(config: &Config, desired: &Ruleset) -> String {
    match &config.dns {
        None => String::new(),
        Some(Dns::All) => ", DNS to any nameserver".to_owned(),
        Some(Dns::Servers(servers)) => {
            let has_rules = |server: &&IpAddr| captures(desired, Family::of(**server));
            let servers: Vec<&IpAddr> = servers.iter().filter(has_rules).collect();
            match servers.is_empty() {
                true => ", no DNS".to_owned(),
                false => format!(", DNS to {}", some(&servers, "nameserver")),
            }
        }
    }
}

fn exempt(config: &Config, desired: &Ruleset) -> String {
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
    let cidrs = |cidrs: &[IpNet], noun| any(&with_rules(cidrs, desired), noun);
    let lists = [
        cidrs(&config.outbound_exclude_cidrs, "CIDR"),
        any(&config.outbound_exclude_ports, "outbound port"),
        cidrs(&config.inbound_exclude_cidrs, "inbound CIDR"),
        any(inbound_ports, "inbound port"),
        any(&config.exclude_interfaces, "interface"),
        any(groups, "group"),
    ];
    parts.extend(lists.into_iter().flatten());
    parts.join(", ")
}

pub(super) fn strings<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

/// A list as [`some`] names it; nothing for an empty one.
fn any<T: Display>(items: &[T], noun: &str) -> Option<String> {
    (!items.is_empty()).then(|| some(items, noun))
}

/// A short list in full, a long one by its length.
fn some<T: Display>(items: &[T], noun: &str) -> String {
    match items.len() {
        1 => format!("{noun} {}", items[0]),
        2..=4 => format!("{noun}s {}", strings(items).join(",")),
        n => format!("{n} {noun}s"),
    }
}
