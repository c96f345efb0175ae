//! Which connections are worth trying: pure, from rules and the network that they are in.
//!
//! For each rule a connection is sought whose fate changes if the rule is missing. What the rule asks
//! for, and what leads to it, says how the connection must be; everything else is tried from a short
//! list. Both ends of each range of ports and of each prefix are taken.

use super::report::ANY_PORT;
use super::rules::{Fate, Place};
use crate::netfilter::model::{
    AddressSet, Base, ConnState, Credentials, Entry, Family, Field, FieldTest, FoundSocket, Hook,
    HookedTable, Interface, Match, Owner, Packet, PortRange, Protocol, Rules, Side, Span, Target,
    Test, Tracking, address_of,
};
use crate::netfilter::trace::{Network, Start, Walk, Way, follow};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first id that is given to people and to what they run (`UID_MIN` of login.defs(5)).
const FIRST_ORDINARY_ID: u32 = 1000;

/// How many ways to a rule are looked at, and how many connections on each.
const PATHS: usize = 8;
const TRIES: usize = 2048;

/// How many of the hosts and of the ports that rules name are tried where a rule is about any.
const SAMPLE: usize = 4;

/// How many rules connections are derived from.
pub(super) const RULES: usize = 2000;

/// Uid and gid.
pub(super) type User = (u32, u32);

/// Where connections can be made from.
pub(super) struct Vantage<'a> {
    pub network: &'a Network,
    /// The only user whose sockets can be made.
    pub only: Option<User>,
    /// The port that is tried where rules name none.
    pub port: u16,
}

/// Addresses that connections may go to or come from, so that the routes to them can be looked up.
pub(super) fn addresses(rules: &Rules, network: &Network) -> BTreeSet<IpAddr> {
    let named = matches(rules).flat_map(|m| match &m.test {
        Test::Destination(net) => ends(net).to_vec(),
        Test::DestinationSet(set) => set.as_slice().iter().flat_map(ends).collect(),
        _ => Vec::new(),
    });
    let usual = Family::ALL.into_iter().flat_map(|f| usual(f, network));
    named.chain(usual).chain(Family::ALL.map(nobody)).collect()
}

/// A connection for each rule that makes a difference to one, of the desired ones and of those in the
/// kernel, each once.
pub(super) fn derive_all(desired: &Place, kernel: Option<&Place>, vantage: &Vantage) -> Vec<Walk> {
    let mut walks = derive(desired, None, vantage);
    let others = kernel.map(|place| derive(place, Some(&desired.rules), vantage));
    for walk in others.into_iter().flatten() {
        if !walks.contains(&walk) {
            walks.push(walk);
        }
    }
    walks
}

/// A connection for each rule that makes a difference to one, each once; of the first rules, where
/// there are very many. Chains that `done` has too are left out.
pub(super) fn derive(place: &Place, done: Option<&Rules>, vantage: &Vantage) -> Vec<Walk> {
    let mut search = Search {
        words: Words::of(&place.rules, vantage),
        place,
        changed: Place {
            rules: place.rules.clone(),
            network: place.network.clone(),
        },
        walks: Vec::new(),
    };
    let tables = place.rules.tables.iter().enumerate();
    let chains = tables.flat_map(|(t, table)| (0..table.chains.len()).map(move |c| (t, c)));
    let mut left = RULES;
    let is_done =
        |t: usize, c: usize| done.is_some_and(|done| has(done, &place.rules.tables[t], c));
    for (t, c) in chains.filter(|(t, c)| !is_done(*t, *c)) {
        search.chain(t, c, left);
        search.policy(t, c);
        left = left.saturating_sub(place.rules.tables[t].chains[c].rules.len());
    }
    search.walks
}

