//! `nftables` writes rules that nft prints, loads again, and would itself have written.

use super::{apply, difference, open_native};
use crate::every_match;
use crate::lab::{Namespace, same};
use prepare_proxy::netfilter::model::{Change, Ruleset};
use prepare_proxy::netfilter::nftables::render;

/// A namespace whose ruleset the backend has written.
fn written(desired: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    apply(&namespace, open_native, desired).unwrap();
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
fn written_rules_are_in_sync() {
    let desired = every_match::everything();
    let namespace = written(&desired);
    assert_eq!(
        difference(&namespace, open_native, &desired),
        Change::default()
    );
}

#[test]
fn nft_loads_its_own_listing() {
    let desired = every_match::everything();
    let list = listed(&written(&desired));
    let again = loaded(&list);
    same(&list, &listed(&again), "loaded again").unwrap();
}

#[test]
fn a_dry_run_loads_as_the_written_rules() {
    let desired = every_match::everything();
    let again = loaded(&render(&desired));
    same(&listed(&written(&desired)), &listed(&again), "loaded").unwrap();
    assert_eq!(difference(&again, open_native, &desired), Change::default());
}

#[test]
fn removing_everything_leaves_an_empty_namespace() {
    let namespace = written(&every_match::everything());
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    assert_eq!(listed(&namespace), "");
}
