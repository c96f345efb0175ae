//! What is tried where the conditions leave it open.

use super::conditions::Conditions;
use super::ends::ends;
use super::paths::Path;
use super::{SAMPLE, User, Vantage};
use crate::actions::verify::report::{ANY_PORT, Sender};
use crate::netfilter::model::{
    ConnState, Credentials, Entry, Family, FoundSocket, Hook, Interface, Match, Owner, Packet,
    Protocol, Rules, Side, Test, Tracking,
};
use crate::netfilter::trace::{Network, NextHop, Probe, Start};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first id that is given to people and to what they run (`UID_MIN` of login.defs(5)).
const FIRST_ORDINARY_ID: u32 = 1000;

/// What connections are made of.
pub(super) struct Candidates<'a> {
    network: &'a Network,
    users: Vec<User>,
    /// Beside the usual ones.
    hosts: Vec<IpAddr>,
    sources: Vec<IpAddr>,
    ports: Vec<u16>,
    marks: Vec<u32>,
}

/// Where a connection goes, and what conntrack knows of it.
#[derive(Clone, Copy)]
struct Header {
    protocol: Protocol,
    to: SocketAddr,
    state: ConnState,
}

/// Of a packet and of its connection.
#[derive(Clone, Copy)]
struct Marks {
    packet: u32,
    connection: u32,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(rules: &Rules, vantage: &Vantage<'a>) -> Self {
        let mut named = Named::default();
        let matches = rules.entries().flat_map(Entry::matches);
        matches.for_each(|m| named.add(m));
        let users = vantage.only.map(|user| vec![user]);
        let of_family = |family| {
            let hosts = named.hosts.iter().copied();
            hosts.filter(move |host| Family::of(*host) == family)
        };
        let hosts = Family::ALL.map(|family| of_family(family).take(SAMPLE));
        let ports = [vantage.port]
            .into_iter()
            .chain(named.negated_ports.iter().copied());
        Candidates {
            network: vantage.network,
            users: users.unwrap_or_else(|| named.users()),
            hosts: hosts.into_iter().flatten().collect(),
            sources: named.sources.into_iter().take(SAMPLE).collect(),
            ports: ports.chain(named.ports.into_iter().take(SAMPLE)).collect(),
            marks: [0].into_iter().chain(named.marks).collect(),
        }
    }