/// Whether the rules have this very chain, comments aside.
fn has(rules: &Rules, table: &HookedTable, c: usize) -> bool {
    let chain = &table.chains[c];
    let same = |a: &Entry, b: &Entry| a.matches() == b.matches() && a.target() == b.target();
    let mut tables = rules.tables.iter();
    let table = tables.find(|t| (&t.name, t.family) == (&table.name, table.family));
    let other = table.and_then(|t| t.chains.iter().find(|c| c.name == chain.name));
    other.is_some_and(|other| {
        let pairs = other.rules.iter().zip(&chain.rules);
        other.base == chain.base
            && other.rules.len() == chain.rules.len()
            && pairs
                .into_iter()
                .all(|(a, b)| matches!(b, Entry::Known(_)) && same(a, b))
    })
}

/// The search for connections.
struct Search<'a> {
    words: Words<'a>,
    place: &'a Place,
    /// The same, with one rule missing or two that have changed places.
    changed: Place,
    walks: Vec<Walk>,
}

impl Search<'_> {
    /// Looks for connections that the first rules of a chain make a difference to.
    fn chain(&mut self, t: usize, c: usize, left: usize) {
        let table = &self.place.rules.tables[t];
        let paths = paths(table, c);
        let rules = &table.chains[c].rules;
        for (r, entry) in rules.iter().enumerate().take(left) {
            self.changed.rules.tables[t].chains[c].rules.remove(r);
            for conditions in variants(entry) {
                self.add(table, &paths, Some(entry), &conditions);
            }
            let changed = &mut self.changed.rules.tables[t].chains[c].rules;
            changed.insert(r, entry.clone());
            if let Some(next) = rules
                .get(r + 1)
                .filter(|next| decide_otherwise(entry, next))
            {
                changed.swap(r, r + 1);
                let both = [entry.matches(), next.matches()].concat();
                self.add(table, &paths, Some(entry), &both);
                self.changed.rules.tables[t].chains[c].rules.swap(r, r + 1);
            }
        }
    }

    /// The same for the policy of a base chain that drops.
    fn policy(&mut self, t: usize, c: usize) {
        let table = &self.place.rules.tables[t];
        let accepts = |accepts| table.chains[c].base.map(|base| Base { accepts, ..base });
        if table.chains[c].base == accepts(false) && accepts(false).is_some() {
            self.changed.rules.tables[t].chains[c].base = accepts(true);
            self.add(table, &paths(table, c), None, &[]);
            self.changed.rules.tables[t].chains[c].base = accepts(false);
        }
    }

    /// Adds a connection that fulfils the conditions and to which the change makes a difference.
    fn add(
        &mut self,
        table: &HookedTable,
        paths: &[Path],
        entry: Option<&Entry>,
        conditions: &[Match],
    ) {
        let found = self.words.find(table, paths, conditions, |walk| {
            makes_a_difference(walk, entry, self.place, &self.changed)
        });
        self.walks
            .extend(found.filter(|walk| !self.walks.contains(walk)));
    }
}

/// Whether the order of two rules can matter.
fn decide_otherwise(entry: &Entry, next: &Entry) -> bool {
    entry.target().is_none() || entry.target() != next.target()
}

/// Whether the fate of a connection that meets the rule is another one with the other rules; of a rule
/// that cannot be decoded, whether it is met.
fn makes_a_difference(walk: &Walk, entry: Option<&Entry>, place: &Place, changed: &Place) -> bool {
    let Ok(trace) = follow(walk, &place.rules, &place.network, &[]) else {
        return false;
    };
    let differs = || Fate::desired(walk, changed) != Fate::of(&trace);
    let Some(entry) = entry else {
        return differs();
    };
    let tables = trace.passages.iter().flat_map(|p| &p.tables);
    let mut met = tables
        .flat_map(|t| &t.steps)
        .filter(|step| step.rule == *entry);
    match entry {
        Entry::Known(_) => met.any(|step| step.outcome.effect().is_some()) && differs(),
        _ => met.next().is_some(),
    }
}

