//! Every mesh and mode, with rules deleted, swapped and inserted: what changes the fate of some
//! connection is noticed, and nothing else is. `THOROUGH=1` tries all command lines; each takes most of
//! a minute.

use super::probes::{Vantage, derive};
use super::report::{ANY_PORT, Sender};
use super::rules::{Fate, Judgement, Place, judge};
use crate::engine::request::Request;
use crate::mesh::Mesh;
use crate::mesh::config::{Given, Ipv6, Origin, SPECS, Spec};
use crate::netfilter::model::{
    ConnState, Credentials, Entry, Family, FoundSocket, Hook, Interface, Match, Owner, Packet,
    Protocol, Rule, Rules, Side, Target, Test, Tracking,
};
use crate::netfilter::trace::{Link, Network, NextHop, Probe, Start};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

const LINES: [&str; 12] = [
    "nginmesh -p 15001 -u 1337",
    "nginmesh -p 15001 -u 1337 -i 10.0.0.0/8",
    "istio-1.0 -u 1337 -i * -b * -x 198.51.100.0/24",
    "istio-1.0 -u 1337 -i 10.96.0.0/16 -b 80,9080 -m TPROXY",
    "istio -u 1337 -i * -b * -d 15090,15021",
    "istio -u 1337 -i * -b * -o 9000 -x 198.51.100.0/24 --redirect-dns --capture-all-dns",
    "istio -u 1337 -i * -b * --redirect-dns",
    "istio -u 1337 -i 203.0.113.0/24 -b 8080 -q 9000 --drop-invalid",
    "istio -u 1337 -i * -b * -m TPROXY -d 15090",
    "istio -u 1337 -i * -b * --owner-groups 2000,2001 -k tap0 -c eth1",
    "istio -u 1337 -i 127.0.0.0/8,10.0.0.0/8 -b * --owner-groups-exclude 2000",
    "linkerd -o 9000,9100-9102 -x 198.51.100.0/24 -d 4190-4191",
];

/// The port of a foreign rule, which no option names.
const FOREIGN: u16 = 3306;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A pod: eth0 with an address of each family, and a way out.
fn network() -> Network {
    let link = |name: &str, nets: &[&str]| Link {
        name: name.parse().expect("a name"),
        addresses: nets.iter().map(|n| n.parse().expect("a prefix")).collect(),
    };
    let out = |source: &str| NextHop::Out {
        through: Interface::ETH0,
        source: Some(address(source)),
    };
    let route = |net: &str, source| (net.parse().expect("a prefix"), out(source));
    Network {
        links: vec![
            link("lo", &["127.0.0.1/8", "::1/128"]),
            link("eth0", &["10.66.0.2/24", "fd66::2/64"]),
        ],
        routes: vec![route("0.0.0.0/0", "10.66.0.2"), route("::/0", "fd66::2")],
        policy_routes: Vec::new(),
    }
}

/// A mesh, and its options as this program's command line has them.
fn request(line: &str) -> Request {
    let mut words = line.split(' ');
    let mut request = Request {
        mesh: words.next().and_then(Mesh::named),
        ..Request::default()
    };
    while let Some(name) = words.next() {
        let is_it = |spec: &&Spec| {
            let letter = name.strip_prefix('-').and_then(|n| n.parse().ok());
            spec.short == letter && letter.is_some() || name.strip_prefix("--") == Some(spec.long)
        };
        let spec = SPECS.iter().find(is_it).expect(line);
        let value = match spec.value {
            Some(_) => words.next().expect(line),
            None => "true",
        };
        request.options.replace(Given {
            opt: spec.opt,
            value: value.to_owned(),
            origin: Origin::Flag(name.to_owned()),
        });
    }
    request
}

fn desired(line: &str) -> Place {
    let request = request(line);
    let mut facts = request.facts.clone();
    facts.ipv6 = Some(Ipv6 {
        enabled: true,
        on_loopback: true,
        addresses: vec!["fd66::2".parse().expect("an address")],
    });
    let read = |path: &std::path::Path| match path.ends_with("resolv.conf") {
        true => Ok("nameserver 10.96.0.10\nnameserver fd96::10\n"
            .to_owned()
            .into()),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    let ruleset = request.resolve_with(&mut facts, read).expect(line).desired;
    let mut network = network();
    network.policy_routes = ruleset.routing.policy_routes.clone();
    for loopback in &ruleset.routing.loopback_addresses {
        network.add_address(&Interface::LOOPBACK, loopback.0);
    }
    Place {
        rules: Rules::of(&ruleset),
        network,
    }
}

/// What connections differ in, as far as rules could tell them apart.
struct Axes<'a> {
    network: &'a Network,
    ids: BTreeSet<u32>,
    hosts: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    /// Nothing where the kernel picks it.
    sources: BTreeSet<Option<IpAddr>>,
    source_ports: BTreeSet<u16>,
    states: BTreeSet<ConnState>,
    /// Of the packet and of its connection.
    marks: BTreeSet<(u32, u32)>,
    interfaces: Vec<Interface>,
    sockets: Vec<FoundSocket>,
}

