//! Which connections are worth trying: pure, from what the rules ask about and the addresses that
//! are here.
//!
//! Rules differ in whom they ask for, and in which destinations and ports: so everybody they name,
//! and the app, whom they do not, connects to the outside, to an address of its own, to explicit
//! loopback, and to what the rules name.

use super::place;
use super::socket::User;
use crate::engine::error::Error;
use crate::netfilter::model::{
    ConnState, Connection, Credentials, Family, FoundSocket, Interface, Owner, Packet, Protocol,
    Rule, Ruleset, Side, Test, Tracking,
};
use crate::netfilter::trace::{Network, Start, Walk};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How many of the prefixes, of the ports and of the owners that the rules name are tried: what
/// holds for some holds for all, and a list may have thousands.
const SAMPLE: usize = 4;

/// The first id that is given to people and to what they run (`UID_MIN` of login.defs(5)).
const FIRST_ORDINARY_ID: u32 = 1000;

const DNS: u16 = 53;

/// Who connects to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) user: User,
    pub(super) protocol: Protocol,
    pub(super) to: SocketAddr,
}

/// What is known of the place where connections are tried.
pub(super) struct Place {
    /// Addresses of this namespace that others can reach.
    pub(super) own: Vec<IpAddr>,
    /// Whom sockets can belong to.
    pub(super) users: Users,
    /// The port that nobody in particular uses: Istio's `--iptables-probe-port`.
    pub(super) port: u16,
}

/// Whose sockets can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Users {
    Everybody,
    Only(User),
}

/// Stands for any port that the kernel picks for whoever connects (`ip_local_port_range`).
pub(super) const ANY_PORT: u16 = 50000;

/// Connections, and the network that they are made in.
pub(super) struct Probes {
    pub walks: Vec<Walk>,
    pub network: Network,
}

/// What is to be tried.
pub(super) fn walks(desired: &Ruleset, port: u16) -> Result<Probes, Error> {
    let network = place::network([], &desired.routing)?;
    let links = network
        .links
        .iter()
        .filter(|l| l.name != Interface::LOOPBACK);
    let place = Place {
        own: links.flat_map(|l| &l.addresses).map(IpNet::addr).collect(),
        users: match User::can_be_chosen() {
            true => Users::Everybody,
            false => Users::Only(User::current()),
        },
        port,
    };
    let probes = probes(desired, &place);
    let incoming = inbound(desired, &place);
    let destinations = probes.iter().map(|p| p.to.ip());
    let network = place::network(destinations, &desired.routing)?;
    let walk = |start, protocol, from, to, owner, interface| Walk {
        start,
        packet: Packet {
            protocol,
            source: SocketAddr::new(from, ANY_PORT),
            destination: to,
            in_interface: interface,
            out_interface: None,
            owner,
            mark: 0,
            zone: 0,
            tracking: Tracking::NotYet,
            socket: FoundSocket::None,
        },
        tracking: Tracking::Known(Connection {
            state: ConnState::New,
            mark: 0,
        }),
    };
    let mut walks: Vec<Walk> = probes
        .into_iter()
        .map(|p| {
            let way = network.route(p.to.ip(), 0);
            let from = way.and_then(|way| network.source(p.to.ip(), &way));
            let from = from.unwrap_or(Family::of(p.to.ip()).unspecified());
            let owner = Credentials {
                uid: p.user.uid,
                gid: p.user.gid,
                supplementary_groups: Vec::new(),
            };
            walk(Start::Here, p.protocol, from, p.to, Some(owner), None)
        })
        .collect();
    walks.extend(incoming.into_iter().filter_map(|to| {
        let interface = network.interface_of(to.ip())?.clone();
        let from = outside(Family::of(to.ip()));
        Some(walk(
            Start::Outside,
            Protocol::Tcp,
            from,
            to,
            None,
            Some(interface),
        ))
    }));
    Ok(Probes { walks, network })
}

/// Every probe, each once, IPv4 first.
pub(super) fn probes(wanted: &Ruleset, place: &Place) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (family, asked) in asked(wanted) {
        for probe in asked.probes(family, place) {
            if !probes.contains(&probe) {
                probes.push(probe);
            }
        }
    }
    probes
}

/// What somebody outside may connect to: the port that nobody uses, and some that the rules name, at
/// an address of each family that has rules.
pub(super) fn inbound(wanted: &Ruleset, place: &Place) -> Vec<SocketAddr> {
    let mut destinations = Vec::new();
    for (family, asked) in asked(wanted) {
        let own = place.own.iter().find(|a| Family::of(**a) == family);
        let ports = [place.port].into_iter().chain(asked.some_ports());
        destinations.extend(own.into_iter().flat_map(|ip| {
            let ports = ports.clone();
            ports.map(|port| SocketAddr::new(*ip, port))
        }));
    }
    destinations
}