/// The conditions of a rule, once for each end of what it names: of a range of ports and of a prefix.
fn variants(entry: &Entry) -> Vec<Vec<Match>> {
    let mut variants: Vec<Vec<Match>> = vec![Vec::new()];
    for m in entry.matches() {
        let exact: Vec<Match> = match &m.test {
            _ if m.not => vec![m.clone()],
            Test::Port { side, ports } => port_ends(*side, [*ports]),
            Test::Multiport { side, ports } => port_ends(*side, ports.as_slice().iter().copied()),
            Test::Destination(net) => ends(net).into_iter().map(Match::destination).collect(),
            Test::DestinationSet(set) => set_ends(set),
            _ => vec![m.clone()],
        };
        // Long lists stand in one rule, or in one dimension of it: no product of them.
        variants = match exact.len() {
            1 => with_each(&variants, &exact),
            _ if variants.len() == 1 => with_each(&variants, &exact),
            _ => with_each(&variants, &exact[..1]),
        };
    }
    let looked_up = entry
        .matches()
        .iter()
        .filter(|m| !m.not)
        .find_map(|m| match &m.test {
            Test::Fields(test) => Some(test),
            _ => None,
        });
    let keys = match entry {
        Entry::Map { map, .. } => Some(&map.keys),
        _ => looked_up,
    };
    let named = keys.map(named).unwrap_or_default();
    let more = named.iter().filter(|n| !n.is_empty());
    let more: Vec<Vec<Match>> = more.map(|n| [variants[0].as_slice(), n].concat()).collect();
    variants.extend(more);
    variants
}

/// What a lookup names, as conditions on one field each: both ends of its first values.
fn named(test: &FieldTest) -> Vec<Vec<Match>> {
    let condition = |field: &Field, value: u128| {
        let test = match field {
            Field::Port(side) => Test::Port {
                side: *side,
                ports: u16::try_from(value).ok()?.into(),
            },
            Field::Address(family, Side::Source) => Test::Source(address_of(*family, value).into()),
            Field::Address(family, Side::Destination) => {
                Test::Destination(address_of(*family, value).into())
            }
            Field::Protocol => Test::Protocol(Protocol::of(u8::try_from(value).ok()?)),
            Field::Uid | Field::OwnerUid => Test::Owner(Owner::Uid(u32::try_from(value).ok()?)),
            Field::Gid | Field::OwnerGid => Test::Owner(Owner::Gid(u32::try_from(value).ok()?)),
            _ => return None,
        };
        Some(Match::new(test))
    };
    let ends = |spans: &Vec<Span>| {
        let pick = |end: fn(&Span) -> u128| {
            let fields = test.fields.iter().zip(spans);
            fields
                .filter_map(|(f, span)| condition(f, end(span)))
                .collect()
        };
        [pick(|span| span.0), pick(|span| span.1)]
    };
    test.values
        .iter()
        .take(SAMPLE * SAMPLE)
        .flat_map(ends)
        .collect()
}

fn with_each(variants: &[Vec<Match>], matches: &[Match]) -> Vec<Vec<Match>> {
    let pairs = variants
        .iter()
        .flat_map(|v| matches.iter().map(move |m| (v, m)));
    pairs
        .map(|(v, m)| [v.as_slice(), std::slice::from_ref(m)].concat())
        .collect()
}

fn port_ends(side: Side, ranges: impl IntoIterator<Item = PortRange>) -> Vec<Match> {
    let ends = ranges.into_iter().flat_map(|r| [r.first(), r.last()]);
    let ends: BTreeSet<u16> = ends.collect();
    let test = |port: u16| Test::Port {
        side,
        ports: port.into(),
    };
    ends.into_iter()
        .map(|port| Match::new(test(port)))
        .collect()
}

fn set_ends(set: &AddressSet) -> Vec<Match> {
    set.as_slice()
        .iter()
        .flat_map(ends)
        .map(Match::destination)
        .collect()
}

