//! Policy routes and the address of lo, in real network namespaces, as iproute2 shows them.

use crate::lab::Namespace;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use prepare_proxy::netfilter::model::{Family, LoopbackAddress, PolicyRoute, Routing};
use prepare_proxy::netfilter::netlink::{Socket, Transport};
use prepare_proxy::netfilter::rtnetlink::{self, Made, Router, RoutingError};
use std::cell::Cell;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;

fn policy(family: Family, mark: u32, table: u32) -> PolicyRoute {
    PolicyRoute {
        family,
        mark,
        table,
    }
}

fn find() -> Result<Routing, RoutingError> {
    Ok(rtnetlink::look(&Routing::default())?.candidates())
}

/// Returns whether there was anything to do.
fn make(wanted: &Routing) -> Result<bool, RoutingError> {
    make_with(&mut Router::open()?, wanted).map(|made| made.changed())
}

fn make_with<T: Transport>(router: &mut Router<T>, wanted: &Routing) -> Result<Made, RoutingError> {
    let state = router.look(wanted)?;
    router.make(wanted, state)
}

fn remove(unwanted: &Routing) -> Result<bool, RoutingError> {
    Router::open()?.remove(unwanted, &Routing::default())
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
    assert!(namespace.enter(|| make(&wanted())).unwrap());
    let made = namespace.routing();
    assert!(!namespace.enter(|| make(&wanted())).unwrap());
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
            make(&wanted).unwrap();
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
    ours.enter(|| make(&wanted)).unwrap();
    theirs.sh(&(wanted.commands().join("\n") + "\n"));
    assert_eq!(ours.routing(), theirs.routing());
    assert!(!theirs.enter(|| make(&wanted)).unwrap());
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
    assert!(namespace.enter(|| make(&wanted)).unwrap());
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
        let run = || namespace.enter(|| make(&wanted()).map(drop));
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
    namespace.sh("ip route add local default dev lo table 2
         ip rule add not fwmark 2 lookup 2
         ip rule add fwmark 2/0xff lookup 2
         ip rule add fwmark 2 iif lo lookup 2
         ip rule add fwmark 2 to 10.0.0.0/8 lookup 2
         ip rule add fwmark 2 uidrange 1-2 lookup 2
         ip rule add fwmark 2 ipproto tcp lookup 2
         ip rule add fwmark 2 blackhole
         ip route add default dev lo table 3
         ip rule add fwmark 3 lookup 3");
    assert_eq!(namespace.enter(find).unwrap(), Routing::default());
}

/// What others may have in the table: another default, or something that marked packets would take
/// instead of ours.
#[test]
fn a_table_with_routes_of_others_is_refused_and_nothing_is_made() {
    for (family, route) in [
        ("-4", "default dev lo"),
        ("-4", "unreachable default"),
        ("-4", "local 10.1.0.0/16 dev lo"),
        ("-6", "default dev lo"),
        ("-6", "unreachable 2001:db8::/32"),
    ] {
        let namespace = Namespace::new();
        namespace.sh(&format!("ip {family} route add {route} table 133"));
        let before = namespace.routing();
        let error = namespace.enter(|| make(&wanted())).unwrap_err().to_string();
        let name = if family == "-4" { "IPv4" } else { "IPv6" };
        let says = format!("the {name} routing table 133 holds routes of others");
        assert!(error.contains(&says), "{route}: {error}");
        assert_eq!(namespace.routing(), before, "{route}");
    }
}

#[test]
fn what_was_made_before_a_refusal_is_taken_back() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/lo/disable_ipv6", "1");
    let before = namespace.routing();
    namespace.enter(|| make(&wanted())).unwrap_err();
    assert_eq!(namespace.routing(), before);
}

#[test]
fn undone_is_what_was_made_but_for_what_is_needed() {
    let namespace = Namespace::new();
    namespace.sh("ip route add local default dev lo table 133");
    let before = namespace.routing();
    let made = namespace
        .enter(|| make_with(&mut Router::open()?, &wanted()))
        .unwrap();
    let v6 = Routing {
        policy_routes: vec![policy(Family::V6, 1337, 133)],
        ..Routing::default()
    };
    namespace.enter(|| Router::open()?.undo(made, &v6)).unwrap();
    let text = namespace.routing();
    assert!(
        text.contains("default dev lo table 133"),
        "not ours: {text}"
    );
    assert!(!text.contains("::6"), "{text}");
    assert!(namespace.sh("ip -6 rule").contains("fwmark"));
    assert!(!namespace.sh("ip rule").contains("fwmark"));
    assert!(namespace.enter(|| remove(&v6)).unwrap());
    assert_eq!(namespace.routing(), before);
}

