//! Situations of clusters and machines in which a verifier is tempted to cry wolf, or to miss the wolf.

use super::*;

/// The pod's neighbour answers everything that is not for it with RST, or with an ICMP error.
fn peer_rejects(lab: &Lab, with: &str) {
    lab.peer.sh(&format!(
        "nft 'table inet f {{ chain c {{ type filter hook prerouting priority 0; \
         ip daddr {{ 192.0.2.0/24, 198.51.100.0/24 }} meta l4proto tcp reject with {with}\n}}\n}}'"
    ));
}

#[test]
fn neighbours_and_gateways_that_answer_are_no_failure() {
    for mesh in [
        "--mesh istio -i * -x 10.66.0.0/24 -b * -d 15090,15021,15020",
        "--mesh istio -i * -x 198.51.100.0/24 -b *",
        "--mesh istio -i 10.244.0.0/16 -b *",
        "--mesh istio -i 10.66.0.0/24 -b *",
    ] {
        for with in ["tcp reset", "icmpx type admin-prohibited"] {
            let lab = Lab::new();
            peer_rejects(&lab, with);
            apply(&lab, "netlink", mesh);
            verify(&lab, "", mesh).ends(0, &format!("{mesh}, {with}, root"));
            verify(&lab, VALIDATION_CONTAINER, mesh).ends(0, &format!("{mesh}, {with}, 1337"));
        }
    }
    for mesh in ["--mesh linkerd -x 10.66.0.0/24", MESHES[0]] {
        let lab = Lab::new();
        peer_rejects(&lab, "tcp reset");
        apply(&lab, "netlink", mesh);
        verify(&lab, "", mesh).ends(0, &format!("{mesh}, root"));
    }
}