/// The first and the last host of a prefix, once if they are one.
fn ends(net: &IpNet) -> Vec<IpAddr> {
    let (first, last) = match (net.network(), net.broadcast(), net.prefix_len()) {
        (IpAddr::V4(first), IpAddr::V4(last), ..=30) => (
            Ipv4Addr::from(u32::from(first) + 1).into(),
            Ipv4Addr::from(u32::from(last) - 1).into(),
        ),
        (IpAddr::V6(first), last, ..=126) => (Ipv6Addr::from(u128::from(first) + 1).into(), last),
        (first, last, _) => (first, last),
    };
    match first == last {
        true => vec![first],
        false => vec![first, last],
    }
}

/// How packets come to a chain: from which hook, and under which conditions.
#[derive(Clone)]
struct Path {
    hook: Hook,
    conditions: Vec<Match>,
}

fn paths(table: &HookedTable, chain: usize) -> Vec<Path> {
    let mut found = Vec::new();
    let mut open = vec![(chain, Vec::new(), 0)];
    while let Some((at, conditions, depth)) = open.pop() {
        let chain = &table.chains[at];
        if let Some(base) = chain.base {
            found.push(Path {
                hook: base.hook,
                conditions: conditions.clone(),
            });
        }
        if found.len() == PATHS || depth == PATHS {
            continue;
        }
        for (from, caller) in table.chains.iter().enumerate().rev() {
            let leads = |entry: &&Entry| match entry.target() {
                Some(Target::Jump(to) | Target::Goto(to)) => *to == chain.name,
                _ => false,
            };
            let callers = caller.rules.iter().filter(leads).take(PATHS);
            open.extend(
                callers.map(|entry| (from, [entry.matches(), &conditions].concat(), depth + 1)),
            );
        }
    }
    found
}

fn matches(rules: &Rules) -> impl Iterator<Item = &Match> {
    let chains = rules.tables.iter().flat_map(|t| &t.chains);
    chains.flat_map(|c| &c.rules).flat_map(Entry::matches)
}

/// What is tried where the conditions leave it open.
struct Words<'a> {
    network: &'a Network,
    users: Vec<User>,
    /// Beside the usual ones.
    hosts: Vec<IpAddr>,
    sources: Vec<IpAddr>,
    ports: Vec<u16>,
    marks: Vec<u32>,
}

impl<'a> Words<'a> {
    fn of(rules: &Rules, vantage: &Vantage<'a>) -> Self {
        let (mut uids, mut gids, mut only_gids) = (BTreeSet::new(), BTreeSet::new(), None);
        let (mut ports, mut marks) = (BTreeSet::new(), BTreeSet::new());
        let (mut hosts, mut sources) = (BTreeSet::new(), BTreeSet::new());
        let mut named_ports = BTreeSet::new();
        for m in matches(rules) {
            match &m.test {
                Test::Owner(Owner::Uid(uid)) => drop(uids.insert(*uid)),
                Test::Owner(Owner::Gid(gid)) => {
                    gids.insert(*gid);
                    only_gids = only_gids.or(m.not.then_some(*gid));
                }
                Test::Port { ports: range, .. } if m.not => drop(ports.insert(range.first())),
                Test::Multiport { ports: set, .. } if m.not => {
                    ports.extend(set.as_slice().iter().map(|r| r.first()));
                }
                Test::Port {
                    side: Side::Destination,
                    ports: range,
                } => drop(named_ports.insert(range.first())),
                Test::Destination(net) => hosts.extend(ends(net).first()),
                Test::DestinationSet(set) => {
                    hosts.extend(set.as_slice().iter().flat_map(ends).next())
                }
                Test::Source(net) => sources.extend(ends(net).first()),
                Test::Mark { value, .. } | Test::Connmark { value, .. } => {
                    marks.insert(*value);
                }
                _ => {}
            }
        }
        let free = |taken: &BTreeSet<u32>| (FIRST_ORDINARY_ID..).find(|id| !taken.contains(id));
        let app = (
            free(&uids).unwrap_or_default(),
            free(&gids).unwrap_or_default(),
        );
        let users = [app].into_iter().chain(only_gids.map(|gid| (app.0, gid)));
        let users = users.chain(uids.iter().map(|uid| (*uid, app.1)));
        let users = users.chain(gids.iter().map(|gid| (app.0, *gid)));
        let both = uids
            .iter()
            .flat_map(|uid| gids.iter().map(|gid| (*uid, *gid)));
        let users = users.chain(both.take(SAMPLE * SAMPLE));
        Words {
            network: vantage.network,
            users: match vantage.only {
                Some(user) => vec![user],
                None => users.collect(),
            },
            hosts: Family::ALL
                .into_iter()
                .flat_map(|f| {
                    hosts
                        .iter()
                        .copied()
                        .filter(move |h| Family::of(*h) == f)
                        .take(SAMPLE)
                })
                .collect(),
            sources: sources.into_iter().take(SAMPLE).collect(),
            ports: [vantage.port]
                .into_iter()
                .chain(ports)
                .chain(named_ports.into_iter().take(SAMPLE))
                .collect(),
            marks: [0].into_iter().chain(marks).collect(),
        }
    }

