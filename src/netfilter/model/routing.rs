//! What rules rely on outside netfilter: policy routes and addresses of the loopback interface.

use super::names::Family;
use ipnet::IpNet;
use serde::Serialize;
use std::fmt;

/// Wanted beside the rules; each part as iproute2 shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Routing {
    pub policy_routes: Vec<PolicyRoute>,
    pub loopback_addresses: Vec<LoopbackAddress>,
}

impl Routing {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.policy_routes.is_empty() && self.loopback_addresses.is_empty()
    }

    /// What is here and not in `other`.
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

    /// All that is here or in `other`.
    pub fn with(mut self, other: Routing) -> Routing {
        let more = other.without(&self);
        self.policy_routes.extend(more.policy_routes);
        self.loopback_addresses.extend(more.loopback_addresses);
        self
    }

    /// What ip(8) makes one by one; a rule and its route next to one another.
    pub fn parts(&self) -> impl Iterator<Item = RoutingPart> {
        let addresses = self.loopback_addresses.iter().copied();
        let routes = self.policy_routes.iter().copied();
        let both = |policy| [RoutingPart::Rule(policy), RoutingPart::Route(policy)];
        addresses
            .map(RoutingPart::Address)
            .chain(routes.flat_map(both))
    }

    /// The ip(8) commands that say the same.
    pub fn commands(&self) -> Vec<String> {
        self.parts().map(|part| part.to_string()).collect()
    }
}

/// One thing that ip(8) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingPart {
    Address(LoopbackAddress),
    /// The rule that leads to a policy's table.
    Rule(PolicyRoute),
    /// The route in it.
    Route(PolicyRoute),
}

/// The command that makes it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRoute {
    pub family: Family,
    pub mark: u32,
    /// A routing table's number, 1-4294967295.
    pub table: u32,
}

/// `ip addr add ADDRESS dev lo nodad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LoopbackAddress(pub IpNet);
