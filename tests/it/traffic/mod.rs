//! Real connections between real users, through the rules of every mesh on every
//! backend.

mod istio;
mod istio_1_0;
mod linkerd;
mod nginmesh;
mod others;
mod scenario;

use scenario::{Scenario, Setup};

/// Tries all scenarios, and tells of all that fail.
fn all(scenarios: &[Scenario], setup: Setup) {
    let failed: Vec<String> = scenarios
        .iter()
        .filter_map(|s| scenario::run(s, setup).err())
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

            const SETUP: Setup = Setup { backend: $backend, capabilities: $capabilities, own_users: $own_users };

            #[test]
            fn nginmesh() {
                all(super::nginmesh::SCENARIOS, SETUP);
            }

            #[test]
            fn istio_1_0() {
                all(super::istio_1_0::SCENARIOS, SETUP);
            }

            #[test]
            fn istio() {
                all(super::istio::SCENARIOS, SETUP);
            }

            #[test]
            fn linkerd() {
                all(super::linkerd::SCENARIOS, SETUP);
            }

            #[test]
            fn beside_others() {
                all(others::SCENARIOS, Setup { capabilities: ADMIN_AND_RAW, ..SETUP });
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
