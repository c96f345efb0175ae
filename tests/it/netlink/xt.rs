//! `netlink` writes what iptables-nft writes, reads what iptables-nft wrote, and iptables-nft can
//! tell no difference.

use super::{apply, difference, open_xt};
use crate::every_match;
use crate::lab::{Namespace, Variant};
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::iptables::restore;
use prepare_proxy::netfilter::model::{Change, Family, Live, Ruleset};

/// What iptables-nft itself leaves of a ruleset.
pub fn by_iptables(wanted: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    let change = plan(&Live::default(), wanted);
    for family in Family::ALL {
        namespace.iptables_restore(family, Variant::Nft, &restore(&change, family));
    }
    namespace
}

fn by_netlink(wanted: &Ruleset) -> Namespace {
    let namespace = Namespace::new();
    apply(&namespace, open_xt, wanted).unwrap();
    namespace
}

fn saves(namespace: &Namespace) -> [String; 2] {
    Family::ALL.map(|f| namespace.iptables_save(f, Variant::Nft))
}

#[test]
fn iptables_save_shows_the_same_as_after_iptables_restore() {
    let wanted = every_match::everything();
    let (ours, theirs) = (by_netlink(&wanted), by_iptables(&wanted));
    for (ours, theirs) in saves(&ours).iter().zip(&saves(&theirs)) {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn what_either_wrote_reads_the_same_and_is_in_sync() {
    let wanted = every_match::everything();
    for namespace in [by_netlink(&wanted), by_iptables(&wanted)] {
        assert_eq!(difference(&namespace, open_xt, &wanted), Change::default());
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
fn taking_all_away_leaves_an_empty_namespace() {
    let namespace = by_netlink(&every_match::everything());
    apply(&namespace, open_xt, &Ruleset::default()).unwrap();
    assert_eq!(namespace.sh("nft list ruleset"), "");
}
