//! `nftables` writes rules that nft prints, loads again, and would itself have written.

use super::{apply, difference, open_native};
use crate::every_match;
use crate::lab::{Namespace, same};
use prepare_proxy::netfilter::model::{Change, Ruleset};
use prepare_proxy::netfilter::nftables::render;

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
    let again = loaded(&render(&wanted));
    same(&listed(&written(&wanted)), &listed(&again), "loaded").unwrap();
    assert_eq!(difference(&again, open_native, &wanted), Change::default());
}

#[test]
fn taking_all_away_leaves_an_empty_namespace() {
    let namespace = written(&every_match::everything());
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    assert_eq!(listed(&namespace), "");
}
