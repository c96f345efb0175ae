//! Foreign rules and policies that keep from the proxy what the desired rules capture: before it is
//! captured, or on its way to the proxy's port.

use super::probes::Vantage;
use super::report::{Expected, Found, Rule};
use super::rules::{self, Fate, Judgement, Place};
use super::{Options, place, probes};
use crate::actions::explain::connections::{Direction, through_known_interfaces};
use crate::actions::explain::live_rules;
use crate::engine::backends::Foreign;
use crate::engine::error::Error;
use crate::mesh::managed;
use crate::netfilter::model::{ChainName, Family, HookedChain, Interface, Rules, Ruleset};
use crate::netfilter::trace::classes::{Ended, STEPS, Set, Space, Stopped, follow_all};
use crate::netfilter::trace::{Network, NextHop, Start};
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

/// With more foreign rules than these nothing is looked for: each is followed for each connection.
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
    let mut network = place::of_rules(&rules, Some(&kernel), &desired.routing)?;
    for family in Family::ALL {
        add_way_out(&mut network, family);
    }
    let kernel = Place::observed(kernel, routing, &network);
    let desired = Place { rules, network };
    Ok(match may_be_any(&desired, &kernel) {
        true => among(&desired, &kernel),
        false => BTreeSet::new(),
    })
}

/// Whether some new connection that is to be captured may end elsewhere. All are followed at once, which
/// takes milliseconds; to find a connection for each rule takes up to seconds.
fn may_be_any(desired: &Place, kernel: &Place) -> bool {
    let places = [desired, kernel].map(|place| (&place.rules, &place.network));
    let ways = Family::ALL.map(|family| Direction::ALL.map(|direction| (family, direction)));
    ways.into_iter().flatten().any(|(family, direction)| {
        let mut space = Space::new(family, places, STEPS);
        ends_elsewhere(&mut space, direction.start(), places).unwrap_or(true)
    })
}

fn ends_elsewhere(
    space: &mut Space,
    start: Start,
    [desired, kernel]: [(&Rules, &Network); 2],
) -> Result<bool, Stopped> {
    let known = through_known_interfaces(space);
    let new = space.new_connections();
    let within = space.and(known, new);
    let desired = follow_all(space, start, desired.0, desired.1, within)?;
    let found = follow_all(space, start, kernel.0, kernel.1, within)?;
    let mut elsewhere = Set::NONE;
    for end in desired.ends.iter().filter(|end| end.is_captured()) {
        let mut left = end.set;
        let same =
            |other: &&Ended| (&other.fate, other.destination()) == (&end.fate, end.destination());
        for other in found.ends.iter().filter(same) {
            left = space.without(left, other.set);
        }
        let unclear = space.and(end.set, found.undetermined);
        left = space.or(left, unclear);
        elsewhere = space.or(elsewhere, left);
    }
    space.check()?;
    Ok(!space.is_empty(elsewhere))
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

/// Those among the rules of the kernel.
fn among(desired: &Place, kernel: &Place) -> BTreeSet<Ahead> {
    let vantage = Vantage {
        network: &desired.network,
        only: None,
        port: Options::PORT,
    };
    let probes = probes::derive_all(desired, Some(kernel), &vantage);
    let deciding = |probe| {
        let fate = Fate::desired(probe, desired)?;
        let (rule, decoded, redirected_to) = match (fate.end, rules::judge(probe, fate, kernel)) {
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
    };
    probes.iter().filter_map(deciding).collect()
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
