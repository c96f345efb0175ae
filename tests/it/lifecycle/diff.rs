//! What a diff says, to people and to programs.

use super::world::{apply, run};
use crate::lab::{Done, Namespace};
use serde_json::Value;

/// The diff of some options, as text.
fn diff(namespace: &Namespace, options: &str) -> Done {
    run(namespace, &format!("diff --backend netlink {options}"))
}

#[test]
fn a_change_is_shown_in_its_place() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", "-p 15001 -u 1337").unwrap();
    let done = diff(&namespace, "-p 15002 -u 1337,7")
        .expect(1, "diff")
        .unwrap();
    let desired = "\
IPv4 nat ISTIO_REDIRECT (netlink)
  - -p tcp -j REDIRECT --to-ports 15001  # redirect-to-envoy-port
  + -p tcp -j REDIRECT --to-ports 15002  # redirect-to-envoy-port
IPv4 nat ISTIO_OUTPUT (netlink)
    ! -d 127.0.0.1/32 -o lo -j ISTIO_REDIRECT  # redirect-implicit-loopback
    -m owner --uid-owner 1337 -j RETURN        # bypass-envoy
  + -m owner --uid-owner 7 -j RETURN           # bypass-envoy
    -d 127.0.0.1/32 -j RETURN                  # bypass-explicit-loopback
    -j ISTIO_REDIRECT                          # redirect-default-outbound
";
    assert_eq!(done.out, desired);
}

#[test]
fn order_is_a_difference_and_comments_are_none() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", "-p 15001 -u 1,2").unwrap();
    let chain = "iptables-nft -t nat";
    namespace.sh(&format!(
        "{chain} -R ISTIO_OUTPUT 2 -m owner --uid-owner 1 -m comment --comment other -j RETURN
         {chain} -R OUTPUT 1 -p tcp -j ISTIO_OUTPUT"
    ));
    diff(&namespace, "-p 15001 -u 1,2")
        .expect(0, "comments")
        .unwrap();
    let done = diff(&namespace, "-p 15001 -u 2,1")
        .expect(1, "order")
        .unwrap();
    let desired = "\
IPv4 nat ISTIO_OUTPUT (netlink)
    ! -d 127.0.0.1/32 -o lo -j ISTIO_REDIRECT  # redirect-implicit-loopback
  + -m owner --uid-owner 2 -j RETURN           # bypass-envoy
    -m owner --uid-owner 1 -j RETURN
  - -m owner --uid-owner 2 -j RETURN           # bypass-envoy
    -d 127.0.0.1/32 -j RETURN                  # bypass-explicit-loopback
    -j ISTIO_REDIRECT                          # redirect-default-outbound
";
    assert_eq!(done.out, desired);
}

#[test]
fn changes_in_other_tables_are_shown() {
    let namespace = Namespace::new();
    apply(&namespace, "netlink", "-p 15001 -u 1337").unwrap();
    namespace.sh("iptables-legacy -t nat -N ISTIO_OLD
         iptables-legacy -t nat -A OUTPUT -p udp -j ISTIO_OLD
         nft 'add table ip6 prepare-proxy-nat { chain ISTIO_NEW { counter; }; }'
         ip rule add fwmark 1337 lookup 133; ip route add local default dev lo table 133
         ip addr add ::6/128 dev lo");
    let done = diff(&namespace, "-p 15001 -u 1337")
        .expect(1, "diff")
        .unwrap();
    for line in [
        "IPv4 nat OUTPUT (iptables-legacy)\n  - -p udp -j ISTIO_OLD\n",
        "IPv4 nat ISTIO_OLD (iptables-legacy, removed)\n",
        "IPv6 nat ISTIO_NEW (nftables, removed)\n",
        "routing\n",
        "  - ip rule add fwmark 0x539 lookup 133\n",
        "  - ip route add local default dev lo table 133\n",
        "  - ip addr add ::6/128 dev lo nodad\n",
    ] {
        assert!(done.out.contains(line), "{line}{}", done.out);
    }
    apply(&namespace, "netlink", "-p 15001 -u 1337").unwrap();
    diff(&namespace, "-p 15001 -u 1337")
        .expect(0, "after an apply")
        .unwrap();
}

#[test]
fn json_has_the_same_content() {
    let namespace = Namespace::new();
    let done = diff(&namespace, "-p 15001 -u 1337 --format json")
        .expect(1, "diff")
        .unwrap();
    let diff: Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!(diff["differs"], true);
    assert_eq!(diff["backend"], "netlink");
    let chains = diff["chains"].as_array().expect("a list");
    let redirect = chains
        .iter()
        .find(|c| c["chain"] == "ISTIO_REDIRECT")
        .expect("it is new");
    assert_eq!(redirect["action"], "add");
    assert_eq!(redirect["family"], "ipv4");
    let rule = &redirect["rules"][0];
    assert_eq!(rule["action"], "add");
    assert_eq!(rule["rule"], "-p tcp -j REDIRECT --to-ports 15001");
    assert_eq!(rule["id"], "redirect-to-envoy-port");
    apply(&namespace, "netlink", "-p 15001 -u 1337").unwrap();
    let done = run(&namespace, "diff -p 15001 -u 1337 --format json")
        .expect(0, "same")
        .unwrap();
    let same: Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!(same["differs"], false);
    assert_eq!(same["chains"], Value::Array(vec![]));
}

#[test]
fn bad_input_and_an_unreadable_table_exit_2() {
    let namespace = Namespace::new();
    diff(&namespace, "-p 0 -u 1337")
        .expect(2, "bad input")
        .unwrap();
}