impl<'a> Axes<'a> {
    fn of(rules: &Rules, network: &'a Network) -> Self {
        let hosts = [
            "192.0.2.1",
            "10.66.0.2",
            "10.66.0.1",
            "127.0.0.1",
            "127.0.0.6",
            "2001:db8::1",
            "fd66::2",
            "fd66::1",
            "::1",
        ];
        let mut axes = Axes {
            network,
            ids: [1000].into(),
            hosts: hosts.map(address).into(),
            ports: [15002, 53, FOREIGN].into(),
            sources: [None].into(),
            source_ports: [ANY_PORT].into(),
            states: [ConnState::New].into(),
            marks: [(0, 0)].into(),
            interfaces: vec![Interface::ETH0],
            sockets: vec![FoundSocket::None],
        };
        for m in rules.entries().flat_map(Entry::matches) {
            axes.add(&m.test);
        }
        axes
    }

    fn add(&mut self, test: &Test) {
        match test {
            Test::Owner(Owner::Uid(id) | Owner::Gid(id)) => drop(self.ids.insert(*id)),
            Test::Port {
                side: Side::Source,
                ports,
            } => drop(self.source_ports.insert(ports.first())),
            Test::Port { ports, .. } => drop(self.ports.insert(ports.last())),
            Test::Multiport { ports, .. } => {
                self.ports.extend(ports.as_slice().iter().map(|r| r.last()));
            }
            Test::Destination(net) => {
                self.hosts.extend(net.hosts().nth(1).or(net.hosts().next()));
            }
            Test::Source(net) => drop(self.sources.insert(net.hosts().next())),
            Test::ConnState(named) => self.states.extend(named.iter().copied()),
            Test::Mark { value, .. } => drop(self.marks.insert((*value, 0))),
            Test::Connmark { value, .. } => drop(self.marks.insert((0, *value))),
            Test::Socket { .. } => self.sockets = vec![FoundSocket::None, FoundSocket::Plain],
            Test::InInterface(name) if *name != Interface::LOOPBACK => {
                self.interfaces.push(name.clone());
            }
            _ => {}
        }
    }

    /// Every connection: everybody, from and to everywhere, each with at most one thing unusual.
    fn probes(&self) -> Vec<Probe> {
        let ids = || self.ids.iter().copied();
        let users = ids().flat_map(|uid| ids().map(move |gid| Sender::User { uid, gid }));
        let interfaces = self.interfaces.iter().cloned().map(Sender::Interface);
        let senders: Vec<Sender> = users.chain(interfaces).collect();
        let mut probes = Vec::new();
        for (source_port, state, mark) in self.unusual() {
            for to in &self.destinations() {
                for from in &self.sources {
                    for protocol in Protocol::ALL {
                        for sender in &senders {
                            let begun = self.begin(sender, *from, *to, mark.0);
                            probes.extend(begun.into_iter().flat_map(|(start, mut packet)| {
                                packet.protocol = protocol;
                                packet.source.set_port(source_port);
                                let tracking = Tracking::new(state, mark.1);
                                self.sockets.iter().map(move |socket| Probe {
                                    start,
                                    packet: Packet {
                                        socket: *socket,
                                        ..packet.clone()
                                    },
                                    tracking,
                                })
                            }));
                        }
                    }
                }
            }
        }
        probes
    }

    /// Source port, state and marks, at most one of which is not the usual one.
    fn unusual(&self) -> Vec<(u16, ConnState, (u32, u32))> {
        let usual = (ANY_PORT, ConnState::New, (0, 0));
        let ports = self
            .source_ports
            .iter()
            .map(|port| (*port, usual.1, usual.2));
        let states = self.states.iter().map(|state| (usual.0, *state, usual.2));
        let marks = self.marks.iter().map(|mark| (usual.0, usual.1, *mark));
        let all: BTreeSet<_> = ports.chain(states).chain(marks).collect();
        all.into_iter().collect()
    }

    fn destinations(&self) -> Vec<SocketAddr> {
        let of_host = |host: &IpAddr| {
            self.ports
                .iter()
                .map(|port| SocketAddr::new(*host, *port))
                .collect::<Vec<_>>()
        };
        self.hosts.iter().flat_map(of_host).collect()
    }

