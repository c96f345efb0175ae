//! What comes in from outside. From inside no such connection can be made: instead it is followed
//! through the rules that are in the kernel, and through those that are wanted.

use super::super::explain::live_rules;
use super::expect::{ending, new_connection};
use super::probes::outside;
use super::report::{Check, Expected, Means, Outcome};
use crate::netfilter::model::{Family, Protocol, Routing, Rules};
use crate::netfilter::trace::{Network, Start, every_way};
use caps::{CapSet, Capability};
use std::net::SocketAddr;

/// A check for each of these destinations.
pub(super) fn checks(
    destinations: Vec<SocketAddr>,
    wanted: &Rules,
    network: &Network,
) -> Vec<Check> {
    let live = in_kernel();
    let check = |to: SocketAddr| {
        let outcome = match (expected(to, wanted, network), &live) {
            (None, _) => Err("the rules that are wanted do not say".to_owned()),
            (_, Err(why)) => Err(why.clone()),
            (Some(expected), Ok((rules, routing))) => {
                Ok(compare(to, expected, rules, routing, network))
            }
        };
        Check {
            connection: format!("from outside to {to} (tcp)"),
            to,
            outcome: outcome.unwrap_or_else(|why| Outcome::Unknown { why }),
        }
    };
    destinations.into_iter().map(check).collect()
}

/// The rules and the policy routes that are there, or why they cannot be told.
fn in_kernel() -> Result<(Rules, Routing), String> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(true) => live_rules().map_err(|e| e.to_string()),
        _ => Err(
            "it cannot be made from inside, and reading the rules needs CAP_NET_ADMIN".to_owned(),
        ),
    }
}

fn expected(to: SocketAddr, wanted: &Rules, network: &Network) -> Option<Expected> {
    match ends(to, wanted, network)?.as_slice() {
        [end] => *end,
        _ => None,
    }
}

fn compare(
    to: SocketAddr,
    expected: Expected,
    rules: &Rules,
    routing: &Routing,
    network: &Network,
) -> Outcome {
    let network = Network {
        policy_routes: routing.policy_routes.clone(),
        ..network.clone()
    };
    match ends(to, rules, &network).as_deref() {
        Some([Some(end)]) if *end == expected => Outcome::Holds {
            expected,
            means: Means::Rules,
        },
        Some([Some(end)]) => Outcome::Fails {
            expected,
            means: Means::Rules,
            came: end.to_string(),
        },
        _ => Outcome::Unknown {
            why: format!(
                "rules of others cannot be read: explain --live --from ADDRESS --to {to} says which"
            ),
        },
    }
}

/// Every way that it may end, each once; several where rules cannot be read. Nothing where the way
/// cannot be told.
fn ends(to: SocketAddr, rules: &Rules, network: &Network) -> Option<Vec<Option<Expected>>> {
    let from = outside(Family::of(to.ip()));
    let mut walk = new_connection(Start::Outside, Protocol::Tcp, from, to);
    walk.packet.in_interface = Some(network.interface_of(to.ip())?.clone());
    let mut ends = Vec::new();
    for trace in every_way(&walk, rules, network).ok()? {
        let end = ending(&trace.end);
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    Some(ends)
}
