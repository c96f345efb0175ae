//! Policy routes and loopback addresses that rules rely on.

use super::names::Family;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Routing beside the rules, as iproute2 shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Routing {
    pub policy_routes: Vec<PolicyRoute>,
    pub loopback_addresses: Vec<LoopbackAddress>,
}

impl Routing {
    pub fn is_empty(&self) -> bool {
        self.policy_routes.is_empty() && self.loopback_addresses.is_empty()
    }

    /// The parts that `other` does not have.
    pub fn without(&self, other: &Routing) -> Routing {
        let (mut policies, mut addresses) =
            (self.policy_routes.clone(), self.loopback_addresses.clone());
        policies.retain(|p| !other.policy_routes.contains(p));
        addresses.retain(|a| !other.loopback_addresses.contains(a));
        Routing {
            policy_routes: policies,
            loopback_addresses: addresses,
        }
    }

    /// The union of both.
    pub fn with(mut self, other: Routing) -> Routing {
        let more = other.without(&self);
        self.policy_routes.extend(more.policy_routes);
        self.loopback_addresses.extend(more.loopback_addresses);
        self
    }

    /// The parts in the order in which ip(8) adds them, each rule next to its route.
    pub fn parts(&self) -> impl Iterator<Item = RoutingPart> {
        let addresses = self.loopback_addresses.iter().copied();
        let routes = self.policy_routes.iter().copied();
        let both = |policy| [RoutingPart::Rule(policy), RoutingPart::Route(policy)];
        addresses
            .map(RoutingPart::Address)
            .chain(routes.flat_map(both))
    }

    /// The equivalent ip(8) commands.
    pub fn commands(&self) -> Vec<String> {
        self.parts().map(|part| part.to_string()).collect()
    }
}

/// One object of ip(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingPart {
    Address(LoopbackAddress),
    /// The rule that selects a policy's table.
    Rule(PolicyRoute),
    /// The route in that table.
    Route(PolicyRoute),
}

/// The command that adds it.
impl fmt::Display for RoutingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family| match family {
            Family::V4 => "ip",
            Family::V6 => "ip -6",
        };
        match self {
            RoutingPart::Address(address) => write!(f, "ip addr add {} dev lo nodad", address.0),
            RoutingPart::Rule(PolicyRoute {
                family,
                mark,
                table,
            }) => write!(
                f,
                "{} rule add fwmark {mark:#x} lookup {table}",
                ip(*family)
            ),
            RoutingPart::Route(PolicyRoute { family, table, .. }) => write!(
                f,
                "{} route add local default dev lo table {table}",
                ip(*family)
            ),
        }
    }
}

/// `ip rule add fwmark MARK lookup TABLE` and `ip route add local default dev lo table TABLE`:
/// packets that TPROXY has marked are delivered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRoute {
    pub family: Family,
    pub mark: u32,
    /// A routing table's number, 1-4294967295.
    pub table: u32,
}

/// `ip addr add ADDRESS dev lo nodad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoopbackAddress(pub IpNet);