    /// A packet with these ends, if there can be one.
    fn begin(
        &self,
        sender: &Sender,
        from: Option<IpAddr>,
        to: SocketAddr,
        mark: u32,
    ) -> Option<(Start, Packet)> {
        let next_hop = self.network.route(to.ip(), mark)?;
        let (start, usual) = match (sender, Family::of(to.ip())) {
            (Sender::User { .. }, _) => (Start::Here, self.network.source(to.ip(), &next_hop)?),
            (_, Family::V4) => (Start::Outside, address("192.0.2.1")),
            (_, Family::V6) => (Start::Outside, address("2001:db8::1")),
        };
        let from = from.unwrap_or(usual);
        let is_possible = match start {
            Start::Outside => !to.ip().is_loopback() && !from.is_loopback() && mark == 0,
            Start::Here => {
                self.network.is_own(from) && (!from.is_loopback() || next_hop == NextHop::Local)
            }
        };
        let (in_interface, owner) = match sender {
            Sender::User { uid, gid } => (None, Some(Credentials::new(*uid, *gid))),
            Sender::Interface(name) => (Some(name.clone()), None),
        };
        let packet = Packet {
            in_interface,
            owner,
            mark,
            ..Packet::new(Protocol::Tcp, SocketAddr::new(from, ANY_PORT), to)
        };
        (is_possible && Family::of(from) == Family::of(to.ip())).then_some((start, packet))
    }
}

/// The rules with one changed, and what was done.
fn mutations(rules: &Rules) -> Vec<(String, Rules)> {
    let mut mutations = Vec::new();
    for (t, table) in rules.tables.iter().enumerate() {
        for (c, chain) in table.chains.iter().enumerate() {
            let family = table.family.map_or("both", |f| match f {
                Family::V4 => "4",
                Family::V6 => "6",
            });
            let place = format!("{family} {} {}", table.name, chain.name);
            let mut add = |what: String, change: &dyn Fn(&mut Vec<Entry>)| {
                let mut mutated = rules.clone();
                change(&mut mutated.tables[t].chains[c].rules);
                mutations.push((format!("{place}: {what}"), mutated));
            };
            for (r, rule) in chain.rules.iter().enumerate() {
                let text = rule.text();
                add(format!("deleted {text}"), &|rules| drop(rules.remove(r)));
                if r > 0 {
                    add(format!("moved up {text}"), &|rules| rules.swap(r - 1, r));
                    add(format!("at the head {text}"), &|rules| {
                        rules.insert(0, rule.clone())
                    });
                }
            }
            if chain
                .base
                .is_some_and(|b| matches!(b.hook, Hook::Output | Hook::Prerouting))
            {
                let port = [Match::protocol(Protocol::Tcp), Match::dport(FOREIGN)];
                let foreign = |target| Entry::Known(Rule::without_comment(port.clone(), target));
                for target in [Target::Accept, Target::Redirect { to_port: 9 }] {
                    if table.name == "nat" {
                        let rule = foreign(target);
                        add(format!("foreign {}", rule.text()), &|rules| {
                            rules.insert(0, rule.clone())
                        });
                    }
                }
            }
        }
    }
    mutations
}

/// Whether verify, as root, says that something is wrong.
fn is_noticed(desired: &Place, mutated: &Place, probes: &[Probe]) -> bool {
    let vantage = Vantage {
        network: &mutated.network,
        only: None,
        port: 15002,
    };
    let wrong = |probe: &Probe| {
        let fate = Fate::desired(probe, desired);
        fate.is_some_and(|fate| matches!(judge(probe, fate, mutated), Judgement::Differs { .. }))
    };
    probes.iter().any(wrong)
        || derive(mutated, Some(&desired.rules), &vantage)
            .iter()
            .any(wrong)
}

#[test]
fn what_changes_the_fate_of_a_connection_is_noticed_and_nothing_else_is() {
    let (mut wrong, mut total) = (Vec::new(), 0);
    let is_thorough = std::env::var_os("THOROUGH").is_some();
    for line in LINES.iter().step_by(if is_thorough { 1 } else { 5 }) {
        let desired = desired(line);
        let vantage = Vantage {
            network: &desired.network,
            only: None,
            port: 15002,
        };
        let probes = derive(&desired, None, &vantage);
        assert!(!is_noticed(&desired, &desired, &probes), "{line}");
        let everything = Axes::of(&desired.rules, &desired.network).probes();
        let fates: Vec<_> = everything
            .iter()
            .map(|probe| Fate::desired(probe, &desired))
            .collect();
        for (what, rules) in mutations(&desired.rules) {
            let mutated = Place {
                rules,
                network: desired.network.clone(),
            };
            let mut pairs = everything.iter().zip(&fates);
            let first = pairs.find(|(probe, fate)| **fate != Fate::desired(probe, &mutated));
            total += 1;
            if first.is_some() != is_noticed(&desired, &mutated, &probes) {
                wrong.push(format!("{line}: {what}: {first:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {total}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
