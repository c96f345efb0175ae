//! Foreign rules and policies that keep from the proxy what the desired rules capture: before it is
//! captured, or on its way to the proxy's port.

use super::report::{Expected, Found, Rule};
use super::rules::{self, Fate, Judgement, Place};
use crate::actions::explain::connections::through_known_interfaces;
use crate::actions::explain::{live_rules, place};
use crate::engine::backends::Foreign;
use crate::engine::error::Error;
use crate::mesh::managed;
use crate::netfilter::model::{ChainName, Family, HookedChain, Interface, Rules, Ruleset};
use crate::netfilter::trace::classes::{
    Dimension, Ended, Picture, STEPS, Set, Space, Stopped, follow_all, loopback,
};
use crate::netfilter::trace::{Network, NextHop, Probe, Start};
use ipnet::IpNet;
use serde::Serialize;
use std::collections::BTreeSet;

/// A foreign rule or policy that keeps connections from the proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ahead {
    #[serde(flatten)]
    pub rule: Rule,
    /// Whether it is known which packets it matches; otherwise it may take precedence.
    pub decoded: bool,
    /// The proxy's port, where connections were captured before: a firewall blocks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirected_to: Option<u16>,
    /// Whether it comes before managed rules in PREROUTING, where an option keeps those first.
    #[serde(skip)]
    pub in_prerouting: bool,
}

/// With more foreign rules than these nothing is looked for: an apply would wait for seconds.
const MOST_RULES: usize = 5000;

/// The foreign rules that keep a connection from being captured, each once, found by following
/// connections through the desired rules and through those in the kernel; nothing where there are
/// more than 5,000 foreign rules. `foreign` says what was read of them before.
///
/// # Errors
/// Where the rules in the kernel, or addresses and routes, cannot be read.
pub(in crate::actions) fn rules_ahead(
    desired: &Ruleset,
    foreign: Foreign,
) -> Result<BTreeSet<Ahead>, Error> {
    if foreign == Foreign::default() || foreign.rules > MOST_RULES {
        return Ok(BTreeSet::new());
    }
    let (kernel, routing) = live_rules()?;
    let most = MOST_RULES + desired.rule_count();
    if kernel.entries().count() > most || !kernel.chains().any(is_foreign) {
        return Ok(BTreeSet::new());
    }
    let rules = Rules::of(desired);
    let mut network = place::whole(&[], &desired.routing, true)?.network;
    for family in Family::ALL {
        add_way_out(&mut network, family);
    }
    let kernel = Place::observed(kernel, routing, &network);
    let desired = Place { rules, network };
    let ways = Family::ALL.map(|family| Start::ALL.map(|start| (family, start)));
    let ahead = |(family, start)| ahead_of(family, start, &desired, &kernel).unwrap_or_default();
    Ok(ways.into_iter().flatten().flat_map(ahead).collect())
}

/// Those that keep connections of one family from the proxy which begin there. All connections are
/// followed at once; a rule that applies to some which are to be captured and end elsewhere is asked
/// about one of them.
fn ahead_of(
    family: Family,
    start: Start,
    desired: &Place,
    kernel: &Place,
) -> Result<Vec<Ahead>, Stopped> {
    let places = [desired, kernel].map(|place| (&place.rules, &place.network));
    let space = &mut Space::new(family, places, STEPS);
    let within = connections(space, start, &kernel.network);
    let wanted = follow_all(space, start, &desired.rules, &desired.network, within)?;
    let found = follow_all(space, start, &kernel.rules, &kernel.network, within)?;
    let (captured, elsewhere) = compare(space, &wanted, &found);
    let mut ahead = Vec::new();
    for hit in found.hits.iter().filter(|hit| hit.may_decide()) {
        let is_managed = |rule| managed::is_managed_entry(&hit.chain.name, rule);
        if hit.rules.first().is_some_and(is_managed) {
            continue;
        }
        let applied = space.and(hit.set, elsewhere);
        for end in &found.ends {
            let packets = space.and(applied, end.set);
            let Some(probe) = space.member(packets, start, &mut || true) else {
                continue;
            };
            let found = rule_ahead(&probe, desired, kernel);
            let is_lost = found.as_ref().is_some_and(|a| a.redirected_to.is_some());
            if !is_lost || !other_hosts_get_in(space, &probe, captured) {
                ahead.extend(found);
            }
        }
    }
    space.check()?;
    Ok(ahead)
}

