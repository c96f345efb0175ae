//! While the rules are applied again and again, with other options each time,
//! no connection slips past the proxy, and none fails.

use crate::lab::{APP, Lab, Namespace, ROOT, Server, User, is_thorough, product};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use tempfile::NamedTempFile;

/// Different rules, all of which capture what the storms try.
struct Changes {
    mesh: &'static str,
    options: &'static [&'static str],
    outbound: &'static [&'static str],
    inbound: &'static [&'static str],
    /// How many connections may meet a change between two of their steps, and find no answer or not
    /// the proxy: those whose packet has passed mangle, where the old rules left it alone, and comes to
    /// nat, where the new ones do. See docs/limits.md.
    between: u64,
}

const NGINMESH: Changes = Changes {
    mesh: "nginmesh",
    options: &[
        "-p 15001 -u 1337",
        "-p 15001 -u 1337 -i 10.66.0.0/16,203.0.113.0/24,2001:db8:113::/48 --dual-stack",
        "-p 25001 -u 1337",
        "-p 15001 -u 1337,1338 --dual-stack",
        "-p 25001 -u 1337 -i 203.0.113.8/29,10.0.0.0/8,192.168.0.0/16",
    ],
    outbound: &["10.66.0.1:80", "203.0.113.9:443"],
    inbound: &["10.66.0.2:8080"],
    between: 0,
};

const ISTIO: Changes = Changes {
    mesh: "istio",
    options: &[
        "-u 1337 -i * -b * -d 15020",
        "-u 1337 -i 10.66.0.0/16,203.0.113.0/24,fd00::/8,2001:db8::/32 -b 8080,9080 --redirect-dns --capture-all-dns",
        "-p 25001 -z 25006 -u 1337,1338 -i * -x 192.168.0.0/16 -b * --drop-invalid",
        "-p 25001 -u 1337 --outbound-ports 80,443 -b 8080 -c net1",
    ],
    outbound: &[
        "10.66.0.1:80",
        "203.0.113.9:443",
        "[fd66::1]:80",
        "[2001:db8:113::9]:443",
    ],
    inbound: &["10.66.0.2:8080", "[fd66::2]:8080"],
    between: 0,
};

/// A second run of proxy-init itself empties its chains first.
const LINKERD: Changes = Changes {
    mesh: "linkerd",
    options: &[
        "-p 15001 -z 15006 -u 1337",
        "-p 25001 -z 25006 -u 1337 -d 4190,4191 -o 4567-4568",
        "-p 15001 -z 15006 -u 1337 -b 8080 --subnets-to-ignore 192.0.2.0/24",
        "-p 25001 -z 25006 -u 1337,1338 -x 192.168.0.0/16",
    ],
    ..ISTIO
};

/// From one table to another and back. A connection whose handshake one of these changes meets half
/// way may hang, one in ten thousand here; none may slip past.
const MODES: Changes = Changes {
    options: &[
        "-u 1337 -i * -b *",
        "-u 1337 -m TPROXY -i * -b *",
        "-p 25001 -z 25006 -u 1337 -i * -b 8080",
        "-p 25001 -z 25006 -u 1337 -m TPROXY -i * -b 8080 -t 77 -r 100",
    ],
    between: 3,
    ..ISTIO
};

/// The same where each table holds rules in both modes, so that none of them only gains or only
/// loses.
const MIXED: Changes = Changes {
    options: &[
        "-u 1337 -i * -b * --drop-invalid -c net1",
        "-u 1337 -m TPROXY -i * -b 8080 -d 15020",
        "-p 25001 -z 25006 -u 1337,1338 -i * -b 8080 --redirect-dns --capture-all-dns",
        "-p 25001 -z 25006 -u 1337 -m TPROXY -i * -b * -t 77 -r 100 --drop-invalid",
    ],
    ..MODES
};

macro_rules! escape {
    ($($module:ident: $backend:literal, $applies:literal times, $($test:ident $changes:ident),+;)+) => {$(
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::nobody_escapes(&super::$changes, $backend, $applies);
                }
            )+
        }
    )+};
}

escape! {
    netlink: "netlink", 40 times, nginmesh NGINMESH, istio ISTIO, linkerd LINKERD, modes MODES;
    nftables: "nftables", 40 times, nginmesh NGINMESH, istio ISTIO, linkerd LINKERD, modes MODES;
    iptables_legacy: "iptables-legacy", 8 times, nginmesh NGINMESH, istio ISTIO, linkerd LINKERD, modes MODES, mixed MIXED;
}

