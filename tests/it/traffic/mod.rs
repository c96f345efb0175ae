//! Real connections between real users, through the rules of every mesh on every
//! backend.

mod istio;
mod istio_1_0;
mod linkerd;
mod nginmesh;
mod others;
mod scenario;

use scenario::{Scenario, Way};

/// Tries all scenarios, and tells of all that fail.
fn all(scenarios: &[Scenario], way: Way) {
    let failed: Vec<String> = scenarios
        .iter()
        .filter_map(|s| scenario::run(s, way).err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed\n{}",
        failed.len(),
        scenarios.len(),
        failed.join("\n\n")
    );
}

/// All that netlink and nf_tables ask for.
const ADMIN: &str = "+net_admin";
/// What iptables-legacy needs, also for a look at its tables.
const ADMIN_AND_RAW: &str = "+net_admin,+net_raw";

/// A test for each mesh, in each way.
macro_rules! traffic {
    ($($module:ident: $backend:literal, $capabilities:ident, own users: $own_users:literal;)+) => {$(
        mod $module {
            use super::*;

            const WAY: Way = Way { backend: $backend, capabilities: $capabilities, own_users: $own_users };

            #[test]
            fn nginmesh() {
                all(super::nginmesh::SCENARIOS, WAY);
            }

            #[test]
            fn istio_1_0() {
                all(super::istio_1_0::SCENARIOS, WAY);
            }

            #[test]
            fn istio() {
                all(super::istio::SCENARIOS, WAY);
            }

            #[test]
            fn linkerd() {
                all(super::linkerd::SCENARIOS, WAY);
            }

            #[test]
            fn beside_others() {
                all(others::SCENARIOS, Way { capabilities: ADMIN_AND_RAW, ..WAY });
            }
        }
    )+};
}

traffic! {
    netlink: "netlink", ADMIN, own users: false;
    netlink_own_users: "netlink", ADMIN, own users: true;
    nftables: "nftables", ADMIN, own users: false;
    iptables_legacy: "iptables-legacy", ADMIN_AND_RAW, own users: false;
}
