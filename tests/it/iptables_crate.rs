//! What the `iptables` crate, by which other programs in Rust read and write rules, sees of ours;
//! and rules that it planted. Why it is no part of the program itself says docs/design.md.

use crate::lab::{Lab, Namespace, SavedChain, Variant};
use crate::lifecycle::{ISTIO, OTHER, SOME, apply, restore_part, run};
use iptables::IPTables;
use prepare_proxy::netfilter::model::Family;

/// Backends whose rules iptables can see.
const SEEN: [&str; 2] = ["netlink", "iptables-legacy"];

/// The crate, for the implementation that sees the rules of a backend.
fn reader(backend: &str, family: Family) -> IPTables {
    let cmd = match (Variant::of(backend), family) {
        (Variant::Nft, Family::V4) => "iptables-nft",
        (Variant::Nft, Family::V6) => "ip6tables-nft",
        (Variant::Legacy, Family::V4) => "iptables-legacy",
        (Variant::Legacy, Family::V6) => "ip6tables-legacy",
    };
    IPTables {
        cmd,
        has_check: true,
        has_wait: true,
        is_numeric: false,
    }
}

/// The rules that a chain lists, without its declaration.
fn listed(reader: &IPTables, table: &str, chain: &str) -> Vec<String> {
    let mut lines = reader.list(table, chain).unwrap();
    lines.retain(|line| line.starts_with("-A "));
    lines
}

#[test]
fn it_lists_every_chain_and_rule_as_a_dry_run_prints_them() {
    for backend in SEEN {
        // It has IPv6.
        let lab = Lab::new();
        let namespace = &lab.pod;
        apply(namespace, backend, ISTIO).unwrap();
        let printed = run(namespace, &format!("--dry-run {ISTIO}")).must("a dry run");
        for family in Family::ALL {
            let reader = reader(backend, family);
            let wanted = SavedChain::all(&restore_part(family, &printed));
            assert!(!wanted.is_empty(), "{printed}");
            for chain in wanted {
                let (table, name) = (&chain.table, &chain.name);
                namespace.enter(|| {
                    assert!(reader.list_chains(table).unwrap().contains(name), "{name}");
                    assert_eq!(listed(&reader, table, name), chain.rules, "{backend}");
                    for rule in &chain.rules {
                        let rule = rule.strip_prefix(&format!("-A {name} ")).expect("-A");
                        assert!(reader.exists(table, name, rule).unwrap(), "{name} {rule}");
                    }
                });
            }
        }
    }
}

#[test]
fn after_a_clean_it_sees_none_of_them() {
    for backend in SEEN {
        let namespace = Namespace::new();
        apply(&namespace, backend, ISTIO).unwrap();
        run(&namespace, "clean").expect(0, "clean").unwrap();
        for family in Family::ALL {
            let reader = reader(backend, family);
            for table in ["raw", "mangle", "nat", "filter"] {
                let lines = namespace.enter(|| reader.list_table(table).unwrap());
                let left = lines
                    .iter()
                    .find(|l| !l.starts_with("-P ") && !l.is_empty());
                assert_eq!(left, None, "{backend}");
            }
        }
    }
}

/// Rules of every place: before ours, behind them, in a chain of one's own.
fn plant(reader: &IPTables) {
    reader.new_chain("nat", "PLANTED").unwrap();
    let rule = "-p tcp --dport 7 -m comment --comment \"two words\" -j RETURN";
    reader.append("nat", "PLANTED", rule).unwrap();
    reader.append("nat", "OUTPUT", "-j PLANTED").unwrap();
    let rule = "-p udp --dport 53 -j ACCEPT";
    reader.insert("nat", "OUTPUT", rule, 1).unwrap();
    reader
        .append("mangle", "PREROUTING", "-i eth7 -j ACCEPT")
        .unwrap();
}

/// All that it sees but ours.
fn planted(reader: &IPTables) -> Vec<String> {
    let tables = ["mangle", "nat"].map(|table| reader.list_table(table).unwrap());
    let mut lines = tables.concat();
    lines.retain(|line| !line.contains("ISTIO_") && !line.contains("istio/"));
    lines
}

#[test]
fn what_it_planted_stays() {
    for backend in SEEN {
        let namespace = Namespace::new();
        let readers = Family::ALL.map(|family| reader(backend, family));
        let seen = |what: &str| {
            namespace.enter(|| {
                for reader in &readers {
                    let exists = reader.exists(
                        "nat",
                        "PLANTED",
                        "-p tcp --dport 7 -m comment --comment \"two words\" -j RETURN",
                    );
                    assert!(exists.unwrap(), "{backend}: {what}");
                }
                readers.each_ref().map(planted)
            })
        };
        apply(&namespace, backend, SOME).unwrap();
        namespace.enter(|| readers.iter().for_each(plant));
        let before = seen("planted");
        for options in [ISTIO, OTHER] {
            apply(&namespace, backend, options).unwrap();
            assert_eq!(seen(options), before, "{backend}: {options}");
        }
        run(&namespace, "clean").expect(0, "clean").unwrap();
        assert_eq!(seen("clean"), before, "{backend}: clean");
    }
}
