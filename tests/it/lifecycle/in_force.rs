//! Rules that no packet comes to, or whose packets are dropped behind them, are not in place: a diff
//! says so, and an apply puts them in force again.

use super::world::{apply, run};
use crate::lab::{Namespace, same};

const ISTIO: &str = "--mesh istio -m TPROXY -u 1337 -i * -b *";

/// What takes rules out of force; PP begins the names of the tables.
const OUT_OF_FORCE: &[&str] = &[
    "add table ip PPnat { flags dormant; }",
    "add table ip PPmangle { flags dormant; }; flush chain ip PPnat OUTPUT",
    // Base chains come back in a table that is to wake up.
    "add table ip PPnat { flags dormant; }; flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT",
    "chain ip PPnat OUTPUT { policy drop; }",
    "chain ip PPmangle PREROUTING { policy drop; }; flush chain ip PPmangle PREROUTING",
    "flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT; add chain ip PPnat OUTPUT;
     add rule ip PPnat OUTPUT counter jump ISTIO_OUTPUT",
    "flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT;
     add chain ip PPnat OUTPUT { type nat hook output priority 50; }; add rule ip PPnat OUTPUT counter jump ISTIO_OUTPUT",
];

/// All tables, but for the order in which they and their chains were made.
fn tables(namespace: &Namespace) -> String {
    let list = namespace.sh("nft --stateless list ruleset 2>/dev/null");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn what_is_out_of_force_is_drift_and_is_repaired_in_place() {
    for (backend, prefix) in [("netlink", ""), ("nftables", "prepare-proxy-")] {
        for script in OUT_OF_FORCE {
            let namespace = Namespace::new();
            apply(&namespace, backend, ISTIO).unwrap();
            let wanted = tables(&namespace);
            namespace.nft_load(&script.replace("PP", prefix));
            assert_ne!(tables(&namespace), wanted, "{script}");
            let diff = format!("diff --backend {backend} {ISTIO}");
            run(&namespace, &diff).must_exit(1, script);
            apply(&namespace, backend, ISTIO).unwrap();
            same(&*wanted, &*tables(&namespace), script).unwrap();
            run(&namespace, &diff).must_exit(0, script);
        }
    }
}

#[test]
fn a_diff_names_what_is_out_of_force() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", ISTIO).unwrap();
    namespace.nft_load("add table ip nat { flags dormant; }; chain ip nat OUTPUT { policy drop; }");
    let diff = run(&namespace, &format!("diff --format json {ISTIO}")).must_exit(1, "diff");
    let diff: serde_json::Value = serde_json::from_str(&diff.out).unwrap();
    assert_eq!(diff["dormant"][0]["table"], "nat", "{diff:#}");
    assert_eq!(diff["chains"][0]["chain"], "OUTPUT", "{diff:#}");
    assert_eq!(diff["chains"].as_array().map(Vec::len), Some(1), "{diff:#}");
}

/// What a firewall drops at the end of its own chain is its business.
#[test]
fn a_policy_of_the_table_filter_is_foreign() {
    let options = "--mesh istio-1.0 -u 1337 -i *";
    let namespace = Namespace::new();
    namespace.sh("iptables-nft -P INPUT DROP; ip6tables-nft -P INPUT DROP");
    apply(&namespace, "netlink", options).unwrap();
    run(&namespace, &format!("diff {options}")).must_exit(0, "diff");
    assert_eq!(tables(&namespace).matches("policy drop").count(), 2);
}

#[test]
fn a_policy_of_legacy_tables_is_put_right() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", ISTIO).unwrap();
    namespace.sh("iptables-legacy -t mangle -P PREROUTING DROP");
    run(&namespace, &format!("diff {ISTIO}")).must_exit(1, "diff");
    apply(&namespace, "auto", ISTIO).unwrap();
    let chain = namespace.sh("iptables-legacy -t mangle -S PREROUTING");
    assert!(chain.starts_with("-P PREROUTING ACCEPT\n"), "{chain}");
    run(&namespace, &format!("diff {ISTIO}")).must_exit(0, "diff");
}

/// A chain that is hooked in elsewhere and holds foreign rules cannot be made anew.
#[test]
fn what_cannot_be_put_right_in_place_is_refused_and_auto_goes_elsewhere() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", ISTIO).unwrap();
    namespace.nft_load(
        "flush chain ip nat OUTPUT; delete chain ip nat OUTPUT;
         add chain ip nat OUTPUT { type nat hook output priority 50; };
         add rule ip nat OUTPUT jump ISTIO_OUTPUT; add rule ip nat OUTPUT tcp dport 7 accept",
    );
    let before = tables(&namespace);
    run(&namespace, &format!("--backend netlink {ISTIO}")).must_exit(1, "netlink");
    assert_eq!(tables(&namespace), before);
    apply(&namespace, "auto", ISTIO).unwrap();
    let after = tables(&namespace);
    assert!(after.contains("table ip prepare-proxy-nat"), "{after}");
    assert!(after.contains("tcp dport 7 accept"), "{after}");
    run(&namespace, &format!("diff {ISTIO}")).must_exit(0, "diff");
}
