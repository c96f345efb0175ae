//! What rules rely on outside netfilter: policy routes and addresses of the loopback interface.

use super::names::Family;
use ipnet::IpNet;
use serde::Serialize;

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

    /// The ip(8) commands that say the same, in the order in which they take effect.
    pub fn commands(&self) -> Vec<String> {
        let routes = self.policy_routes.iter().flat_map(|route| {
            let PolicyRoute { mark, table, .. } = route;
            let option = match route.family {
                Family::V4 => "",
                Family::V6 => " -6",
            };
            [
                format!("ip{option} rule add fwmark {mark:#x} lookup {table}"),
                format!("ip{option} route add local default dev lo table {table}"),
            ]
        });
        let addresses = self.loopback_addresses.iter();
        let addresses = addresses.map(|a| format!("ip addr add {} dev lo nodad", a.0));
        addresses.chain(routes).collect()
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