    /// The first connection that passes, of those that come to a chain by some path and fulfil the
    /// conditions, as far as that can be had by choice.
    fn find(
        &self,
        table: &HookedTable,
        paths: &[Path],
        conditions: &[Match],
        passes: impl Fn(&Walk) -> bool,
    ) -> Option<Walk> {
        paths.iter().find_map(|path| {
            let conditions = Conditions([path.conditions.as_slice(), conditions].concat());
            let families = table.family.map_or(Family::ALL.to_vec(), |f| vec![f]);
            let starts: &[Start] = match path.hook {
                Hook::Output | Hook::Postrouting => &[Start::Here],
                Hook::Forward => &[Start::Outside],
                Hook::Prerouting | Hook::Input => &[Start::Outside, Start::Here],
            };
            let mut ways = families
                .iter()
                .flat_map(|f| starts.iter().map(move |s| (*s, *f)));
            let mut tries = 0;
            let mut stops = |walk: &Walk| {
                tries += 1;
                tries > TRIES || passes(walk)
            };
            let found = ways
                .find_map(|(start, family)| self.try_all(start, family, &conditions, &mut stops));
            found.filter(|_| tries <= TRIES)
        })
    }

    /// What is unusual comes last: marks, then sources, then destinations, then protocols and ports.
    fn try_all(
        &self,
        start: Start,
        family: Family,
        c: &Conditions,
        stops: &mut dyn FnMut(&Walk) -> bool,
    ) -> Option<Walk> {
        let states = c.find(|t| match t {
            Test::ConnState(states) => Some(states.clone()),
            _ => None,
        });
        let states = states.unwrap_or_else(|| vec![ConnState::New]);
        let ports = c
            .port(Side::Destination)
            .map_or(self.ports.clone(), |p| vec![p]);
        let protocols = c
            .protocol()
            .map_or(vec![Protocol::Tcp, Protocol::Udp], |p| vec![p]);
        let mut packets = Vec::new();
        for destination in self.destinations(start, family, c) {
            for protocol in &protocols {
                for port in &ports {
                    let to = SocketAddr::new(destination, *port);
                    packets.extend(states.iter().map(|state| (*protocol, to, *state)));
                }
            }
        }
        for mark in self.marks(c) {
            for source in self.sources(family, c) {
                for (protocol, to, state) in &packets {
                    for user in self.senders(start, c) {
                        for interface in self.interfaces(start, to.ip(), c) {
                            let begin = Begin {
                                start,
                                interface,
                                user,
                                mark,
                                source,
                            };
                            let walk = self.walk(begin, *protocol, *to, *state, c);
                            if let Some(walk) =
                                walk.filter(|walk| c.hold_at_first(walk) && stops(walk))
                            {
                                return Some(walk);
                            }
                        }
                    }
                }
            }
        }
        None
    }

