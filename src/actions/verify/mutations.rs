//! Every mesh and mode, with rules deleted, swapped and inserted: what changes the fate of some
//! connection is noticed, and nothing else is. `THOROUGH=1` tries all command lines; each takes most of
//! a minute.

use super::probes::{User, Vantage, derive};
use super::report::ANY_PORT;
use super::rules::{Fate, Judged, Place, judge};
use crate::frontend::cli;
use crate::mesh::config::{Environment, Ipv6};
use crate::netfilter::model::{
    ConnState, Credentials, Entry, Family, FoundSocket, Hook, Interface, Match, Owner, Packet,
    Protocol, Rule, Rules, Side, Target, Test, Tracking,
};
use crate::netfilter::trace::{Link, Network, Start, Walk, Way};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

const LINES: [&str; 12] = [
    "--mesh nginmesh -p 15001 -u 1337",
    "--mesh nginmesh -p 15001 -u 1337 -i 10.0.0.0/8",
    "--mesh istio-1.0 -u 1337 -i * -b * -x 198.51.100.0/24",
    "--mesh istio-1.0 -u 1337 -i 10.96.0.0/16 -b 80,9080 -m TPROXY",
    "--mesh istio -u 1337 -i * -b * -d 15090,15021",
    "--mesh istio -u 1337 -i * -b * -o 9000 -x 198.51.100.0/24 --redirect-dns --capture-all-dns",
    "--mesh istio -u 1337 -i * -b * --redirect-dns",
    "--mesh istio -u 1337 -i 203.0.113.0/24 -b 8080 -q 9000 --drop-invalid",
    "--mesh istio -u 1337 -i * -b * -m TPROXY -d 15090",
    "--mesh istio -u 1337 -i * -b * --owner-groups 2000,2001 -k tap0 -c eth1",
    "--mesh istio -u 1337 -i 127.0.0.0/8,10.0.0.0/8 -b * --owner-groups-exclude 2000",
    "--mesh linkerd -o 9000,9100-9102 -x 198.51.100.0/24 -d 4190-4191",
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
    let out = |source: &str| Way::Out {
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

fn desired(line: &str) -> Place {
    let args = std::iter::once("prepare-proxy")
        .chain(line.split(' '))
        .map(Into::into);
    let args: Vec<_> = args.collect();
    let request = cli::parse(&args, &Environment::new()).expect(line).request;
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

/// Every connection that rules could tell apart: everybody, from and to everywhere.
fn everything(rules: &Rules, network: &Network) -> Vec<Walk> {
    let entries = rules
        .tables
        .iter()
        .flat_map(|t| &t.chains)
        .flat_map(|c| &c.rules);
    let tests: Vec<&Test> = entries.flat_map(Entry::matches).map(|m| &m.test).collect();
    let mut ids = BTreeSet::from([1000]);
    let mut ports = BTreeSet::from([15002, 53, FOREIGN]);
    let (mut sports, mut marks) = (BTreeSet::from([ANY_PORT]), BTreeSet::from([(0, 0)]));
    let mut states = BTreeSet::from([ConnState::New]);
    let mut hosts: BTreeSet<IpAddr> = [
        "192.0.2.1",
        "10.66.0.2",
        "10.66.0.1",
        "127.0.0.1",
        "127.0.0.6",
        "2001:db8::1",
        "fd66::2",
        "fd66::1",
        "::1",
    ]
    .map(address)
    .into();
    let mut sockets = BTreeSet::from([false]);
    let mut sources = BTreeSet::from([None]);
    let mut interfaces = BTreeSet::from([Some("eth0")]);
    for test in tests {
        match test {
            Test::Owner(Owner::Uid(id) | Owner::Gid(id)) => drop(ids.insert(*id)),
            Test::Port {
                side: Side::Source,
                ports,
            } => drop(sports.insert(ports.first())),
            Test::Port { ports: range, .. } => drop(ports.insert(range.last())),
            Test::Multiport { ports: set, .. } => {
                ports.extend(set.as_slice().iter().map(|r| r.last()));
            }
            Test::Destination(net) => {
                hosts.extend(net.hosts().nth(1).or(net.hosts().next()));
            }
            Test::Source(net) => drop(sources.insert(net.hosts().next())),
            Test::ConnState(named) => states.extend(named.iter().copied()),
            Test::Mark { value, .. } => drop(marks.insert((*value, 0))),
            Test::Connmark { value, .. } => drop(marks.insert((0, *value))),
            Test::Socket { .. } => drop(sockets.insert(true)),
            Test::InInterface(name) if *name != Interface::LOOPBACK => {
                interfaces.insert(Some(name.as_str()));
            }
            _ => {}
        }
    }
    let users = ids
        .iter()
        .flat_map(|uid| ids.iter().map(move |gid| Some((*uid, *gid))));
    let users: Vec<Option<User>> = users.chain([None]).collect();
    let mut walks = Vec::new();
    for user in users {
        for to in &hosts {
            for from in &sources {
                for port in &ports {
                    for sport in &sports {
                        for protocol in Protocol::ALL {
                            for state in &states {
                                for mark in &marks {
                                    let unusual = [
                                        *sport != ANY_PORT,
                                        *state != ConnState::New,
                                        *mark != (0, 0),
                                    ];
                                    if unusual.iter().filter(|u| **u).count() > 1 {
                                        continue;
                                    }
                                    for interface in &interfaces {
                                        let interface = interface.filter(|_| user.is_none());
                                        let ends = (*from, *sport, SocketAddr::new(*to, *port));
                                        let walk = begin(
                                            user, ends, protocol, *state, *mark, interface, network,
                                        );
                                        walks.extend(sockets.iter().flat_map(|socket| {
                                            let mut walk = walk.clone()?;
                                            if *socket {
                                                walk.packet.socket = FoundSocket::Plain;
                                            }
                                            Some(walk)
                                        }));
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    walks
}

fn begin(
    user: Option<User>,
    (from, sport, to): (Option<IpAddr>, u16, SocketAddr),
    protocol: Protocol,
    state: ConnState,
    mark: (u32, u32),
    interface: Option<&str>,
    network: &Network,
) -> Option<Walk> {
    let outside = user.is_none();
    let way = network.route(to.ip(), mark.0)?;
    let usual = match (outside, Family::of(to.ip())) {
        (true, Family::V4) => address("192.0.2.1"),
        (true, Family::V6) => address("2001:db8::1"),
        (false, _) => network.source(to.ip(), &way)?,
    };
    let from = from.unwrap_or(usual);
    let possible = match outside {
        true => !to.ip().is_loopback() && !from.is_loopback() && mark.0 == 0,
        false => network.is_own(from) && (!from.is_loopback() || way == Way::Here),
    };
    let possible = possible && Family::of(from) == Family::of(to.ip());
    possible.then(|| Walk {
        start: match outside {
            true => Start::Outside,
            false => Start::Here,
        },
        packet: Packet {
            in_interface: interface.map(|n| n.parse().expect("a name")),
            owner: user.map(|(uid, gid)| Credentials::new(uid, gid)),
            mark: mark.0,
            ..Packet::new(protocol, SocketAddr::new(from, sport), to)
        },
        tracking: Tracking::new(state, mark.1),
    })
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
fn is_noticed(desired: &Place, mutated: &Place, walks: &[Walk]) -> bool {
    let vantage = Vantage {
        network: &mutated.network,
        only: None,
        port: 15002,
    };
    let wrong = |walk: &Walk| {
        let fate = Fate::desired(walk, desired);
        fate.is_some_and(|fate| matches!(judge(walk, fate, mutated), Judged::Otherwise { .. }))
    };
    walks.iter().any(wrong)
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
        let walks = derive(&desired, None, &vantage);
        assert!(!is_noticed(&desired, &desired, &walks), "{line}");
        let everything = everything(&desired.rules, &desired.network);
        let fates: Vec<_> = everything
            .iter()
            .map(|walk| Fate::desired(walk, &desired))
            .collect();
        for (what, rules) in mutations(&desired.rules) {
            let mutated = Place {
                rules,
                network: desired.network.clone(),
            };
            let mut pairs = everything.iter().zip(&fates);
            let first = pairs.find(|(walk, fate)| **fate != Fate::desired(walk, &mutated));
            total += 1;
            if first.is_some() != is_noticed(&desired, &mutated, &walks) {
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
