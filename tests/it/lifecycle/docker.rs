//! Docker in the pod: containers behind a bridge, their DNS, and the ports that it publishes.

use super::on_every_backend;
use super::world::{apply, run};
use crate::lab::{APP, Done, Lab, Namespace, PROXY, ROOT, Server, lab};

const CAPTURED: &str = "--mesh istio -i * -b * --redirect-dns";

/// A query of a container comes in through the bridge, and its answer as that of any query.
#[test]
fn containers_get_answers_while_dns_is_captured() {
    on_every_backend(|backend| {
        let world = Lab::around(Namespace::with_resolv_conf("nameserver 203.0.113.53\n"));
        let container = world.guest_behind("docker0");
        world.pod.sysctl("ipv4/ip_forward", "1");
        world
            .pod
            .sh("iptables-nft -t nat -A POSTROUTING -s 10.67.0.0/24 ! -o docker0 -j MASQUERADE");
        let _server = Server::start(
            &world.peer,
            ROOT,
            &["serve", "--name=server", "udp:203.0.113.53:53"],
        );
        let _agent = Server::start(
            &world.pod,
            PROXY,
            &["serve", "--name=agent", "udp:127.0.0.1:15053"],
        );
        let asks = |who: &Namespace, answers: &str| {
            let done = who.run(lab(APP).args(["query", "203.0.113.53:53"]));
            let done = done.expect(0, answers)?;
            match done.out.contains(answers) {
                true => Ok(()),
                false => Err(format!("not {answers}: {}", done.out)),
            }
        };
        asks(&container, "server").map_err(|e| format!("before: {e}"))?;
        for more in ["", "-k docker0", "-c docker0", "--capture-all-dns"] {
            apply(&world.pod, backend, &format!("{CAPTURED} {more}"))?;
            asks(&world.pod, "agent").map_err(|e| format!("{more}: {e}"))?;
            asks(&container, "server").map_err(|e| format!("{more}: {e}"))?;
        }
        Ok(())
    });
}

#[track_caller]
fn warns(done: &Done, kind: &str, whether: bool) {
    let said = done.kinds().iter().any(|k| k == kind);
    assert_eq!(said, whether, "{kind}: {}", done.err);
}

#[test]
fn its_own_nameserver_is_said_to_be_lost() {
    for (server, lost) in [("127.0.0.11", true), ("127.0.0.53", false)] {
        let namespace = Namespace::with_resolv_conf(&format!("nameserver {server}\n"));
        let done = run(&namespace, &format!("{CAPTURED} --log-format json"));
        warns(&done.expect(0, server).unwrap(), "docker-resolver", lost);
    }
}

/// What docker does for `-p 80:8080`.
const PUBLISHED: &str = "
    iptables-nft -t nat -N DOCKER
    iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
    iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
    iptables-nft -t nat -A DOCKER ! -i docker0 -p PROTOCOL --dport 80 -j DNAT --to-destination 172.17.0.2:8080
";

#[test]
fn a_published_port_is_said_to_bypass_the_proxy() {
    for (protocol, options, bypasses) in [
        ("tcp", "-b *", true),
        ("tcp", "-b 80", true),
        ("tcp", "-b 81", false),
        ("tcp", "-b * -d 80", false),
        ("tcp", "-i *", false),
        ("udp", "-b *", false),
    ] {
        for backend in ["netlink", "nftables"] {
            let namespace = Namespace::new();
            namespace.sh(&PUBLISHED.replace("PROTOCOL", protocol));
            let line = format!("--backend {backend} --mesh istio {options} --log-format json");
            let what = format!("{protocol} {line}");
            // nftables' own tables come before iptables'.
            let bypasses = bypasses && backend == "netlink";
            for _ in 0..2 {
                let done = run(&namespace, &line).expect(0, &what).unwrap();
                warns(&done, "rule-ahead", bypasses);
            }
        }
    }
}

/// Docker comes later as a rule, and then its rules are behind ours.
#[test]
fn a_rule_behind_ours_is_none_of_it() {
    let namespace = Namespace::new();
    let line = "--mesh istio -b * --log-format json";
    run(&namespace, line).expect(0, line).unwrap();
    namespace.sh(&PUBLISHED.replace("PROTOCOL", "tcp"));
    let done = run(&namespace, line).expect(0, line).unwrap();
    warns(&done, "rule-ahead", false);
}