    /// Nothing where the kernel picks it.
    fn sources(&self, family: Family, c: &Conditions) -> Vec<Option<IpAddr>> {
        match c.source(family) {
            Some(source) => vec![Some(source)],
            None => [None]
                .into_iter()
                .chain(self.sources.iter().copied().map(Some))
                .collect(),
        }
    }

    /// What comes from outside goes to an address of this host first.
    fn destinations(&self, start: Start, family: Family, c: &Conditions) -> Vec<IpAddr> {
        let named = c.destination();
        let any = || [usual(family, self.network), self.hosts.clone()].concat();
        let mut all = named.map_or_else(any, |d| vec![d]);
        all.retain(|d| Family::of(*d) == family);
        if start == Start::Outside {
            all.sort_by_key(|d| !self.network.is_own(*d));
        }
        all
    }

    /// Marks of a packet and of its connection.
    fn marks(&self, c: &Conditions) -> Vec<(u32, u32)> {
        let packet = c.find(|t| match t {
            Test::Mark { value, .. } => Some(*value),
            _ => None,
        });
        let connection = c.find(|t| match t {
            Test::Connmark { value, .. } => Some(*value),
            _ => None,
        });
        match (packet, connection) {
            (None, None) => self.marks.iter().map(|mark| (*mark, 0)).collect(),
            (packet, connection) => vec![(packet.unwrap_or(0), connection.unwrap_or(0))],
        }
    }

    fn senders(&self, start: Start, c: &Conditions) -> Vec<Option<User>> {
        if start == Start::Outside {
            return vec![None];
        }
        let fits = |(uid, gid): &&User| {
            c.0.iter().all(|m| match m.test {
                Test::Owner(Owner::Uid(id)) => (id == *uid) != m.not,
                Test::Owner(Owner::Gid(id)) => (id == *gid) != m.not,
                _ => true,
            })
        };
        self.users.iter().filter(fits).copied().map(Some).collect()
    }

    fn interfaces(&self, start: Start, to: IpAddr, c: &Conditions) -> Vec<Option<Interface>> {
        if start == Start::Here {
            return vec![None];
        }
        let named = c.find(|t| match t {
            Test::InInterface(name) => Some(name.clone()),
            _ => None,
        });
        let real = |name: Interface| match name.prefix() {
            Some(prefix) => format!("{prefix}0").parse().unwrap_or(name),
            None => name,
        };
        match named {
            Some(name) if name == Interface::LOOPBACK => Vec::new(),
            Some(name) => vec![Some(real(name))],
            None => {
                let outside = |l: &&crate::netfilter::trace::Link| l.name != Interface::LOOPBACK;
                let has = self
                    .network
                    .interface_of(to)
                    .filter(|n| **n != Interface::LOOPBACK);
                let first = || self.network.links.iter().find(outside).map(|l| &l.name);
                has.or_else(first).cloned().map(Some).into_iter().collect()
            }
        }
    }

    fn walk(
        &self,
        begin: Begin,
        protocol: Protocol,
        to: SocketAddr,
        state: ConnState,
        c: &Conditions,
    ) -> Option<Walk> {
        let source = match (begin.source, begin.start) {
            (Some(source), _) => source,
            (None, Start::Here) => {
                let way = self.network.route(to.ip(), begin.mark.0)?;
                self.network.source(to.ip(), &way)?
            }
            (None, Start::Outside) => nobody(Family::of(to.ip())),
        };
        if begin.start == Start::Here && !self.network.is_own(source) {
            return None;
        }
        if Family::of(source) != Family::of(to.ip()) {
            return None;
        }
        // Nobody outside sends to or from loopback.
        let outside = begin.start == Start::Outside;
        if outside && (to.ip().is_loopback() || source.is_loopback()) {
            return None;
        }
        // What is sent from loopback stays here.
        if source.is_loopback() && self.network.route(to.ip(), begin.mark.0) != Some(Way::Here) {
            return None;
        }
        let sport = c.port(Side::Source).unwrap_or(ANY_PORT);
        Some(Walk {
            start: begin.start,
            packet: Packet {
                in_interface: begin.interface,
                owner: begin.user.map(|(uid, gid)| Credentials::new(uid, gid)),
                mark: if outside { 0 } else { begin.mark.0 },
                socket: c.socket(),
                ..Packet::new(protocol, SocketAddr::new(source, sport), to)
            },
            tracking: Tracking::new(state, begin.mark.1),
        })
    }
}

