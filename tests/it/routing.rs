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

fn make(desired: &Routing) -> Result<bool, RoutingError> {
    make_with(&mut Router::open()?, desired).map(|made| made.changed())
}

fn make_with<T: Transport>(
    router: &mut Router<T>,
    desired: &Routing,
) -> Result<Made, RoutingError> {
    let state = router.look(desired)?;
    router.make(desired, state)
}

fn remove(obsolete: &Routing) -> Result<bool, RoutingError> {
    Router::open()?.remove(obsolete, &Routing::default())
}

/// The routing of TPROXY mode of Istio in a dual-stack pod.
fn desired() -> Routing {
    Routing {
        policy_routes: Family::ALL.map(|f| policy(f, 1337, 133)).to_vec(),
        loopback_addresses: vec![LoopbackAddress("::6/128".parse().unwrap())],
    }
}

#[test]
fn routing_is_added_once_read_and_removed() {
    let namespace = Namespace::new();
    let before = namespace.routing();
    assert!(namespace.enter(|| make(&desired())).unwrap());
    let made = namespace.routing();
    assert!(!namespace.enter(|| make(&desired())).unwrap());
    assert_eq!(namespace.routing(), made);
    assert_eq!(namespace.enter(find).unwrap(), desired());

    assert!(namespace.enter(|| remove(&desired())).unwrap());
    assert!(!namespace.enter(|| remove(&desired())).unwrap());
    assert_eq!(namespace.routing(), before);
    assert!(namespace.enter(find).unwrap().is_empty());
}

/// Without `nodad` duplicate address detection may still run when the proxy binds.
#[test]
fn the_address_can_be_bound_at_once() {
    let namespace = Namespace::new();
    let desired = Routing {
        policy_routes: Vec::new(),
        ..desired()
    };
    namespace.enter(|| {
        for _ in 0..300 {
            make(&desired).unwrap();
            UdpSocket::bind("[::6]:0").expect("::6 is there");
            remove(&desired).unwrap();
        }
    });
}

#[test]
fn routing_equals_that_of_iproute2() {
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    let desired = Routing {
        policy_routes: Family::ALL.map(|f| policy(f, 0xabcdef, 70_000)).to_vec(),
        ..desired()
    };
    ours.enter(|| make(&desired)).unwrap();
    theirs.sh(&(desired.commands().join("\n") + "\n"));
    assert_eq!(ours.routing(), theirs.routing());
    assert!(!theirs.enter(|| make(&desired)).unwrap());
    assert_eq!(theirs.enter(find).unwrap(), desired);
}

#[test]
fn surplus_rules_of_older_runs_are_removed() {
    let namespace = Namespace::new();
    namespace.sh("ip route add local default dev lo table 133
         for i in 1 2 3; do ip rule add fwmark 1337 lookup 133; done");
    let desired = Routing {
        policy_routes: vec![policy(Family::V4, 1337, 133)],
        ..Routing::default()
    };
    assert!(namespace.enter(|| make(&desired)).unwrap());
    let rules = namespace.sh("ip rule");
    assert_eq!(rules.matches("fwmark").count(), 1, "{rules}");

    namespace.sh("ip rule add fwmark 1337 lookup 133");
    assert_eq!(namespace.enter(find).unwrap(), desired);
    assert!(namespace.enter(|| remove(&desired)).unwrap());
    assert!(!namespace.sh("ip rule").contains("fwmark"));
}

#[test]
fn concurrent_runs_add_one_rule() {
    let namespace = Namespace::new();
    std::thread::scope(|scope| {
        let run = || namespace.enter(|| make(&desired()).map(drop));
        let runs: Vec<_> = (0..16).map(|_| scope.spawn(run)).collect();
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    assert_eq!(namespace.sh("ip rule").matches("fwmark").count(), 1);
    assert_eq!(namespace.sh("ip -6 rule").matches("fwmark").count(), 1);
    assert_eq!(namespace.enter(find).unwrap(), desired());
}

#[test]
fn foreign_policy_rules_are_not_managed() {
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

#[test]
fn additions_before_an_error_are_removed() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/lo/disable_ipv6", "1");
    let before = namespace.routing();
    namespace.enter(|| make(&desired())).unwrap_err();
    assert_eq!(namespace.routing(), before);
}

#[test]
fn undo_keeps_what_is_needed() {
    let namespace = Namespace::new();
    namespace.sh("ip route add local default dev lo table 133");
    let before = namespace.routing();
    let made = namespace
        .enter(|| make_with(&mut Router::open()?, &desired()))
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
fn disabled_ipv6_is_distinguished_from_other_errors() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/lo/disable_ipv6", "1");
    let error = namespace.enter(|| make(&desired())).unwrap_err();
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
        make(&desired()).unwrap_err()
    });
    assert!(
        matches!(error, RoutingError::NotPermitted { .. }),
        "{error:?}"
    );
}

/// A socket that loses one datagram.
struct Lossy {
    socket: Socket,
    /// The number of datagrams before it.
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

    fn capacity(&mut self, desired: usize) -> io::Result<usize> {
        self.socket.capacity(desired)
    }
}

/// Runs with the reply lost after this number. Returns the result if one was lost.
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
fn after_a_lost_reply_all_or_nothing_is_added() {
    for error in [Errno::ENOBUFS, Errno::EIO] {
        let mut outcomes = [0, 0];
        for before in 0.. {
            let namespace = Namespace::new();
            let untouched = namespace.routing();
            let make = || {
                with_a_loss((before, error), |router| {
                    make_with(router, &desired()).is_ok()
                })
            };
            let Some(made) = namespace.enter(make) else {
                break;
            };
            outcomes[usize::from(made)] += 1;
            match made {
                true => assert_eq!(namespace.enter(find).unwrap(), desired()),
                false => assert_eq!(namespace.routing(), untouched, "answer {before}"),
            }
        }
        // Lost replies are retried; a broken socket is an error.
        let [refused, made] = outcomes.map(|count| count > 0);
        assert_eq!(
            (refused, made),
            (error == Errno::EIO, error == Errno::ENOBUFS)
        );
    }
}

#[test]
fn a_removal_with_a_lost_reply_is_retried() {
    let mut lost = 0;
    for before in 0.. {
        let namespace = Namespace::new();
        let untouched = namespace.routing();
        namespace.enter(|| make(&desired())).unwrap();
        let nothing = Routing::default();
        let remove = || {
            let of_an_answer = (before, Errno::ENOBUFS);
            with_a_loss(of_an_answer, |router| {
                router.remove(&desired(), &nothing).is_ok()
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
