//! Real connections between real users, through the rules of every mesh on every
//! backend.
#![forbid(unsafe_code)]

#[path = "../lab/mod.rs"]
mod lab;

mod istio;
mod istio_1_0;
mod nginmesh;
mod others;
mod scenario;

use scenario::Scenario;

/// Tries all scenarios, and tells of all that fail.
fn all(scenarios: &[Scenario], backend: &str) {
    let failed: Vec<String> = scenarios
        .iter()
        .filter_map(|s| scenario::run(s, backend).err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed\n{}",
        failed.len(),
        scenarios.len(),
        failed.join("\n\n")
    );
}

/// A test for each mesh on each backend.
macro_rules! traffic {
    ($($module:ident: $backend:literal),+) => {$(
        mod $module {
            #[test]
            fn nginmesh() {
                super::all(crate::nginmesh::SCENARIOS, $backend);
            }

            #[test]
            fn istio_1_0() {
                super::all(crate::istio_1_0::SCENARIOS, $backend);
            }

            #[test]
            fn beside_others() {
                super::all(crate::others::SCENARIOS, $backend);
            }

            #[test]
            fn istio() {
                super::all(crate::istio::SCENARIOS, $backend);
            }
        }
    )+};
}

traffic! {
    netlink: "netlink",
    iptables_nft: "iptables-nft",
    iptables_legacy: "iptables-legacy"
}