/// How a connection begins.
struct Begin {
    start: Start,
    interface: Option<Interface>,
    user: Option<User>,
    mark: (u32, u32),
    source: Option<IpAddr>,
}

/// What must hold for a rule to be met and to apply.
struct Conditions(Vec<Match>);

impl Conditions {
    /// The last condition that says something positive about it.
    fn find<T>(&self, what: impl Fn(&Test) -> Option<T>) -> Option<T> {
        let positive = self.0.iter().rev().filter(|m| !m.not);
        positive.filter_map(|m| what(&m.test)).next()
    }

    /// Whether those hold that are about what no rule of a mesh changes on the way.
    fn hold_at_first(&self, walk: &Walk) -> bool {
        let local = walk.start == Start::Here;
        self.0.iter().all(|m| match m.test {
            Test::Source(_) | Test::Destination(_) | Test::Port { .. } | Test::Multiport { .. } => {
                m.holds(&walk.packet)
            }
            Test::Owner(_) if local => m.holds(&walk.packet),
            _ => true,
        })
    }

    fn port(&self, wanted: Side) -> Option<u16> {
        self.find(|t| match t {
            Test::Port { side, ports } if *side == wanted => Some(ports.first()),
            Test::Multiport { side, ports } if *side == wanted => {
                ports.as_slice().first().map(|r| r.first())
            }
            _ => None,
        })
    }

    fn protocol(&self) -> Option<Protocol> {
        self.find(|t| match t {
            Test::Protocol(protocol) => Some(*protocol),
            _ => None,
        })
    }

    fn destination(&self) -> Option<IpAddr> {
        self.find(|t| match t {
            Test::Destination(net) => ends(net).first().copied(),
            Test::DestinationSet(set) => set.as_slice().iter().flat_map(ends).next(),
            _ => None,
        })
    }

    fn source(&self, family: Family) -> Option<IpAddr> {
        self.find(|t| match t {
            Test::Source(net) if Family::of(net.addr()) == family => ends(net).first().copied(),
            _ => None,
        })
    }

    fn socket(&self) -> FoundSocket {
        let found = self.find(|t| match t {
            Test::Socket { transparent: true } => Some(FoundSocket::Transparent),
            Test::Socket { transparent: false } => Some(FoundSocket::Plain),
            _ => None,
        });
        found.unwrap_or(FoundSocket::None)
    }
}

/// An address that nobody has: those of RFC 5737 and RFC 3849, for documentation.
fn nobody(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Destinations of every kind: elsewhere, beside, here, and loopback, of which IPv4 has more than the
/// one address that everybody uses.
fn usual(family: Family, network: &Network) -> Vec<IpAddr> {
    let of_family = |net: &&IpNet| Family::of(net.addr()) == family;
    let others = network
        .links
        .iter()
        .filter(|l| l.name != Interface::LOOPBACK);
    let own: Vec<&IpNet> = others
        .flat_map(|l| l.addresses.iter().find(of_family))
        .collect();
    let beside = own.iter().filter_map(|net| {
        let mut hosts = ends(net).into_iter();
        hosts.find(|host| !network.is_own(*host))
    });
    let loopback: &[IpAddr] = match family {
        Family::V4 => &[
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        ],
        Family::V6 => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
    };
    let reachable = network.route(nobody(family), 0).is_some() || own.is_empty();
    let far = reachable.then(|| nobody(family));
    let beside: Vec<IpAddr> = beside.collect();
    far.into_iter()
        .chain(beside)
        .chain(own.iter().map(|net| net.addr()))
        .chain(loopback.iter().copied())
        .collect()
}
