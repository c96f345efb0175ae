//! `nftables` writes rules that nft prints, loads again, and would itself have written.

use super::{apply, difference};
use crate::every_match;
use crate::lab::{Namespace, product, same};
use prepare_proxy::netfilter::model::{Change, Ruleset};
use prepare_proxy::netfilter::nftables::{open_native, render};

/// A namespace in which our backend has written a ruleset.
fn written(wanted: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    apply(&namespace, open_native, wanted).unwrap();
    namespace
}

/// A namespace in which nft has loaded a text.
fn loaded(text: &str) -> Namespace {
    let namespace = Namespace::new();
    namespace.nft_load(text);
    namespace
}

fn listed(namespace: &Namespace) -> String {
    namespace.sh("nft list ruleset")
}

#[test]
fn what_is_written_is_in_sync() {
    let wanted = every_match::everything();
    let namespace = written(&wanted);
    assert_eq!(
        difference(&namespace, open_native, &wanted),
        Change::default()
    );
}

#[test]
fn nft_loads_again_what_it_lists() {
    let wanted = every_match::everything();
    let list = listed(&written(&wanted));
    let again = loaded(&list);
    same(&list, &listed(&again), "loaded again").unwrap();
}

#[test]
fn a_dry_run_loads_as_what_is_written() {
    let wanted = every_match::everything();
    let again = loaded(&render(&wanted).unwrap());
    same(&listed(&written(&wanted)), &listed(&again), "loaded").unwrap();
    assert_eq!(difference(&again, open_native, &wanted), Change::default());
}

#[test]
fn taking_all_away_leaves_an_empty_namespace() {
    let namespace = written(&every_match::everything());
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    assert_eq!(listed(&namespace), "");
}

/// The kernel follows no more than 16 chains: lists of owners and of ports for sockets may be longer.
#[test]
fn long_lists_of_owners_and_ports_do_not_make_a_deep_ruleset() {
    for options in [
        "--mesh istio -u 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20 -i *",
        "--mesh istio-1.0 -m TPROXY -i * -b 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20",
    ] {
        let namespace = Namespace::new();
        let run = |action: &str| {
            let mut command = product();
            command.args([action, "--backend", "nftables"]);
            namespace.output(command.args(options.split(' ')))
        };
        run("apply");
        run("diff");
        namespace.output(product().arg("clean"));
        assert_eq!(listed(&namespace), "");
    }
}

/// Somebody's chain is called as a later part of one of ours would be.
#[test]
fn a_foreign_chain_with_the_name_of_a_part_is_foreign() {
    let namespace = Namespace::new();
    namespace.sh(
        "nft 'add table ip prepare-proxy-nat; add chain ip prepare-proxy-nat OUTPUT-1
              add chain ip prepare-proxy-nat other
              add rule ip prepare-proxy-nat OUTPUT-1 tcp dport 7 accept
              add rule ip prepare-proxy-nat other jump OUTPUT-1'",
    );
    let before = namespace.sh("nft --handle list ruleset");
    let wanted = every_match::everything();
    for _ in 0..2 {
        apply(&namespace, open_native, &wanted).unwrap();
        assert_eq!(
            difference(&namespace, open_native, &wanted),
            Change::default()
        );
    }
    apply(&namespace, open_native, &without_parts()).unwrap();
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    assert_eq!(namespace.sh("nft --handle list ruleset"), before);
}

/// A chain of ours goes from several parts to one, and back.
#[test]
fn parts_come_and_go() {
    let namespace = Namespace::new();
    let (many, one) = (every_match::everything(), without_parts());
    for wanted in [&many, &one, &many, &one] {
        apply(&namespace, open_native, wanted).unwrap();
        assert_eq!(
            difference(&namespace, open_native, wanted),
            Change::default()
        );
        let fresh = written(wanted);
        assert_eq!(
            listed(&namespace).lines().count(),
            listed(&fresh).lines().count()
        );
    }
}

/// A ruleset without a rule that needs another part.
fn without_parts() -> Ruleset {
    super::limits::list(5)
}
