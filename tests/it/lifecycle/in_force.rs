//! Rules that are not in force are drift: diff reports it, apply repairs it.

use super::world::{apply, run};
use crate::lab::{Namespace, same};

const ISTIO: &str = "--mesh istio -m TPROXY -u 1337 -i * -b *";

/// Commands that take rules out of force; PP is the prefix of own tables.
const OUT_OF_FORCE: &[&str] = &[
    "add table ip PPnat { flags dormant; }",
    "add table ip PPmangle { flags dormant; }; flush chain ip PPnat OUTPUT",
    // Base chains must be added to a dormant table.
    "add table ip PPnat { flags dormant; }; flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT",
    "chain ip PPnat OUTPUT { policy drop; }",
    "chain ip PPmangle PREROUTING { policy drop; }; flush chain ip PPmangle PREROUTING",
    "flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT; add chain ip PPnat OUTPUT;
     add rule ip PPnat OUTPUT counter jump ISTIO_OUTPUT",
    "flush chain ip PPnat OUTPUT; delete chain ip PPnat OUTPUT;
     add chain ip PPnat OUTPUT { type nat hook output priority 50; }; add rule ip PPnat OUTPUT counter jump ISTIO_OUTPUT",
];

/// All tables, regardless of the order of tables and chains.
fn tables(namespace: &Namespace) -> String {
    let list = namespace.sh("nft --stateless list ruleset 2>/dev/null");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn rules_not_in_force_are_drift_and_repaired_in_place() {
    for (backend, prefix) in [("netlink", ""), ("nftables", "prepare-proxy-")] {
        for script in OUT_OF_FORCE {
            let namespace = Namespace::new();
            apply(&namespace, backend, ISTIO).unwrap();
            let desired = tables(&namespace);
            namespace.nft_load(&script.replace("PP", prefix));
            assert_ne!(tables(&namespace), desired, "{script}");
            let diff = format!("diff --backend {backend} {ISTIO}");
            run(&namespace, &diff).must_exit(1, script);
            apply(&namespace, backend, ISTIO).unwrap();
            same(&*desired, &*tables(&namespace), script).unwrap();
            run(&namespace, &diff).must_exit(0, script);
        }
    }
}

#[test]
fn diff_names_what_is_not_in_force() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", ISTIO).unwrap();
    namespace.nft_load("add table ip nat { flags dormant; }; chain ip nat OUTPUT { policy drop; }");
    let diff = run(&namespace, &format!("diff --format json {ISTIO}")).must_exit(1, "diff");
    let diff: serde_json::Value = serde_json::from_str(&diff.out).unwrap();
    assert_eq!(diff["dormant"][0]["table"], "nat", "{diff:#}");
    assert_eq!(diff["chains"][0]["chain"], "OUTPUT", "{diff:#}");
    assert_eq!(diff["chains"].as_array().map(Vec::len), Some(1), "{diff:#}");
}

/// The policy of table filter belongs to firewalls.
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
fn a_drop_policy_of_legacy_tables_is_repaired() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", ISTIO).unwrap();
    namespace.sh("iptables-legacy -t mangle -P PREROUTING DROP");
    run(&namespace, &format!("diff {ISTIO}")).must_exit(1, "diff");
    apply(&namespace, "auto", ISTIO).unwrap();
    let chain = namespace.sh("iptables-legacy -t mangle -S PREROUTING");
    assert!(chain.starts_with("-P PREROUTING ACCEPT\n"), "{chain}");
    run(&namespace, &format!("diff {ISTIO}")).must_exit(0, "diff");
}

/// A chain that is hooked elsewhere and has foreign rules cannot be replaced.
#[test]
fn what_cannot_be_repaired_is_refused_and_auto_uses_own_tables() {
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
