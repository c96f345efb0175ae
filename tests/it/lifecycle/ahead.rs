//! Foreign rules that take precedence over managed ones are named.

use super::world::run;
use crate::lab::{Done, Namespace};
use serde_json::Value;

const ISTIO: &str = "--mesh istio -u 1337 -i * -b *";

/// Ways to keep connections from the proxy without touching a managed rule.
const AHEAD: &[&str] = &[
    "iptables-nft -t nat -I OUTPUT -p tcp -j ACCEPT",
    "iptables-nft -t nat -I OUTPUT -p tcp --dport 3306 -j RETURN",
    "iptables-nft -t nat -I OUTPUT -p tcp -j DNAT --to 198.51.100.4",
    "iptables-nft -t nat -I OUTPUT -p tcp -j NETMAP --to 198.51.100.0/24",
    "iptables-nft -t nat -N F; iptables-nft -t nat -A F -j ACCEPT; iptables-nft -t nat -I OUTPUT -j F",
    "iptables-nft -t nat -N G; iptables-nft -t nat -I OUTPUT -g G",
    "iptables-nft -t raw -A OUTPUT -j CT --notrack",
    "iptables-nft -t nat -I PREROUTING -p tcp --dport 8080 -j DNAT --to 198.51.100.4:80",
    "nft insert rule ip nat OUTPUT tcp dport 80 accept",
    "nft insert rule ip nat OUTPUT meta l4proto tcp redirect to :9",
    "nft insert rule ip nat OUTPUT tcp dport 80 dnat to 198.51.100.4",
    "nft insert rule ip nat OUTPUT tcp dport vmap '{ 80 : accept }'",
    "iptables-nft -t nat -I OUTPUT -d 203.0.113.77 -p tcp --dport 443 -j ACCEPT",
    // Two of which one would do.
    "iptables-nft -t nat -I OUTPUT -p tcp -j ACCEPT; iptables-nft -t nat -I OUTPUT -p tcp -j ACCEPT",
    // What the program does not decode may take precedence.
    "iptables-nft -t nat -I OUTPUT -p tcp -m time --timestart 00:00 -j ACCEPT",
];

/// What leaves captured connections alone.
const HARMLESS: &[&str] = &[
    "iptables-nft -t nat -I OUTPUT -p tcp -m comment --comment counted",
    "iptables-nft -t nat -I OUTPUT -p udp --dport 5353 -j ACCEPT",
    "iptables-nft -t nat -A OUTPUT -p tcp -j ACCEPT",
    "iptables-nft -t mangle -A OUTPUT -j MARK --set-mark 7",
    "iptables-nft -t nat -I POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
    // A firewall that lets in some hosts.
    "iptables-nft -A INPUT -i lo -j ACCEPT; \
     iptables-nft -A INPUT -s 198.51.100.0/24 -p tcp --dport 15006 -j ACCEPT; \
     iptables-nft -A INPUT -p tcp --dport 15006 -j DROP",
    "iptables-nft -A INPUT -m pkttype --pkt-type multicast -j DROP",
    "iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP",
    // To accept in a chain of nat is to leave the decision to the next one.
    "nft 'table ip x { chain o { type nat hook output priority -150; tcp dport 80 accept; }; }'",
    "nft 'table inet f { chain i { type filter hook input priority 0; tcp dport 22 drop; }; }'",
];

/// An apply over rules that are in place, beside a foreign one.
fn apply_beside(foreign: &str) -> Done {
    let namespace = Namespace::new();
    run(&namespace, ISTIO).expect(0, "apply").unwrap();
    namespace.sh(foreign);
    let again = run(&namespace, &format!("--log-format json {ISTIO}"));
    again.expect(0, foreign).unwrap()
}

#[test]
fn an_apply_names_the_rules_that_take_precedence() {
    for foreign in AHEAD {
        let done = apply_beside(foreign);
        assert!(done.err.contains("\"rule-ahead\""), "{foreign}: {done:?}");
    }
}

#[test]
fn a_diff_lists_them_and_differs_if_it_is_strict() {
    let namespace = Namespace::new();
    run(&namespace, ISTIO).expect(0, "apply").unwrap();
    namespace.sh(AHEAD[0]);
    for (option, status, differs) in [("", 0, false), ("--strict", 1, true)] {
        let line = format!("diff --format json {option} {ISTIO}");
        let done = run(&namespace, &line).expect(status, &line).unwrap();
        let diff: Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(diff["ahead"][0]["chain"], "OUTPUT", "{diff}");
        assert_eq!(diff["differs"], differs, "{diff}");
    }
}

#[test]
fn an_apply_does_not_name_rules_that_change_nothing() {
    for foreign in HARMLESS {
        let done = apply_beside(foreign);
        assert!(!done.err.contains("\"rule-ahead\""), "{foreign}: {done:?}");
    }
}
