//! Removed rules are restored, and then no connection bypasses the proxy.

use super::watcher::{Watcher, generation, kind};
use crate::lab::{APP, Lab, Namespace, ROOT, Server, User, is_thorough};
use crate::lifecycle::{apply, rules};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A shell script that removes rules; $T is iptables and $T6 ip6tables.
type Taking = &'static str;

const REPAIR: &str = "\"kind\":\"repaired\"";

const ISTIO: &str = "--mesh istio -u 1337 -m TPROXY -b * -i * -d 22 --redirect-dns --capture-all-dns --drop-invalid";

/// Changes to tables of iptables.
const TAKINGS: &[Taking] = &[
    "nft flush ruleset",
    "nft delete table ip nat",
    "nft delete table ip6 nat",
    "nft delete table ip mangle",
    "nft flush chain ip nat ISTIO_OUTPUT",
    "nft flush table ip nat",
    "$T -t nat -F",
    "$T6 -t mangle -F",
    "$T -t nat -F OUTPUT",
    "$T -t nat -D ISTIO_OUTPUT 1",
    "$T6 -t mangle -D PREROUTING 1",
    "$T -t nat -I ISTIO_OUTPUT -p tcp -j RETURN",
    "$T -t nat -R ISTIO_REDIRECT 1 -p tcp -j REDIRECT --to-ports 9",
    // The last rule first.
    "r=$($T -t nat -S ISTIO_OUTPUT | tail -n 1)
     printf '*nat\\n-D %s\\n-I %s\\nCOMMIT\\n' \"${r#-A }\" \"${r#-A }\" | $T-restore --noflush",
    "printf '*nat\\n:PREROUTING ACCEPT\\n:OUTPUT ACCEPT\\n-A OUTPUT -d 192.0.2.1 -j ACCEPT\\nCOMMIT\\n' | $T-restore",
    // The start of /etc/nftables.conf and another ruleset, in one commit.
    "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; }; }\\n' | nft -f -",
    // Rules that stay but are not in force.
    "nft 'add table ip nat { flags dormant; }'",
    "nft 'chain ip nat OUTPUT { policy drop; }'",
    "nft 'flush chain ip nat OUTPUT; delete chain ip nat OUTPUT; add chain ip nat OUTPUT;
          add rule ip nat OUTPUT counter jump ISTIO_OUTPUT'",
    "ip rule del fwmark 1337",
    "ip -6 rule del fwmark 1337",
    "ip route del local default table 133",
    "ip -6 route flush table 133",
    "ip addr del ::6/128 dev lo",
];

/// Changes to own tables.
const NATIVE_TAKINGS: &[Taking] = &[
    "nft flush ruleset",
    "nft delete table ip prepare-proxy-nat",
    "nft flush chain ip6 prepare-proxy-nat ISTIO_OUTPUT",
    "nft flush table ip prepare-proxy-mangle",
    "nft insert rule ip prepare-proxy-nat ISTIO_OUTPUT tcp dport 80 return",
    "nft 'add table ip prepare-proxy-nat { flags dormant; }'",
    "nft 'chain ip prepare-proxy-mangle PREROUTING { policy drop; }'",
    "ip rule del fwmark 1337",
];

/// A pod with full capture, and its peers.
struct World {
    lab: Lab,
    _servers: Vec<Server>,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new();
        let ports = [
            "15001,transparent,to=nowhere",
            "15006,transparent,to=nowhere",
        ];
        let proxy = [&["proxy", "--announce"], &ports[..]].concat();
        let servers = vec![
            Server::start(&lab.pod, User(0, 1337), &proxy),
            Server::start(&lab.pod, APP, &["serve", "--name=app", "8080"]),
            Server::start(&lab.peer, ROOT, &["serve", "--name=peer", "80"]),
        ];
        World {
            lab,
            _servers: servers,
        }
    }

    /// Continuous connections from separate addresses: those that bypass the proxy leave conntrack
    /// entries, which later connections with the same ports would follow.
    fn storms(&self) -> [Server; 2] {
        let Lab { pod, peer } = &self.lab;
        pod.ip(&["addr add 10.66.0.12/24 dev eth0"]);
        peer.ip(&["addr add fd66::12/64 dev eth0 nodad"]);
        [
            (pod, "--source=10.66.0.12:0", "10.66.0.1:80"),
            (peer, "--source=[fd66::12]:0", "[fd66::2]:8080"),
        ]
        .map(|(from, source, to)| Server::start(from, APP, &["storm", "-j1", source, to]))
    }

    /// Fails unless new connections are captured, inbound and outbound, both families.
    #[track_caller]
    fn all_connections_are_captured(&self, after: &str) {
        for (from, targets) in [
            (&self.lab.pod, ["10.66.0.1:80", "[fd66::1]:80"]),
            (&self.lab.peer, ["10.66.0.2:8080", "[fd66::2]:8080"]),
        ] {
            let answers = from.enter(|| targets.map(who_answers));
            for (target, who) in targets.iter().zip(answers) {
                assert!(who.starts_with("by=proxy:"), "{after}: {target} {who}");
            }
        }
    }
}

