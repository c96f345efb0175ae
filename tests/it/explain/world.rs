//! A pod with neighbours and servers on every port, and connections that are really made.

use super::connection::{Connection, PORTS, Place};
use super::explanation::Explanation;
use super::options::Options;
use crate::lab::{Lab, Namespace, ROOT, Server, Variant, lab, product};
use prepare_proxy::netfilter::model::Family;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub const RESOLV_CONF: &str = "nameserver 10.96.0.10\nnameserver 2001:db8:113::9\n";

/// Everything for one backend.
pub struct World {
    pub backend: &'static str,
    lab: Lab,
    guest: Namespace,
    /// Those who write down what datagrams they got: in the pod, and outside.
    hearers: [Server; 3],
    _proxy: Server,
    /// The port that the next connection comes from.
    port: AtomicU16,
}

/// What came of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `pod:PORT` or `peer:PORT`, or nothing.
    pub by: String,
    pub peer: String,
    pub local: String,
    pub original: String,
    pub error: String,
}

impl World {
    pub fn on_every_backend() -> Vec<World> {
        let backends = ["netlink", "nftables", "iptables-legacy"];
        std::thread::scope(|scope| {
            let worlds = backends.map(|backend| scope.spawn(move || World::new(backend)));
            worlds.map(|w| w.join().expect("a world is made")).into()
        })
    }

    pub fn new(backend: &'static str) -> World {
        let lab = Lab::around(Namespace::with_resolv_conf(RESOLV_CONF));
        let guest = lab.guest_behind("br0");
        lab.pod.join("net1", &lab.peer, "net1", 68);
        for family in ["ipv4", "ipv6"] {
            lab.pod
                .sysctl(&format!("{family}/conf/all/forwarding"), "1");
        }
        // Every refusal is sent, without a limit.
        lab.pod.sysctl("ipv4/icmp_ratelimit", "0");
        lab.pod.sysctl("ipv6/icmp/ratelimit", "0");
        lab.pod.sysctl("ipv4/icmp_msgs_per_sec", "100000");
        lab.pod.sysctl("ipv4/icmp_msgs_burst", "10000");
        // What a bridge hands to these rules itself loses the socket that TPROXY gave it.
        if lab.pod.enter(|| Path::new("/proc/sys/net/bridge").exists()) {
            for family in ["iptables", "ip6tables"] {
                lab.pod
                    .sysctl(&format!("bridge/bridge-nf-call-{family}"), "0");
            }
        }
        lab.peer.ip(&[
            "route add 10.67.0.0/24 via 10.66.0.2",
            "route add fd67::/64 via fd66::2",
            "route add local 198.51.100.0/24 dev lo",
            "route add local 10.96.0.0/16 dev lo",
        ]);
        let each = |format: fn(&u16) -> String| PORTS.iter().map(format).collect::<Vec<_>>();
        let serve = |namespace, name: &str, args: &[String]| {
            let mut all = vec![name.to_owned()];
            all.extend_from_slice(args);
            let words: Vec<&str> = all.iter().flat_map(|a| a.split(' ')).collect();
            Server::start(namespace, ROOT, &words)
        };
        let transparent = each(|port| format!("{port},transparent,to=nowhere"));
        let udp = each(|port| format!("udp:{port}"));
        let both = [each(ToString::to_string), udp.clone()].concat();
        World {
            backend,
            _proxy: serve(&lab.pod, "proxy --name=pod --announce", &transparent),
            hearers: [
                serve(&lab.pod, "serve --name=pod", &udp),
                serve(&lab.peer, "serve --name=peer", &both),
                serve(&guest, "serve --name=guest", &both),
            ],
            lab,
            guest,
            port: AtomicU16::new(0),
        }
    }

    /// Applies the options and makes the connections.
    pub fn try_all(
        &self,
        options: &Options,
        connections: &[Connection],
        explanations: &[Explanation],
    ) -> Vec<Seen> {
        self.apply(options);
        let seen = self.make(connections, explanations);
        self.ask(connections, explanations);
        seen
    }

    pub fn apply(&self, options: &Options) {
        let mut apply = product();
        apply.args(["--backend", self.backend]).args(options.args());
        self.lab.pod.output(&mut apply);
    }

    /// Loads somebody else's rules.
    pub fn load(&self, script: &str) {
        self.lab.pod.sh(script);
    }

    /// The rules of a family, as iptables-save prints them.
    pub fn saved(&self, family: Family) -> String {
        self.lab.pod.iptables_save(family, Variant::Nft)
    }

