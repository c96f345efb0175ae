//! `nftables` writes rules that nft prints, loads again, and would itself have written.

use super::{apply, difference};
use crate::every_match;
use crate::lab::Namespace;
use prepare_proxy::backend::netlink::{open_native, render};
use prepare_proxy::ruleset::{Change, Ruleset};
use std::process::Command;

/// A namespace in which our backend has written a ruleset.
fn written(wanted: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    apply(&namespace, open_native, wanted).unwrap();
    namespace
}

/// A namespace in which nft has loaded a text.
fn loaded(text: &str) -> Namespace {
    let namespace = Namespace::new();
    let mut nft = Command::new("nft");
    let output = namespace.run_with_input(nft.args(["-f", "-"]), text);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{text}");
    namespace
}

fn listed(namespace: &Namespace) -> String {
    namespace.sh("nft list ruleset")
}

/// Two listings are the same, or their first difference.
#[track_caller]
fn assert_same(one: &str, other: &str) {
    let mut lines = one.lines().zip(other.lines());
    assert_eq!(lines.find(|(a, b)| a != b), None);
    assert_eq!(one.lines().count(), other.lines().count());
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
    assert_same(&listed(&again), &list);
}

#[test]
fn a_dry_run_loads_as_what_is_written() {
    let wanted = every_match::everything();
    let again = loaded(&render(&wanted));
    assert_same(&listed(&again), &listed(&written(&wanted)));
    assert_eq!(difference(&again, open_native, &wanted), Change::default());
}

#[test]
fn taking_all_away_leaves_an_empty_namespace() {
    let namespace = written(&every_match::everything());
    apply(&namespace, open_native, &Ruleset::default()).unwrap();
    assert_eq!(listed(&namespace), "");
}