/// The greeting of the peer.
fn who_answers(target: &str) -> String {
    let target: SocketAddr = target.parse().expect("an address");
    let mut said = String::new();
    let limit = Duration::from_secs(10);
    let answer = TcpStream::connect_timeout(&target, limit).and_then(|mut stream| {
        stream.set_read_timeout(Some(limit))?;
        stream.read_to_string(&mut said)
    });
    match answer {
        Err(e) if said.is_empty() => e.to_string(),
        _ => said,
    }
}

fn take_away(namespace: &Namespace, taking: Taking) {
    namespace.sh(&format!("T=iptables-nft T6=ip6tables-nft\n{taking}"));
}

/// Removes rules in every way under load, and checks each time.
fn always_back(backend: &str, takings: &[Taking]) {
    let rounds = if is_thorough() { 12 } else { 1 };
    let times = rounds * takings.len();
    let world = World::new();
    let pod = &world.lab.pod;
    let line = format!("-v --backend {backend} {ISTIO}");
    let watcher = Watcher::start(pod, &line);
    let wanted = rules(pod);
    let storms = world.storms();
    for (n, taking) in takings.iter().cycle().take(times).enumerate() {
        let before = watcher.count(REPAIR);
        take_away(pod, taking);
        watcher.wait_for(REPAIR, before + 1);
        // Some scripts make several commits, each repaired by itself.
        watcher.wait_until_idle();
        world.all_connections_are_captured(taking);
        if n < takings.len() {
            assert_eq!(foreignless(&rules(pod)), foreignless(&wanted), "{taking}");
            take_away(
                pod,
                "nft delete table inet filter 2>/dev/null || :; $T -t nat -D OUTPUT -d 192.0.2.1 -j ACCEPT 2>/dev/null || :",
            );
        }
    }
    for storm in storms {
        println!("{backend}: {}", storm.finish().pop().unwrap_or_default());
    }
    watcher.wait_until_idle();
    let before = generation(pod);
    apply(pod, backend, ISTIO).unwrap();
    assert_eq!(generation(pod), before, "an apply finds nothing to do");
    watcher.stop();
    world.all_connections_are_captured("the end of the watch");
}

/// Without the foreign rule of the test, and without counters.
fn foreignless(rules: &str) -> String {
    let lines = rules.lines().filter(|line| !line.contains("192.0.2.1"));
    let uncounted = |line: &str| match line.split_once("counter packets ") {
        None => format!("{line}\n"),
        Some((before, after)) => {
            let rest: Vec<&str> = after.split(' ').skip(3).collect();
            format!("{before}counter {}\n", rest.join(" "))
        }
    };
    lines.map(uncounted).collect()
}

#[test]
fn rules_removed_under_load_are_restored() {
    always_back("netlink", TAKINGS);
}

#[test]
fn rules_removed_under_load_are_restored_in_own_tables() {
    always_back("nftables", NATIVE_TAKINGS);
}

/// Changes to tables of iptables-legacy raise no events.
#[test]
fn legacy_tables_are_polled() {
    let namespace = Namespace::new();
    let line = "--backend iptables-legacy --interval 1s -p 15001 -u 1337";
    let watcher = Watcher::start(&namespace, line);
    watcher.wait_for(&kind("polling"), 1);
    let wanted = rules(&namespace);
    for (n, taking) in ["-F", "-D ISTIO_OUTPUT 2", "-I ISTIO_OUTPUT -j RETURN"]
        .iter()
        .enumerate()
    {
        namespace.sh(&format!("iptables-legacy -t nat {taking}"));
        watcher.wait_for(REPAIR, n + 1);
        assert_eq!(rules(&namespace), wanted, "{taking}");
    }
    watcher.stop();
}

/// The receive buffer overflowed: everything is read again.
#[test]
fn rules_are_restored_after_lost_notifications() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, "-v --mesh istio -i * -b *");
    let wanted = rules(&namespace);
    watcher.signal(nix::sys::signal::Signal::SIGSTOP);
    namespace.sh(
        "nft add table ip noise; nft add chain ip noise c
         for i in $(seq 40); do
             { for j in $(seq 2000); do echo \"add rule ip noise c ip daddr 192.0.2.$i counter\"; done
               echo 'flush chain ip noise c'; } | nft -f -
         done
         nft delete table ip noise; nft delete table ip nat",
    );
    watcher.signal(nix::sys::signal::Signal::SIGCONT);
    watcher.wait_for("notifications of nf_tables were lost", 1);
    watcher.wait_for(REPAIR, 1);
    watcher.wait_until_idle();
    assert_eq!(rules(&namespace), wanted);
    watcher.stop();
}