    /// Puts these in place of all rules of their tables.
    pub fn restore(&self, family: Family, rules: &str) {
        let mut restore = Command::new(Variant::Nft.tool(family, "-restore"));
        let done = self.lab.pod.run_with_input(&mut restore, rules);
        assert_eq!(done.code, Some(0), "{}\n{rules}", done.err);
    }

    /// What is said of a connection among all rules that are in the kernel.
    pub fn explain_live(&self, connection: &Connection) -> String {
        let mut explain = product();
        explain.args(["explain", "--live", "--format=json"]);
        let done = self.lab.pod.run(explain.args(connection.question()));
        assert!(
            matches!(done.code, Some(0 | 2)),
            "{connection}: {}",
            done.err
        );
        done.out
    }

    /// Makes the connections. Datagrams that arrive by `explain` are waited for.
    pub fn make(&self, connections: &[Connection], explanations: &[Explanation]) -> Vec<Seen> {
        let heard = self.hearers.each_ref().map(|h| h.log().len());
        let mut seen = vec![Seen::default(); connections.len()];
        for place in Place::ALL {
            let of = |i: &usize| connections[*i].place == place;
            let ids: Vec<usize> = (0..connections.len()).filter(of).collect();
            let lines: String = ids
                .iter()
                .map(|i| connections[*i].line(*i, self.next_port()))
                .collect();
            let answers = self.batch(place, &lines);
            assert_eq!(answers.len(), ids.len(), "{place:?}: {answers:?}");
            for (id, answer) in ids.into_iter().zip(answers) {
                seen[id] = Seen::read(&answer);
            }
        }
        let sent = |i: &usize| connections[*i].udp && seen[*i].error.is_empty();
        let datagrams: Vec<usize> = (0..seen.len()).filter(sent).collect();
        self.hear(&heard, &mut seen, explanations, datagrams);
        seen
    }

    /// Asks of some what the rules in the kernel do.
    fn ask(&self, connections: &[Connection], explanations: &[Explanation]) {
        for (connection, explanation) in connections.iter().zip(explanations).take(3) {
            let live = self.explain_live(connection);
            assert!(
                explanation.is_live(&live),
                "{connection}\nexplained {explanation}\nlive {live}"
            );
        }
    }

    /// From 30000 on, where no server is.
    fn next_port(&self) -> u16 {
        30000 + self.port.fetch_add(1, Ordering::Relaxed) % 30000
    }

    fn batch(&self, place: Place, lines: &str) -> Vec<String> {
        if lines.is_empty() {
            return Vec::new();
        }
        let namespace = match place {
            Place::Pod => &self.lab.pod,
            Place::Peer => &self.lab.peer,
            Place::Guest => &self.guest,
        };
        let mut client = lab(ROOT);
        client.args(["batch", "--timeout=3"]);
        let output = namespace.run_with_input(&mut client, lines);
        assert_eq!(output.code, Some(0), "{}\n{lines}", output.err);
        output.out.lines().map(str::to_owned).collect()
    }

    /// Looks who heard these datagrams, until all were heard that arrive by `explain`.
    fn hear(
        &self,
        before: &[usize; 3],
        seen: &mut [Seen],
        explanations: &[Explanation],
        sent: Vec<usize>,
    ) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut silent = sent;
        while !silent.is_empty() {
            for (hearer, before) in self.hearers.iter().zip(before) {
                for line in hearer.log().iter().skip(*before) {
                    let said = line
                        .rsplit_once("said=")
                        .and_then(|(_, id)| id.parse().ok());
                    if let Some(at) = silent.iter().position(|id| Some(*id) == said) {
                        seen[silent.swap_remove(at)] = Seen::read(line);
                    }
                }
            }
            if !silent.iter().any(|id| explanations[*id].arrives()) || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// All that a reader needs to find out why.
    pub fn rules(&self) -> String {
        let dump = "for i in iptables ip6tables; do for v in nft legacy; do $i-$v-save; done; done; \
            nft list ruleset; ip rule; ip -6 rule; ip addr";
        self.lab.pod.sh(&format!("({dump}) 2>&1 | grep -v '^#'"))
    }
}

impl Seen {
    /// From `by=pod:15001 peer=… local=… orig=…`, or `error=…`.
    fn read(line: &str) -> Self {
        let field = |name: &str| {
            let mut fields = line.split(' ').filter_map(|f| f.split_once('='));
            let found = fields.find(|(key, _)| *key == name);
            found.map_or(String::new(), |(_, value)| value.to_owned())
        };
        Seen {
            by: field("by"),
            peer: field("peer"),
            local: field("local"),
            original: field("orig"),
            error: field("error"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            by,
            peer,
            local,
            original,
            error,
        } = self;
        write!(
            f,
            "by={by} peer={peer} local={local} orig={original} error={error}"
        )
    }
}
