//! TPROXY routes among foreign ones, with lost replies, and after errors.

use super::on_every_backend;
use super::world::{SOME, apply, everything, rules, run, run_under, the_program, with_ipv6};
use crate::lab::{Done, Namespace, same};

/// The usual mark and table, both families.
const TPROXY: &str = "--mesh istio -m TPROXY -b 80 -i 10.0.0.0/8";

/// Runs an apply of netlink under strace, which injects an error.
fn tampered(namespace: &Namespace, inject: &str, options: &str) -> Done {
    let strace = format!("strace -f -qq -o /dev/null -e inject={inject}");
    let line = format!("--backend netlink {options}");
    run_under(namespace, &strace, &the_program(), &line)
}

/// A foreign default route, or routes that marked packets would take.
#[test]
fn a_table_with_foreign_routes_is_refused_without_a_change() {
    on_every_backend(|backend| {
        for (family, route) in [
            ("-4", "default dev lo"),
            ("-4", "unreachable default"),
            ("-4", "local 10.1.0.0/16 dev lo"),
            ("-6", "default dev lo"),
            ("-6", "unreachable 2001:db8::/32"),
        ] {
            let namespace = with_ipv6();
            namespace.sh(&format!("ip {family} route add {route} table 133"));
            let before = everything(&namespace);
            let line = format!("--backend {backend} {TPROXY}");
            let name = if family == "-4" { "IPv4" } else { "IPv6" };
            let reason = format!("the {name} routing table 133 holds routes of others");
            for (line, code) in [(line.clone(), 1), (format!("diff {line}"), 2)] {
                let done = run(&namespace, &line).expect(code, route)?;
                if !done.err.contains(&reason) {
                    return Err(format!("{line}: {}", done.err));
                }
            }
            same(&before, &everything(&namespace), route)?;
            let _: Done = run(&namespace, "clean").expect(0, "clean")?;
            same(&before, &everything(&namespace), route)?;
        }
        Ok(())
    });
}

#[test]
fn a_foreign_route_added_later_stays_when_the_managed_one_is_removed() {
    on_every_backend(|backend| {
        let namespace = with_ipv6();
        let foreign = "ip route add 10.1.0.0/16 dev lo table 133";
        namespace.sh(foreign);
        let desired = namespace.routing();
        namespace.sh(&foreign.replace("add", "del"));
        apply(&namespace, backend, TPROXY)?;
        namespace.sh(foreign);
        run(&namespace, "clean").expect(0, "clean")?;
        same(&desired, &namespace.routing(), "after clean")
    });
}

#[test]
fn changing_mark_or_table_replaces_the_policy_route() {
    on_every_backend(|backend| {
        for changed in ["-t 7", "-r 77", "-t 7 -r 77"] {
            let options = format!("{TPROXY} {changed}");
            let fresh = with_ipv6();
            apply(&fresh, backend, &options)?;
            let namespace = with_ipv6();
            apply(&namespace, backend, TPROXY)?;
            apply(&namespace, backend, &options)?;
            same(&fresh.routing(), &namespace.routing(), changed)?;
        }
        Ok(())
    });
}

/// The rules were committed without a reply, or were not committed.
#[test]
fn after_a_lost_reply_routes_exist_exactly_if_rules_need_them() {
    let untouched = with_ipv6().routing();
    let whole = with_ipv6();
    apply(&whole, "netlink", TPROXY).unwrap();
    let (all, routing) = (rules(&whole), whole.routing());
    let mut failed = 0;
    for number in 1.. {
        let namespace = with_ipv6();
        let inject = format!("recvfrom:error=EIO:when={number}");
        let done = tampered(&namespace, &inject, TPROXY);
        let (desired, what) = match rules(&namespace).contains("TPROXY") {
            true => (&routing, "rules stand"),
            false => (&untouched, "no rules stand"),
        };
        same(desired, &namespace.routing(), what).unwrap_or_else(|e| panic!("{number}: {e}"));
        if done.code == Some(0) {
            same(&all, &rules(&namespace), "exit 0").unwrap();
            if !done.err.contains("Input/output error") {
                break;
            }
        } else {
            failed += 1;
            let reported =
                ["new rules are in place", "cannot be determined"].map(|t| done.err.contains(t));
            let stand = rules(&namespace).contains("TPROXY");
            assert!(!stand || reported.contains(&true), "{number}: {}", done.err);
            apply(&namespace, "netlink", TPROXY).unwrap();
            same(&all, &rules(&namespace), "the next run").unwrap();
        }
    }
    assert!(failed > 3, "{failed}");
}