#[test]
fn what_the_firewall_refuses_is_the_firewalls() {
    let lab = Lab::new();
    lab.pod.sh("iptables-nft -A INPUT -i lo -j ACCEPT
         iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
         iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
         iptables-nft -A INPUT -p tcp --dport 15006 -j ACCEPT
         iptables-nft -P INPUT DROP");
    let mesh = "--mesh istio -i  -b 80";
    apply(&lab, "netlink", mesh);
    let done = verify(&lab, "", mesh).ends(0, mesh);
    let refused = done.checks("refused");
    let by_policy = |c: &&Value| c["by"]["chain"] == "INPUT" && c["by"].get("rule").is_none();
    assert!(
        !refused.is_empty() && refused.iter().all(by_policy),
        "{done:?}"
    );
}

#[test]
fn a_firewall_for_some_hosts_is_the_firewalls_too() {
    let lab = Lab::new();
    lab.pod.sh("iptables-nft -A INPUT -i lo -j ACCEPT
         iptables-nft -A INPUT -s 10.0.0.0/8 -j ACCEPT
         iptables-nft -P INPUT DROP");
    apply(&lab, "netlink", ISTIO);
    let done = verify(&lab, "", ISTIO).ends(0, "from others");
    assert!(
        !done.checks("refused").is_empty() && done.checks("fails").is_empty(),
        "{done:?}"
    );
}

#[test]
fn what_is_captured_and_dropped_on_its_way_fails() {
    for proxy in [false, true] {
        let lab = Lab::new();
        lab.pod
            .sh("iptables-nft -A INPUT -i eth0 -j ACCEPT; iptables-nft -P INPUT DROP");
        let mesh = "--mesh istio -i * -b ";
        apply(&lab, "netlink", mesh);
        let _proxy = proxy.then(|| Server::start(&lab.pod, PROXY, &["proxy", "15001"]));
        let done = verify(&lab, "", mesh).ends(126, mesh);
        let lost = |c: &&Value| c["found"]["lost"] == 15001;
        assert!(done.checks("fails").iter().any(lost), "{done:?}");
    }
}

#[test]
fn options_may_name_the_proxys_own_port() {
    for mesh in [
        "--mesh istio -i * -b * -d 15001",
        "--mesh istio -i * -b * -o 15001",
        "--mesh istio -i * -b * -q 15001",
        "--mesh istio -i * -b * -d 15006",
        "--mesh istio -i * -b * -e 15002",
        "--mesh istio -i * -b * -p 443",
        "--mesh istio -i * -b * -m TPROXY -d 15006",
        "--mesh istio-1.0 -b 15001 -i *",
        "--mesh istio-1.0 -b * -d 15001 -i *",
        "--mesh nginmesh -p 443 -u 1337",
        "--mesh linkerd -d 4140",
        "--mesh linkerd -o 4143",
        "--mesh linkerd -b 4140",
    ] {
        let lab = Lab::new();
        apply(&lab, "netlink", mesh);
        verify(&lab, "", mesh).ends(0, mesh);
        verify(&lab, "", &format!("--probe-port 15001 {mesh}")).ends(0, mesh);
        let alone = verify(&lab, VALIDATION_CONTAINER, mesh);
        assert!(alone.checks("fails").is_empty(), "{mesh}: {alone:?}");
    }
}

#[test]
fn link_local_addresses_have_a_scope() {
    let lab = Lab::new();
    lab.pod.sh("ip -6 addr flush dev eth0 scope global");
    let mesh = "--mesh istio-1.0 -u 1337 -b 80 -i 10.96.0.0/16";
    apply(&lab, "netlink", mesh);
    let done = verify(&lab, "", mesh).ends(0, mesh);
    let reason = |c: &&Value| c["reason"] == "not-made";
    assert!(!done.checks("inconclusive").iter().any(reason), "{done:?}");
}

#[test]
fn a_port_taken_by_other_peoples_nat_is_not_said_to_hold() {
    let lab = Lab::new();
    lab.pod
        .sh("iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8080");
    let mesh = "--mesh istio -i  -b 80";
    apply(&lab, "netlink", mesh);
    let done = verify(&lab, "", mesh);
    assert!(matches!(done.code, Some(2 | 126)), "{done:?}");
}

#[test]
fn without_a_default_route_there_is_something_to_try() {
    let lab = Lab::new();
    lab.pod.sh("ip route del default; ip -6 route del default");
    apply(&lab, "netlink", ISTIO);
    verify(&lab, "", ISTIO).ends(0, "right rules");
    lab.pod
        .sh("iptables-nft -t nat -R ISTIO_REDIRECT 1 -p tcp -j REDIRECT --to-ports 9");
    verify(&lab, "", ISTIO).ends(126, "a wrong port");
}

#[test]
fn a_nameserver_of_the_pods_own_holds() {
    let lab = Lab::around(crate::lab::Namespace::with_resolv_conf(
        "nameserver 10.66.0.2\n",
    ));
    let mesh = "--mesh istio -i * -b * --redirect-dns";
    apply(&lab, "netlink", mesh);
    verify(&lab, "", mesh).ends(0, mesh);
}

#[test]
fn an_address_or_a_route_that_rules_rely_on_is_missed() {
    for (mesh, removal) in [
        ("--mesh istio -i * -b *", "ip -6 addr del ::6/128 dev lo"),
        (TPROXY, "ip rule del fwmark 1337 lookup 133"),
        (TPROXY, "ip route flush table 133"),
    ] {
        let lab = Lab::new();
        apply(&lab, "netlink", mesh);
        lab.pod.sh(removal);
        let done = verify(&lab, "", mesh).ends(126, removal);
        assert_eq!(
            done.report["missing"].as_array().map(Vec::len),
            Some(1),
            "{removal}: {done:?}"
        );
    }
}

/// Rules that no connection needs: those behind or before them do the same to all that they match.
const REDUNDANT: &[&str] = &[
    // No rule captures UDP to another port than 53.
    "nat -A ISTIO_OUTPUT -p udp -m udp --dport 9000 -m comment --comment \"istio/bypass-outbound-port-9000\" -j RETURN",
    // The same rule for the uid comes first, and returns everybody but uid 1337, who is returned next.
    "nat -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --gid-owner 1337 -m comment --comment \"istio/bypass-app-to-itself\" -j RETURN",
    // Nor does anything that comes so far go to 127.0.0.1.
    "nat -A ISTIO_OUTPUT -d 127.0.0.1/32 -m comment --comment \"istio/bypass-explicit-loopback\" -j RETURN",
    // On lo the rule behind it returns this mark, and from elsewhere nobody brings one.
    "mangle -A ISTIO_INBOUND -p tcp -m mark --mark 0x539 -m comment --comment \"istio/bypass-marked\" -j RETURN",
];

/// Real kernels, real rules: each is deleted, noticed, and put back.
#[test]
fn each_rule_that_is_deleted_is_noticed() {
    for (mesh, tables, proxy) in [
        (MESHES[2], &["raw", "nat"][..], None),
        (
            TPROXY,
            &["mangle"],
            Some((
                ROOT_PROXY,
                ["proxy", "15001", "15006,transparent,from=peer,mark=1337"],
            )),
        ),
        (
            MESHES[4],
            &["nat"],
            Some((User(2102, 2102), ["proxy", "4140", "4143"])),
        ),
    ] {
        let lab = Lab::new();
        peer_rejects(&lab, "tcp reset");
        apply(&lab, "netlink", mesh);
        let _proxy = proxy.map(|(user, ports)| Server::start(&lab.pod, user, &ports));
        verify(&lab, "", mesh).ends(0, mesh);
        for table in tables {
            let rules = lab.pod.sh(&format!("iptables-nft -t {table} -S"));
            let mut chain = ("", 0);
            for rule in rules.lines().filter(|l| l.starts_with("-A ")) {
                let name = rule.split(' ').nth(1).expect("a chain");
                chain = (name, if name == chain.0 { chain.1 + 1 } else { 1 });
                let (name, number) = chain;
                lab.pod
                    .sh(&format!("iptables-nft -t {table} -D {name} {number}"));
                let redundant = REDUNDANT.contains(&format!("{table} {rule}").as_str());
                verify(&lab, "", mesh).ends(if redundant { 0 } else { 126 }, rule);
                let back =
                    rule.replacen("-A ", "", 1)
                        .replacen(name, &format!("{name} {number}"), 1);
                lab.pod.sh(&format!("iptables-nft -t {table} -I {back}"));
            }
        }
        verify(&lab, "", mesh).ends(0, mesh);
    }
}

/// The kernel may give the port of a connection that was refused to the next one: two would be one.
#[test]
fn connections_share_no_port_where_there_are_few() {
    let lab = Lab::new();
    peer_rejects(&lab, "tcp reset");
    let mesh = MESHES[4];
    apply(&lab, "netlink", mesh);
    let _proxy = Server::start(&lab.pod, User(2102, 2102), &["proxy", "4140", "4143"]);
    lab.pod
        .sh("echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range");
    for _ in 0..12 {
        verify(&lab, "", mesh).ends(0, mesh);
    }
}
