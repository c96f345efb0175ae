//! Obstacles: hidden rules, chains hooked elsewhere, tables owned by other programs, and empty
//! chains of iptables-nft.

use super::limits::list;
use super::xt::by_iptables;
use super::{apply, difference, open_native, open_xt};
use crate::every_match;
use crate::lab::{Namespace, product};
use prepare_proxy::netfilter::backend::{Backend, BackendError};
use prepare_proxy::netfilter::model::{Change, Ruleset};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// A rule that exceeds a dump: each `u32` match takes 2 KiB.
fn huge() -> String {
    "-m u32 --u32 0=0 ".repeat(17)
}

fn listed(namespace: &Namespace) -> String {
    namespace
        .sh("nft --handle list chains; nft --handle list sets; iptables-nft-save -c | grep -v '^#'")
}

#[test]
fn nothing_is_changed_if_managed_rules_may_be_hidden() {
    let namespace = Namespace::new();
    let desired = every_match::everything();
    apply(&namespace, open_xt, &desired).unwrap();
    namespace.sh(&format!(
        "iptables-nft -t nat -I OUTPUT {} -j ACCEPT",
        huge()
    ));
    let before = listed(&namespace);
    for desired in [&desired, &Ruleset::default()] {
        let error = apply(&namespace, open_xt, desired).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "reading chain OUTPUT of table nat: the kernel shows 0 of its 4 rules"
            ),
            "{error}"
        );
        assert_eq!(listed(&namespace), before);
    }
}

#[test]
fn hidden_rules_of_a_foreign_chain_are_no_obstacle() {
    let namespace = Namespace::new();
    let desired = every_match::everything();
    namespace.sh(&format!(
        "iptables-nft -t nat -N DOCKER
         iptables-nft -t nat -N BEHIND
         iptables-nft -t nat -A DOCKER {} -j BEHIND
         iptables-nft -t nat -A BEHIND -j RETURN
         nft 'add map ip nat ports {{ type inet_service : verdict; elements = {{ 7 : jump BEHIND }}; }}'
         iptables-nft -t nat -A PREROUTING -j DOCKER",
        huge()
    ));
    let before = listed(&namespace);
    for _ in 0..2 {
        apply(&namespace, open_xt, &desired).unwrap();
        assert_eq!(difference(&namespace, open_xt, &desired), Change::default());
    }
    apply(&namespace, open_xt, &Ruleset::default()).unwrap();
    assert_eq!(listed(&namespace), before);
}

#[test]
fn hidden_rules_of_a_managed_chain_are_removed() {
    let namespace = Namespace::new();
    let desired = every_match::everything();
    apply(&namespace, open_xt, &desired).unwrap();
    let before = namespace.sh("nft list ruleset");
    namespace.sh(&format!(
        "iptables-nft -t nat -A ISTIO_CALLED {} -j ACCEPT",
        huge()
    ));
    assert_ne!(difference(&namespace, open_xt, &desired), Change::default());
    apply(&namespace, open_xt, &desired).unwrap();
    assert_eq!(difference(&namespace, open_xt, &desired), Change::default());
    assert_eq!(namespace.sh("nft list ruleset"), before);
}

/// Rules there would be evaluated at another time than those of iptables, or have no effect.
#[test]
fn a_base_chain_hooked_elsewhere_is_not_changed() {
    let desired = every_match::everything();
    for (table, chain) in [
        ("raw", "OUTPUT { type filter hook output priority 0; }"),
        (
            "mangle",
            "OUTPUT { type filter hook output priority -150; }",
        ),
        ("nat", "OUTPUT { type filter hook output priority -100; }"),
        ("nat", "OUTPUT"),
    ] {
        let namespace = Namespace::new();
        namespace.sh(&format!(
            "nft 'add table ip {table}; add chain ip {table} {chain}'"
        ));
        let before = listed(&namespace);
        let error = apply(&namespace, open_xt, &desired).unwrap_err();
        assert!(matches!(error, BackendError::Taken { .. }), "{error}");
        assert!(
            error.to_string().contains("that of iptables is of type"),
            "{error}"
        );
        assert_eq!(listed(&namespace), before);
        // Own tables have their own base chains.
        apply(&namespace, open_native, &desired).unwrap();
        apply(&namespace, open_native, &Ruleset::default()).unwrap();
        assert_eq!(listed(&namespace), before);
    }
}

/// Managed rules in a chain that another program hooked elsewhere.
#[test]
fn rules_in_a_chain_hooked_elsewhere_are_not_in_place() {
    let namespace = Namespace::new();
    namespace.sh(
        "nft 'add table ip raw; add chain ip raw OUTPUT { type filter hook output priority 0; }'
         iptables-nft-save > /dev/null || true
         nft 'add chain ip raw ISTIO_OUTPUT; add rule ip raw OUTPUT counter jump ISTIO_OUTPUT'",
    );
    let observed = namespace.enter(|| open_xt().unwrap().read().unwrap());
    let rules = observed.tables[0].chains.iter().flat_map(|c| &c.rules);
    let known: Vec<bool> = rules.map(|r| r.rule.is_some()).collect();
    assert_eq!(known, [false]);
    apply(&namespace, open_xt, &Ruleset::default()).unwrap();
    assert!(!namespace.sh("nft list ruleset").contains("ISTIO"));
}

#[test]
fn auto_uses_own_tables_if_those_of_iptables_are_owned() {
    let namespace = Namespace::new();
    namespace
        .sh("nft 'add table ip nat; add chain ip nat OUTPUT { type nat hook output priority 0; }'");
    let before = namespace.sh("nft list ruleset");
    let mut apply = product();
    let apply = apply.args(["--mesh", "istio", "-u", "1337", "-i", "*", "-b", "*"]);
    namespace.output(apply);
    assert!(
        namespace
            .sh("nft list tables")
            .contains("prepare-proxy-nat")
    );
    namespace.output(product().arg("clean"));
    assert_eq!(namespace.sh("nft list ruleset"), before);
}

#[test]
fn a_table_owned_by_another_program_is_reported() {
    let namespace = Namespace::new();
    let mut owner = Command::new("nft");
    owner.arg("-i").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = namespace.spawn(&mut owner);
    let commands = "add table ip nat { flags owner; }\nlist tables\n";
    owner
        .stdin
        .as_mut()
        .unwrap()
        .write_all(commands.as_bytes())
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("table ip nat")));
    let error = apply(&namespace, open_xt, &every_match::everything()).unwrap_err();
    assert!(matches!(error, BackendError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("NFT_TABLE_F_OWNER"), "{error}");
    drop(owner.stdin.take());
    owner.wait().unwrap();
}

/// iptables-nft creates all base chains of a table.
#[test]
fn base_chains_made_by_iptables_are_removed_with_the_last_managed_rule() {
    let desired = every_match::everything();
    let namespace = by_iptables(&desired);
    apply(&namespace, open_xt, &list(3)).unwrap();
    namespace.output(product().arg("clean"));
    assert_eq!(namespace.sh("nft list ruleset"), "");
}
