//! The backend chosen by auto, and that the choice is stable.

use super::world::{OTHER, SOME, apply, everything, rules, run};
use crate::lab::{BACKENDS, Namespace, Variant, same};
use prepare_proxy::netfilter::model::Family;

/// The backends of earlier runs, and the expected one.
const CHOSEN: &[(&str, &str)] = &[
    ("", "netlink"),
    ("iptables-nft -t nat -A OUTPUT -j ACCEPT", "netlink"),
    ("iptables-legacy -A INPUT -j ACCEPT", "netlink"),
    (
        "iptables-legacy -t mangle -A OUTPUT -j ACCEPT; iptables-legacy -t nat -N EMPTY",
        "netlink",
    ),
    (
        "iptables-legacy -t nat -A POSTROUTING -j MASQUERADE",
        "iptables-legacy",
    ),
    (
        "ip6tables-legacy -t nat -A OUTPUT -j ACCEPT",
        "iptables-legacy",
    ),
    (
        "nft add table ip nat; nft 'add chain ip nat mine { type nat hook output priority 0; }'",
        "netlink",
    ),
];

#[test]
fn auto_writes_where_legacy_nat_rules_are() {
    for (script, backend) in CHOSEN {
        let namespace = Namespace::new();
        namespace.sh(script);
        let check = || {
            let first = apply(&namespace, "auto", SOME)?;
            let before = everything(&namespace);
            let second = apply(&namespace, "auto", SOME)?;
            for done in [&first, &second] {
                if !done.err.contains(&format!(", {backend}, ")) {
                    return Err(done.err.clone());
                }
            }
            same(&before, &everything(&namespace), "a second apply wrote")
        };
        check().unwrap_or_else(|e: String| panic!("{script}: {e}"));
    }
}

/// For rules of any backend, an apply without --backend changes what a diff shows.
#[test]
fn diff_and_apply_agree_on_the_backend() {
    for backend in BACKENDS {
        let namespace = Namespace::new();
        apply(&namespace, backend, SOME).unwrap();
        let before = everything(&namespace);
        run(&namespace, &format!("diff {SOME}"))
            .expect(0, backend)
            .unwrap();
        let done = apply(&namespace, "auto", SOME).unwrap();
        assert!(
            done.err.contains("already in place"),
            "{backend}: {}",
            done.err
        );
        assert_eq!(before, everything(&namespace));
        let desired = {
            let fresh = Namespace::new();
            apply(&fresh, backend, OTHER).unwrap();
            rules(&fresh)
        };
        run(&namespace, &format!("diff {OTHER}"))
            .expect(1, backend)
            .unwrap();
        apply(&namespace, "auto", OTHER).unwrap();
        assert_eq!(desired, rules(&namespace), "{backend}");
    }
}

/// Connections translated by two NAT implementations are misrouted.
#[test]
fn only_one_backend_has_managed_rules() {
    let namespace = Namespace::new();
    for backend in BACKENDS {
        apply(&namespace, backend, SOME).unwrap();
        for variant in [Variant::Nft, Variant::Legacy] {
            let save = namespace.iptables_save(Family::V4, variant);
            let home = backend != "nftables" && Variant::of(backend) == variant;
            assert_eq!(
                save.contains("ISTIO_"),
                home,
                "{backend}, {variant}: {save}"
            );
        }
        let native = namespace.sh("nft list tables").contains("prepare-proxy");
        assert_eq!(native, backend == "nftables");
    }
}