    /// All connections that come to a chain by the path and fulfil the conditions at first.
    pub(super) fn probes<'s>(
        &'s self,
        path: &Path,
        c: &'s Conditions,
    ) -> impl Iterator<Item = Probe> + 's {
        let starts: &[Start] = match path.hook {
            Hook::Output | Hook::Postrouting => &[Start::Here],
            Hook::Forward => &[Start::Outside],
            Hook::Prerouting | Hook::Input => &[Start::Outside, Start::Here],
        };
        let families = path.family.map_or(Family::ALL.to_vec(), |f| vec![f]);
        let probes = families.into_iter().flat_map(move |family| {
            let probes = move |start: &Start| self.of_family(*start, family, c);
            starts.iter().flat_map(probes)
        });
        probes.filter(|probe| c.hold_at_first(probe))
    }

    /// What is unusual comes last: marks, then sources, then destinations, then protocols and ports.
    fn of_family<'s>(
        &'s self,
        start: Start,
        family: Family,
        c: &'s Conditions,
    ) -> impl Iterator<Item = Probe> + 's {
        let headers = self.headers(start, family, c);
        let sources = self.sources(c);
        let with_source = move |marks: Marks| sources.clone().into_iter().map(move |s| (marks, s));
        let origins = self.marks(c).into_iter().flat_map(with_source);
        origins.flat_map(move |(marks, source)| {
            headers.clone().into_iter().flat_map(move |header| {
                let senders = self.senders(start, header.to.ip(), c).into_iter();
                senders.filter_map(move |sender| self.probe(sender, source, header, marks, c))
            })
        })
    }

    fn headers(&self, start: Start, family: Family, c: &Conditions) -> Vec<Header> {
        let states = c.states.clone().unwrap_or_else(|| vec![ConnState::New]);
        let ports = c.destination_port.map_or(self.ports.clone(), |p| vec![p]);
        let protocols = c
            .protocol
            .map_or(vec![Protocol::Tcp, Protocol::Udp], |p| vec![p]);
        let mut headers = Vec::new();
        for destination in self.destinations(start, family, c) {
            for protocol in protocols.iter().copied() {
                for to in ports.iter().map(|port| SocketAddr::new(destination, *port)) {
                    headers.extend(states.iter().map(|state| Header {
                        protocol,
                        to,
                        state: *state,
                    }));
                }
            }
        }
        headers
    }

    /// What comes from outside goes to an address of this host first.
    fn destinations(&self, start: Start, family: Family, c: &Conditions) -> Vec<IpAddr> {
        let any = || [usual(family, self.network), self.hosts.clone()].concat();
        let mut all = c.destination.map_or_else(any, |d| vec![d]);
        all.retain(|d| Family::of(*d) == family);
        if start == Start::Outside {
            all.sort_by_key(|d| !self.network.is_own(*d));
        }
        all
    }

    /// Nothing where the kernel picks it.
    fn sources(&self, c: &Conditions) -> Vec<Option<IpAddr>> {
        let any = || {
            let named = self.sources.iter().copied().map(Some);
            [None].into_iter().chain(named).collect()
        };
        c.source.map_or_else(any, |source| vec![Some(source)])
    }

    fn marks(&self, c: &Conditions) -> Vec<Marks> {
        let marks = |packet, connection| Marks { packet, connection };
        match (c.mark, c.connection_mark) {
            (None, None) => self.marks.iter().map(|mark| marks(*mark, 0)).collect(),
            (packet, connection) => vec![marks(packet.unwrap_or(0), connection.unwrap_or(0))],
        }
    }

    fn senders(&self, start: Start, to: IpAddr, c: &Conditions) -> Vec<Sender> {
        match start {
            Start::Here => {
                let users = self.users.iter().filter(|user| c.admit(**user));
                users
                    .map(|(uid, gid)| Sender::User {
                        uid: *uid,
                        gid: *gid,
                    })
                    .collect()
            }
            Start::Outside => {
                let interface = self.interface(to, c).into_iter();
                interface.map(Sender::Interface).collect()
            }
        }
    }

    /// An interface through which packets to the address may come in.
    fn interface(&self, to: IpAddr, c: &Conditions) -> Option<Interface> {
        let is_outside = |name: &&Interface| **name != Interface::LOOPBACK;
        match &c.interface {
            Some(name) => Some(name)
                .filter(is_outside)
                .map(|name| match name.prefix() {
                    Some(prefix) => format!("{prefix}0").parse().unwrap_or(name.clone()),
                    None => name.clone(),
                }),
            None => {
                let has = self.network.interface_of(to).filter(is_outside);
                let first = || self.network.links.iter().map(|l| &l.name).find(is_outside);
                has.or_else(first).cloned()
            }
        }
    }

    /// The connection, if there can be one.
    fn probe(
        &self,
        sender: Sender,
        source: Option<IpAddr>,
        header: Header,
        marks: Marks,
        c: &Conditions,
    ) -> Option<Probe> {
        let to = header.to.ip();
        let (owner, in_interface, mark, source) = match sender {
            Sender::User { uid, gid } => {
                let owner = Credentials::new(uid, gid);
                let source = self.source_from_here(source, to, marks.packet)?;
                (Some(owner), None, marks.packet, source)
            }
            Sender::Interface(name) => (None, Some(name), 0, source_from_outside(source, to)?),
        };
        let sport = c.source_port.unwrap_or(ANY_PORT);
        (Family::of(source) == Family::of(to)).then(|| Probe {
            start: match owner {
                Some(_) => Start::Here,
                None => Start::Outside,
            },
            packet: Packet {
                in_interface,
                owner,
                mark,
                socket: c.socket.unwrap_or(FoundSocket::None),
                ..Packet::new(header.protocol, SocketAddr::new(source, sport), header.to)
            },
            tracking: Tracking::new(header.state, marks.connection),
        })
    }

    /// An address of this host; what is sent from loopback stays here.
    fn source_from_here(&self, source: Option<IpAddr>, to: IpAddr, mark: u32) -> Option<IpAddr> {
        let route = self.network.route(to, mark);
        let source = source.or_else(|| self.network.source(to, route.as_ref()?))?;
        let leaves_loopback = source.is_loopback() && route != Some(NextHop::Local);
        (self.network.is_own(source) && !leaves_loopback).then_some(source)
    }
}