/// The families that have rules, and what those ask about.
fn asked(wanted: &Ruleset) -> impl Iterator<Item = (Family, Asked)> {
    Family::ALL.into_iter().filter_map(|family| {
        let chains = wanted.of(family).flat_map(|t| &t.chains);
        let rules: Vec<&Rule> = chains.flat_map(|c| &c.rules).collect();
        (!rules.is_empty()).then(|| (family, Asked::about(&rules)))
    })
}

/// What the rules of a family ask about.
#[derive(Default)]
struct Asked {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
    /// Groups to which rules may apply alone: everybody but them is asked for.
    negated_gids: BTreeSet<u32>,
    destinations: BTreeSet<IpNet>,
    ports: BTreeSet<u16>,
    /// Where DNS is asked for; `None` is anywhere.
    nameservers: BTreeSet<Option<IpNet>>,
}

impl Asked {
    fn about(rules: &[&Rule]) -> Self {
        let mut asked = Asked::default();
        for rule in rules {
            asked.note(rule);
        }
        asked
    }

    fn note(&mut self, rule: &Rule) {
        let mut to = None;
        let mut dns = false;
        for m in &rule.matches {
            match &m.test {
                Test::Owner(Owner::Uid(uid)) => drop(self.uids.insert(*uid)),
                Test::Owner(Owner::Gid(gid)) if m.not => drop(self.negated_gids.insert(*gid)),
                Test::Owner(Owner::Gid(gid)) => drop(self.gids.insert(*gid)),
                Test::Destination(net) if !m.not => to = Some(*net),
                Test::Port {
                    side: Side::Destination,
                    ports,
                } if !m.not => {
                    dns |= ports.contains(DNS);
                    self.ports.insert(ports.first());
                }
                _ => {}
            }
        }
        match rule.protocol() {
            Some(Protocol::Udp) if dns => drop(self.nameservers.insert(to)),
            _ => self
                .destinations
                .extend(to.filter(|net| !net.addr().is_loopback())),
        }
    }

    fn probes(&self, family: Family, place: &Place) -> Vec<Probe> {
        let app = self.app();
        let users = match place.users {
            Users::Only(user) => vec![user],
            Users::Everybody => self.users(app),
        };
        let own = place.own.iter().copied().find(|a| Family::of(*a) == family);
        let usual: Vec<IpAddr> = [Some(outside(family)), own]
            .into_iter()
            .flatten()
            .chain(loopback(family))
            .collect();
        let mut probes = Vec::new();
        for user in &users {
            let connect = |ip, port| Probe {
                user: *user,
                protocol: Protocol::Tcp,
                to: SocketAddr::new(ip, port),
            };
            probes.extend(usual.iter().map(|ip| connect(*ip, place.port)));
            if *user == app || users.len() == 1 {
                let named = self.destinations.iter().take(SAMPLE).map(representative);
                probes.extend(named.map(|ip| connect(ip, place.port)));
                let ports = self.some_ports();
                probes.extend(ports.map(|port| connect(outside(family), port)));
            }
            probes.extend(self.queries(*user, family));
        }
        probes
    }

    fn some_ports(&self) -> impl Iterator<Item = u16> + Clone {
        let ports = self.ports.iter().copied();
        ports.filter(|port| *port != DNS).take(SAMPLE)
    }

    /// DNS, by UDP and by TCP.
    fn queries(&self, user: User, family: Family) -> impl Iterator<Item = Probe> {
        let servers = self.nameservers.iter().take(SAMPLE);
        let servers = servers.map(move |to| to.as_ref().map_or(outside(family), representative));
        servers.flat_map(move |ip| {
            [Protocol::Udp, Protocol::Tcp].map(|protocol| Probe {
                user,
                protocol,
                to: SocketAddr::new(ip, DNS),
            })
        })
    }

    /// Somebody whom no rule names, but for the groups to which alone rules apply.
    fn app(&self) -> User {
        let free = |taken: &BTreeSet<u32>| (FIRST_ORDINARY_ID..).find(|id| !taken.contains(id));
        let uid = free(&self.uids).unwrap_or(FIRST_ORDINARY_ID);
        let only = self.negated_gids.difference(&self.gids).next().copied();
        let gid = only.or_else(|| free(&self.gids));
        User {
            uid,
            gid: gid.unwrap_or(FIRST_ORDINARY_ID),
        }
    }

    /// The app, and everybody whom rules name.
    fn users(&self, app: User) -> Vec<User> {
        let uids = self
            .uids
            .iter()
            .take(SAMPLE)
            .map(|uid| User { uid: *uid, ..app });
        let gids = self
            .gids
            .iter()
            .take(SAMPLE)
            .map(|gid| User { gid: *gid, ..app });
        [app].into_iter().chain(uids).chain(gids).collect()
    }
}

/// An address that nobody has: those of RFC 5737 and RFC 3849, for documentation.
pub(super) fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Explicit loopback; IPv4 has more of it than the one address that everybody uses, and the proxy
/// binds to 127.0.0.6.
fn loopback(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(127, 0, 0, 6).into(),
        ],
        Family::V6 => vec![Ipv6Addr::LOCALHOST.into()],
    }
}

/// An address of a prefix: its second where it has more than two, which is a host's.
fn representative(net: &IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}