fn nobody_escapes(changes: &Changes, backend: &str, applies: usize) {
    let lab = Lab::new();
    let apply = |options: &&str| {
        let mut command = product();
        command.args(["--mesh", changes.mesh, "--backend", backend]);
        lab.pod.output(command.args(options.split(' ')));
    };
    let what = format!("{} on {backend}", changes.mesh);
    let applies = if is_thorough() { 5 * applies } else { applies };
    let mut options = changes.options.iter().cycle().take(1 + applies);
    nobody_escapes_while(&lab, changes, &what, || options.next().map(apply).is_some());
}

/// In a user namespace sockets may not be made larger than the host's limit, and lists longer than
/// that go to the kernel in several transactions.
#[test]
fn nobody_escapes_in_a_user_namespace() {
    for (backend, excludes) in [("netlink", 3_000), ("nftables", 30_000)] {
        let pod = Namespace::with_users_and_resolv_conf("nameserver 203.0.113.53\n");
        let lab = Lab::around(pod);
        let lists: Vec<NamedTempFile> = (0..2).map(|i| excluded(excludes, 100 + i)).collect();
        let apply = |run: usize| {
            let mut command = product();
            command.args(["--mesh", "istio", "--backend", backend, "-u", "1337"]);
            command.args(["-i", "*", "-b", "*"]);
            command.args(
                [
                    ["-p", "15001", "-z", "15006"],
                    ["-p", "25001", "-z", "25006"],
                ][run % 2],
            );
            command.arg("--env-file").arg(lists[run % 2].path());
            let command = &mut lab.pod.own_root("+net_admin,+net_raw", &command);
            lab.pod.output(command);
        };
        let mut runs = 0..6;
        nobody_escapes_while(
            &lab,
            &ISTIO,
            &format!("{excludes} excludes on {backend}"),
            || runs.next().map(apply).is_some(),
        );
    }
}

/// An env file with so many addresses to leave alone, none of which touch.
fn excluded(count: u32, net: u8) -> NamedTempFile {
    let first = u32::from_be_bytes([10, net, 0, 0]);
    let cidr = |i: u32| format!("{}/32", Ipv4Addr::from(first + 2 * i));
    let list: Vec<String> = (0..count).map(cidr).collect();
    let mut file = NamedTempFile::new().expect("a temporary file");
    writeln!(file, "ISTIO_SERVICE_EXCLUDE_CIDR={}", list.join(",")).expect("it can be written");
    file
}

/// `change` is called until it says that it has nothing more to do.
fn nobody_escapes_while(
    lab: &Lab,
    changes: &Changes,
    what: &str,
    mut change: impl FnMut() -> bool,
) {
    let ports = [15001, 25001, 15006, 25006].map(|port| format!("{port},transparent,to=nowhere"));
    let mut proxy = vec!["proxy", "--announce"];
    proxy.extend(ports.iter().map(String::as_str));
    let _proxy = Server::start(&lab.pod, User(0, 1337), &proxy);
    let _app = Server::start(&lab.pod, APP, &["serve", "--name=app", "8080"]);
    let _peer = Server::start(&lab.peer, ROOT, &["serve", "--name=peer", "80", "443"]);

    change();
    let outbound = storm(&lab.pod, changes.outbound);
    let inbound = storm(&lab.peer, changes.inbound);
    while change() {}
    for storm in [outbound, inbound] {
        let totals = totals(storm);
        println!("{what}: {totals:?}");
        let by_proxy = totals.iter().filter(|(who, _)| who.starts_with("proxy:"));
        // Two of the proxy's ports answered: the changes took effect on the way.
        assert!(by_proxy.clone().count() == 2, "{totals:?}");
        let by_proxy: u64 = by_proxy.map(|(_, n)| n).sum();
        let others = totals["total"] - by_proxy;
        assert!(
            others <= changes.between,
            "some escaped or failed: {totals:?}"
        );
    }
}

fn storm(namespace: &Namespace, targets: &[&str]) -> Server {
    Server::start(namespace, APP, &[&["storm", "-j1"], targets].concat())
}

/// How many connections each one answered.
fn totals(storm: Server) -> BTreeMap<String, u64> {
    let last = storm.finish().pop().expect("a storm ends with its totals");
    let pairs = last.split(' ').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(who, n)| (who.to_owned(), n.parse().expect("a number")))
        .collect()
}