/// No other host sends to or from loopback.
fn source_from_outside(source: Option<IpAddr>, to: IpAddr) -> Option<IpAddr> {
    let source = source.unwrap_or_else(|| unused(Family::of(to)));
    (!to.is_loopback() && !source.is_loopback()).then_some(source)
}

/// What rules name.
#[derive(Default)]
struct Named {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
    negated_gid: Option<u32>,
    ports: BTreeSet<u16>,
    negated_ports: BTreeSet<u16>,
    hosts: BTreeSet<IpAddr>,
    sources: BTreeSet<IpAddr>,
    marks: BTreeSet<u32>,
}

impl Named {
    fn add(&mut self, m: &Match) {
        match &m.test {
            Test::Owner(Owner::Uid(uid)) => drop(self.uids.insert(*uid)),
            Test::Owner(Owner::Gid(gid)) => {
                self.gids.insert(*gid);
                self.negated_gid = self.negated_gid.or(m.not.then_some(*gid));
            }
            Test::Port { ports, .. } if m.not => drop(self.negated_ports.insert(ports.first())),
            Test::Multiport { ports, .. } if m.not => {
                let first = ports.as_slice().iter().map(|r| r.first());
                self.negated_ports.extend(first);
            }
            Test::Port {
                side: Side::Destination,
                ports,
            } => drop(self.ports.insert(ports.first())),
            Test::Destination(net) => self.hosts.extend(ends(net).first()),
            Test::DestinationSet(set) => {
                self.hosts
                    .extend(set.as_slice().iter().flat_map(ends).next());
            }
            Test::Source(net) => self.sources.extend(ends(net).first()),
            Test::Mark { value, .. } | Test::Connmark { value, .. } => {
                self.marks.insert(*value);
            }
            _ => {}
        }
    }

    /// One that no rule names first, then those that some rule names, alone and together.
    fn users(&self) -> Vec<User> {
        let free = |taken: &BTreeSet<u32>| (FIRST_ORDINARY_ID..).find(|id| !taken.contains(id));
        let [uid, gid] = [&self.uids, &self.gids].map(|ids| free(ids).unwrap_or_default());
        let uids = self.uids.iter();
        let both = uids.flat_map(|uid| self.gids.iter().map(move |gid| (*uid, *gid)));
        [(uid, gid)]
            .into_iter()
            .chain(self.negated_gid.map(|gid| (uid, gid)))
            .chain(self.uids.iter().map(|uid| (*uid, gid)))
            .chain(self.gids.iter().map(|gid| (uid, *gid)))
            .chain(both.take(SAMPLE * SAMPLE))
            .collect()
    }
}

/// An address that no host has: those of RFC 5737 and RFC 3849, for documentation.
pub(super) fn unused(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Destinations of every kind: elsewhere, beside, here, and loopback, of which IPv4 has more than the
/// one address that everybody uses.
pub(super) fn usual(family: Family, network: &Network) -> Vec<IpAddr> {
    let links = network.links.iter();
    let others = links.filter(|link| link.name != Interface::LOOPBACK);
    let of_family = |net: &&IpNet| Family::of(net.addr()) == family;
    let own: Vec<&IpNet> = others
        .flat_map(|link| link.addresses.iter().find(of_family))
        .collect();
    let neighbour = |net: &&IpNet| ends(net).into_iter().find(|host| !network.is_own(*host));
    let loopback: &[IpAddr] = match family {
        Family::V4 => &[
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        ],
        Family::V6 => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
    };
    let is_reachable = network.route(unused(family), 0).is_some() || own.is_empty();
    let far = is_reachable.then(|| unused(family));
    far.into_iter()
        .chain(own.iter().filter_map(neighbour))
        .chain(own.iter().map(|net| net.addr()))
        .chain(loopback.iter().copied())
        .collect()
}