/// Whether connections of other hosts to the same port come to the proxy: a firewall may let in only
/// some hosts, to the proxy's port as to any other.
fn other_hosts_get_in(space: &mut Space, probe: &Probe, captured: Set) -> bool {
    const WAY_IN: [Dimension; 4] = [
        Dimension::InInterface,
        Dimension::Protocol,
        Dimension::Destination,
        Dimension::DestinationPort,
    ];
    let same_way = space.like(probe, &WAY_IN);
    let others = space.and(captured, same_way);
    probe.start == Start::Outside && !space.is_empty(others)
}

/// New connections, as applications and other hosts make them.
fn connections(space: &mut Space, start: Start, network: &Network) -> Set {
    let known = through_known_interfaces(space);
    let new = space.new_connections();
    let to_one_host = space.to_one_host(network);
    let made = [known, new, to_one_host];
    let made = made
        .into_iter()
        .fold(Set::ALL, |all, set| space.and(all, set));
    match start {
        Start::Here => made,
        Start::Outside => {
            let [source, destination] = [Dimension::Source, Dimension::Destination]
                .map(|end| space.having(end, loopback(space.family)));
            let of_loopback = space.or(source, destination);
            space.without(made, of_loopback)
        }
    }
}

/// The packets that are captured as desired, and those that are to be captured and may end elsewhere.
fn compare(space: &mut Space, desired: &Picture, found: &Picture) -> (Set, Set) {
    let (mut captured, mut elsewhere) = (Set::NONE, Set::NONE);
    for end in desired.ends.iter().filter(|end| end.is_captured()) {
        let mut left = end.set;
        let same =
            |other: &&Ended| (&other.fate, other.destination()) == (&end.fate, end.destination());
        for other in found.ends.iter().filter(same) {
            left = space.without(left, other.set);
        }
        let unclear = space.and(end.set, found.undetermined);
        left = space.or(left, unclear);
        let as_desired = space.without(end.set, left);
        captured = space.or(captured, as_desired);
        elsewhere = space.or(elsewhere, left);
    }
    (captured, elsewhere)
}

/// Whether anything in a chain is foreign: a rule, or a policy that drops.
fn is_foreign(chain: &HookedChain) -> bool {
    let mut rules = chain.rules.iter();
    rules.any(|rule| !managed::is_managed_entry(&chain.name, rule))
        || chain.base.is_some_and(|base| !base.accepts)
}

/// Gives the network an interface and a route of the family, if it has none: they may come later.
fn add_way_out(network: &mut Network, family: Family) {
    let leaves = |(net, next_hop): &(IpNet, NextHop)| {
        Family::of(net.addr()) == family && matches!(next_hop, NextHop::Out { .. })
    };
    if network.routes.iter().any(leaves) {
        return;
    }
    let (address, all) = match family {
        Family::V4 => ("192.0.2.2/24", "0.0.0.0/0"),
        Family::V6 => ("2001:db8::2/64", "::/0"),
    };
    let [address, all] = [address, all].map(|net| net.parse::<IpNet>().expect("a prefix"));
    network.add_address(&Interface::ETH0, address);
    let next_hop = NextHop::Out {
        through: Interface::ETH0,
        source: Some(address.addr()),
    };
    network.routes.push((all, next_hop));
}

/// The foreign rule that keeps a connection from the proxy, which the desired rules capture.
fn rule_ahead(probe: &Probe, desired: &Place, kernel: &Place) -> Option<Ahead> {
    let fate = Fate::desired(probe, desired)?;
    let (rule, decoded, redirected_to) = match (fate.end, rules::judge_one(probe, fate, kernel)) {
        (Expected::Captured(_), Judgement::Differs { by, found }) => match found {
            Found::Lost(port) => (by?, true, Some(port)),
            _ => (by?, true, None),
        },
        (Expected::Captured(_), Judgement::Undecoded(rule)) => (rule, false, None),
        _ => return None,
    };
    (!rule.managed).then(|| Ahead {
        in_prerouting: probe.start == Start::Outside && captures_inbound(kernel, &rule.table),
        rule,
        decoded,
        redirected_to,
    })
}

/// Whether a table has managed rules in PREROUTING.
fn captures_inbound(kernel: &Place, table: &str) -> bool {
    let tables = kernel.rules.tables.iter().filter(|t| t.name == table);
    let mut chains = tables.flat_map(|t| &t.chains);
    chains.any(|c| {
        let mut rules = c.rules.iter();
        c.name == ChainName::PREROUTING && rules.any(|r| managed::is_managed_entry(&c.name, r))
    })
}
