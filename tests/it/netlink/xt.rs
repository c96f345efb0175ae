//! `netlink` writes and reads the same rules as iptables-nft.

use super::{apply, difference, open_xt};
use crate::every_match;
use crate::lab::{Namespace, Variant};
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::iptables::restore;
use prepare_proxy::netfilter::model::{Change, Family, Observed, Ruleset};

/// A namespace whose ruleset iptables-nft has written.
pub fn by_iptables(desired: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    let change = plan(&Observed::default(), desired);
    for family in Family::ALL {
        namespace.iptables_restore(family, Variant::Nft, &restore(&change, family));
    }
    namespace
}

fn by_netlink(desired: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    apply(&namespace, open_xt, desired).unwrap();
    namespace
}

fn saves(namespace: &Namespace) -> [String; 2] {
    Family::ALL.map(|f| namespace.iptables_save(f, Variant::Nft))
}

#[test]
fn iptables_save_shows_the_same_as_after_iptables_restore() {
    let desired = every_match::everything();
    let (ours, theirs) = (by_netlink(&desired), by_iptables(&desired));
    for (ours, theirs) in saves(&ours).iter().zip(&saves(&theirs)) {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn rules_of_netlink_and_iptables_read_the_same() {
    let desired = every_match::everything();
    for namespace in [by_netlink(&desired), by_iptables(&desired)] {
        assert_eq!(difference(&namespace, open_xt, &desired), Change::default());
    }
}

#[test]
fn iptables_checks_and_deletes_every_rule() {
    let namespace = by_netlink(&every_match::everything());
    for family in Family::ALL {
        let program = Variant::Nft.tool(family, "");
        for table in ["raw", "mangle", "nat", "filter"] {
            let rules = namespace.sh(&format!("{program} -t {table} -S"));
            for rule in rules.lines().filter_map(|l| l.strip_prefix("-A ")) {
                namespace.sh(&format!("{program} -t {table} -C {rule}"));
                namespace.sh(&format!("{program} -t {table} -D {rule}"));
            }
        }
    }
    assert!(!saves(&namespace).concat().contains("-A "));
}

#[test]
fn removing_everything_leaves_an_empty_namespace() {
    let namespace = by_netlink(&every_match::everything());
    apply(&namespace, open_xt, &Ruleset::default()).unwrap();
    assert_eq!(namespace.sh("nft list ruleset"), "");
}