#[test]
fn a_killed_change_of_backend_is_completed_by_the_next_run() {
    let options = format!("{TPROXY} -t 7");
    let fresh = with_ipv6();
    apply(&fresh, "netlink", &options).unwrap();
    let desired = rules(&fresh);
    let mut both = 0;
    for number in 1.. {
        let namespace = with_ipv6();
        apply(&namespace, "nftables", TPROXY).unwrap();
        let inject = format!("sendmsg:signal=KILL:when={number}");
        if tampered(&namespace, &inject, &options).code == Some(0) {
            break;
        }
        let left = rules(&namespace);
        both +=
            usize::from(left.contains("prepare-proxy-nat") && left.contains("iptables-nft nat"));
        apply(&namespace, "netlink", &options).unwrap();
        same(&desired, &rules(&namespace), &format!("killed at {number}")).unwrap();
        run(&namespace, "clean").expect(0, "clean").unwrap();
        same("", &rules(&namespace), "after clean").unwrap();
    }
    assert!(
        both > 0,
        "no kill came between the tables of the two backends"
    );
}

/// A foreign route for the mark of TPROXY.
#[test]
fn a_second_apply_leaves_a_foreign_route_for_the_same_mark() {
    on_every_backend(|backend| {
        let namespace = with_ipv6();
        namespace
            .sh("ip rule add fwmark 1337 lookup 700; ip route add local default dev lo table 700");
        let options = format!("{TPROXY} -r 4000000000");
        apply(&namespace, backend, &options)?;
        let first = namespace.routing();
        if !first.contains("lookup 700") {
            return Err(first);
        }
        run(&namespace, &format!("diff {options}")).expect(0, "diff")?;
        apply(&namespace, backend, &options)?;
        same(&first, &namespace.routing(), "the second apply")?;
        apply(&namespace, backend, &format!("{options} -d 22"))?;
        same(&first, &namespace.routing(), "other options")
    });
}

/// Existing rules need their own route, not one added by a failed apply.
#[test]
fn a_refused_apply_removes_its_route_although_rules_use_the_mark() {
    let namespace = with_ipv6();
    apply(&namespace, "nftables", &format!("{TPROXY} -r 100")).unwrap();
    let chain = "{ type nat hook output priority 0; }";
    namespace.sh(&format!(
        "nft 'add table ip nat; add chain ip nat OUTPUT {chain}'"
    ));
    let before = everything(&namespace);
    run(&namespace, &format!("--backend netlink {TPROXY}")).must_exit(1, "a foreign chain");
    same(&*before, &*everything(&namespace), "after the refusal").unwrap();
}

#[test]
fn a_later_failure_reports_what_is_in_place() {
    let namespace = with_ipv6();
    apply(&namespace, "nftables", SOME).unwrap();
    // A foreign verdict map refers to a managed chain.
    namespace.sh(
        "nft 'add map ip prepare-proxy-nat held { type inet_service : verdict; }'
         nft 'add element ip prepare-proxy-nat held { 80 : jump ISTIO_OUTPUT }'",
    );
    let done = apply(&namespace, "netlink", SOME).unwrap();
    let says = "older managed rules are left beside the new ones";
    assert!(done.err.contains(says), "{}", done.err);
    assert!(rules(&namespace).contains("iptables-nft nat ISTIO_OUTPUT"));
    let done = run(&namespace, "clean").expect(1, "clean").unwrap();
    assert!(done.err.contains("some tables are changed"), "{}", done.err);
    namespace.sh("nft delete map ip prepare-proxy-nat held");
    run(&namespace, "clean").expect(0, "clean").unwrap();
    assert_eq!(rules(&namespace), "");
}
