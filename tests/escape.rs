//! While the rules are applied again and again, with other options each time,
//! no connection slips past the proxy, and none fails.
#![forbid(unsafe_code)]

mod lab;

use lab::{APP, Lab, Namespace, PROXY, ROOT, Server, product};
use std::collections::BTreeMap;

const APPLIES: usize = 200;

/// Different rules, all of which capture what the storms below try.
const OPTIONS: &[&str] = &[
    "-p 15001 -u 1337",
    "-p 15001 -u 1337 -i 10.66.0.0/16,203.0.113.0/24,2001:db8:113::/48 --dual-stack",
    "-p 25001 -u 1337",
    "-p 15001 -u 1337,1338 --dual-stack",
    "-p 25001 -u 1337 -i 203.0.113.8/29,10.0.0.0/8,192.168.0.0/16",
];

#[test]
fn netlink() {
    nobody_escapes("netlink");
}

#[test]
fn iptables_nft() {
    nobody_escapes("iptables-nft");
}

#[test]
fn iptables_legacy() {
    nobody_escapes("iptables-legacy");
}

fn nobody_escapes(backend: &str) {
    let lab = Lab::new();
    let _proxy = Server::start(
        &lab.pod,
        PROXY,
        &[
            "proxy",
            "--announce",
            "15001,to=nowhere",
            "25001,to=nowhere",
        ],
    );
    let _app = Server::start(&lab.pod, APP, &["serve", "--name=app", "8080"]);
    let _peer = Server::start(&lab.peer, ROOT, &["serve", "--name=peer", "80", "443"]);
    let apply = |options: &str| {
        let mut command = product();
        lab.pod.output(
            command
                .args(["--backend", backend])
                .args(options.split(' ')),
        );
    };

    apply(OPTIONS[0]);
    let outbound = storm(&lab.pod, &["10.66.0.1:80", "203.0.113.9:443"]);
    let inbound = storm(&lab.peer, &["10.66.0.2:8080"]);
    for options in OPTIONS.iter().cycle().skip(1).take(APPLIES) {
        apply(options);
    }
    for storm in [outbound, inbound] {
        let totals = totals(storm);
        let by_proxy: u64 = totals
            .iter()
            .filter(|(who, _)| who.starts_with("proxy:"))
            .map(|(_, n)| n)
            .sum();
        assert_eq!(
            totals["total"], by_proxy,
            "some escaped or failed: {totals:?}"
        );
        // Both of the proxy's ports answered: the changes took effect on the way.
        assert!(
            totals.contains_key("proxy:15001") && totals.contains_key("proxy:25001"),
            "{totals:?}"
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