#[test]
fn a_table_can_be_shared() {
    let namespace = Namespace::new();
    let marked = |mark| Routing {
        policy_routes: vec![policy(Family::V4, mark, 133)],
        ..Routing::default()
    };
    let both = || make(&marked(1337)).and_then(|_| make(&marked(7)));
    namespace.enter(both).unwrap();
    let change = || Router::open()?.remove(&marked(1337), &marked(7));
    assert!(namespace.enter(change).unwrap());
    assert_eq!(namespace.enter(find).unwrap(), marked(7));
    assert!(
        namespace
            .routing()
            .contains("local default dev lo table 133")
    );
    assert!(!namespace.enter(change).unwrap());
}

#[test]
fn ipv6_switched_off_is_told_from_other_failures() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/lo/disable_ipv6", "1");
    let error = namespace.enter(|| make(&wanted())).unwrap_err();
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
        make(&wanted()).unwrap_err()
    });
    assert!(
        matches!(error, RoutingError::NotPermitted { .. }),
        "{error:?}"
    );
}

/// A socket at which one datagram does not arrive.
struct Lossy {
    socket: Socket,
    /// How many arrive before it.
    before: usize,
    error: Errno,
    is_lost: Rc<Cell<bool>>,
}

impl Transport for Lossy {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.socket.send(parts)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.socket.receive(buffer)?;
        if self.before == 0 && !self.is_lost.replace(true) {
            return Err(self.error.into());
        }
        self.before = self.before.saturating_sub(1);
        Ok(received)
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        self.socket.capacity(wanted)
    }
}

/// Runs with the answer lost that comes after so many. Returns what that gave, if one was lost.
fn with_a_loss<R>(
    (before, error): (usize, Errno),
    run: impl FnOnce(&mut Router<Lossy>) -> R,
) -> Option<R> {
    let is_lost = Rc::new(Cell::new(false));
    let mut router = Router::new(Lossy {
        socket: Socket::open(SockProtocol::NetlinkRoute).unwrap(),
        before,
        error,
        is_lost: is_lost.clone(),
    });
    let result = run(&mut router);
    is_lost.get().then_some(result)
}

#[test]
fn whichever_answer_is_lost_all_is_made_or_nothing() {
    for error in [Errno::ENOBUFS, Errno::EIO] {
        let mut outcomes = [0, 0];
        for before in 0.. {
            let namespace = Namespace::new();
            let untouched = namespace.routing();
            let make = || {
                with_a_loss((before, error), |router| {
                    make_with(router, &wanted()).is_ok()
                })
            };
            let Some(made) = namespace.enter(make) else {
                break;
            };
            outcomes[usize::from(made)] += 1;
            match made {
                true => assert_eq!(namespace.enter(find).unwrap(), wanted()),
                false => assert_eq!(namespace.routing(), untouched, "answer {before}"),
            }
        }
        // What the kernel had no room for is asked again; a broken conversation is an error.
        let [refused, made] = outcomes.map(|count| count > 0);
        assert_eq!(
            (refused, made),
            (error == Errno::EIO, error == Errno::ENOBUFS)
        );
    }
}

#[test]
fn a_removal_whose_answer_is_lost_is_looked_at_again() {
    let mut lost = 0;
    for before in 0.. {
        let namespace = Namespace::new();
        let untouched = namespace.routing();
        namespace.enter(|| make(&wanted())).unwrap();
        let nothing = Routing::default();
        let remove = || {
            let of_an_answer = (before, Errno::ENOBUFS);
            with_a_loss(of_an_answer, |router| {
                router.remove(&wanted(), &nothing).is_ok()
            })
        };
        let Some(removed) = namespace.enter(remove) else {
            break;
        };
        if removed {
            lost += 1;
            assert_eq!(namespace.routing(), untouched, "answer {before}");
        }
    }
    assert!(lost > 0);
}
