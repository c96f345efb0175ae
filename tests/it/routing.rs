//! Policy routes and the address of lo, in real network namespaces, as iproute2 shows them.

use crate::lab::Namespace;
use caps::{CapSet, Capability};
use prepare_proxy::routing::{RoutingError, apply, find, remove};
use prepare_proxy::ruleset::{Family, LoopbackAddress, PolicyRoute, Routing};
use std::net::UdpSocket;

fn policy(family: Family, mark: u32, table: u32) -> PolicyRoute {
    PolicyRoute {
        family,
        mark,
        table,
    }
}

/// What Istio's TPROXY mode wants in a dual-stack pod.
fn wanted() -> Routing {
    Routing {
        policy_routes: Family::ALL.map(|f| policy(f, 1337, 133)).to_vec(),
        loopback_addresses: vec![LoopbackAddress("::6/128".parse().unwrap())],
    }
}

#[test]
fn is_made_once_found_and_removed() {
    let namespace = Namespace::new();
    let before = namespace.routing();
    assert!(namespace.enter(|| apply(&wanted())).unwrap());
    let made = namespace.routing();
    assert!(!namespace.enter(|| apply(&wanted())).unwrap());
    assert_eq!(namespace.routing(), made);
    assert_eq!(namespace.enter(find).unwrap(), wanted());

    assert!(namespace.enter(|| remove(&wanted())).unwrap());
    assert!(!namespace.enter(|| remove(&wanted())).unwrap());
    assert_eq!(namespace.routing(), before);
    assert!(namespace.enter(find).unwrap().is_empty());
}

/// Without `nodad` the kernel is now and then still at its detection when the proxy binds.
#[test]
fn the_address_can_be_bound_at_once() {
    let namespace = Namespace::new();
    let wanted = Routing {
        policy_routes: Vec::new(),
        ..wanted()
    };
    namespace.enter(|| {
        for _ in 0..300 {
            apply(&wanted).unwrap();
            UdpSocket::bind("[::6]:0").expect("::6 is there");
            remove(&wanted).unwrap();
        }
    });
}

#[test]
fn is_what_iproute2_makes() {
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    let wanted = Routing {
        policy_routes: Family::ALL.map(|f| policy(f, 0xabcdef, 70_000)).to_vec(),
        ..wanted()
    };
    ours.enter(|| apply(&wanted)).unwrap();
    theirs.sh(&(wanted.commands().join("\n") + "\n"));
    assert_eq!(ours.routing(), theirs.routing());
    assert!(!theirs.enter(|| apply(&wanted)).unwrap());
    assert_eq!(theirs.enter(find).unwrap(), wanted);
}

#[test]
fn of_rules_that_older_runs_piled_up_one_stays() {
    let namespace = Namespace::new();
    namespace.sh("ip route add local default dev lo table 133
         for i in 1 2 3; do ip rule add fwmark 1337 lookup 133; done");
    let wanted = Routing {
        policy_routes: vec![policy(Family::V4, 1337, 133)],
        ..Routing::default()
    };
    assert!(namespace.enter(|| apply(&wanted)).unwrap());
    let rules = namespace.sh("ip rule");
    assert_eq!(rules.matches("fwmark").count(), 1, "{rules}");

    namespace.sh("ip rule add fwmark 1337 lookup 133");
    assert_eq!(namespace.enter(find).unwrap(), wanted);
    assert!(namespace.enter(|| remove(&wanted)).unwrap());
    assert!(!namespace.sh("ip rule").contains("fwmark"));
}

#[test]
fn runs_at_once_make_one() {
    let namespace = Namespace::new();
    std::thread::scope(|scope| {
        let run = || namespace.enter(|| apply(&wanted()).map(drop));
        let runs: Vec<_> = (0..16).map(|_| scope.spawn(run)).collect();
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    assert_eq!(namespace.sh("ip rule").matches("fwmark").count(), 1);
    assert_eq!(namespace.sh("ip -6 rule").matches("fwmark").count(), 1);
    assert_eq!(namespace.enter(find).unwrap(), wanted());
}

#[test]
fn what_somebody_else_marks_is_not_ours() {
    let namespace = Namespace::new();
    namespace.sh("ip route add local default dev lo table 1
         ip route add 10.0.0.0/8 dev lo table 1
         ip rule add fwmark 1 lookup 1
         ip route add local default dev lo table 2
         ip rule add not fwmark 2 lookup 2
         ip rule add fwmark 2/0xff lookup 2
         ip rule add fwmark 2 iif lo lookup 2
         ip rule add fwmark 2 to 10.0.0.0/8 lookup 2
         ip rule add fwmark 2 uidrange 1-2 lookup 2
         ip rule add fwmark 2 ipproto tcp lookup 2
         ip rule add fwmark 2 blackhole
         ip route add default dev lo table 3
         ip rule add fwmark 3 lookup 3
         ip rule add fwmark 4 lookup 4");
    assert_eq!(namespace.enter(find).unwrap(), Routing::default());
}

#[test]
fn another_default_route_in_the_table_is_an_error_that_names_the_route() {
    let namespace = Namespace::new();
    namespace.sh("ip route add default dev lo table 133");
    let error = namespace.enter(|| apply(&wanted())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "making the IPv4 route \"local default dev lo table 133\": File exists"
    );
}

#[test]
fn ipv6_switched_off_is_told_from_other_failures() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/lo/disable_ipv6", "1");
    let error = namespace.enter(|| apply(&wanted())).unwrap_err();
    let absent = matches!(
        error,
        RoutingError::NoFamily {
            family: Family::V6,
            ..
        }
    );
    assert!(absent, "{error:?}");
}

#[test]
fn without_the_capability_it_is_not_permitted() {
    let namespace = Namespace::new();
    let error = namespace.enter(|| {
        caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
        apply(&wanted()).unwrap_err()
    });
    assert!(
        matches!(error, RoutingError::NotPermitted { .. }),
        "{error:?}"
    );
}
