//! Which connections are worth trying: pure, from what the rules ask about and the addresses that
//! are here.
//!
//! Rules differ in whom they ask for, and in which destinations and ports: so everybody they name,
//! and the app, whom they do not, connects to the outside, to an address of its own, to explicit
//! loopback, and to what the rules name.

use super::probe::Probe;
use super::socket::User;
use crate::netfilter::model::{Family, Owner, Protocol, Rule, Ruleset, Side, Test};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How many of the prefixes, of the ports and of the owners that the rules name are tried: what
/// holds for some holds for all, and a list may have thousands.
const SAMPLE: usize = 4;

/// The first id that is given to people and to what they run (`UID_MIN` of login.defs(5)).
const FIRST_ORDINARY_ID: u32 = 1000;

const DNS: u16 = 53;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::model::{ChainName, Interface, Match, Table, TableName, Target};

    const APP: User = User {
        uid: 1000,
        gid: 1000,
    };

    fn ruleset() -> Ruleset {
        let mut nat = Table::new(Family::V4, TableName::Nat);
        let tcp = || Match::protocol(Protocol::Tcp);
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        nat.chain(ChainName::OUTPUT)
            .rule("a", [Match::owner(Owner::Uid(1337))], Target::Return)
            .rule("b", [Match::destination(net)], Target::Return)
            .rule("c", [tcp(), Match::dport(9000)], Target::Return)
            .rule(
                "d",
                [Match::in_interface(Interface::LOOPBACK)],
                Target::Return,
            );
        Ruleset {
            tables: vec![nat],
            ..Ruleset::default()
        }
    }

    fn place(users: Users) -> Place {
        Place {
            own: vec!["10.66.0.2".parse().unwrap()],
            users,
            port: 15002,
        }
    }

    #[test]
    fn everybody_and_everything_that_rules_name_is_tried() {
        let probes = probes(&ruleset(), &place(Users::Everybody));
        let tried = |user: User, to: &str| {
            let to = to.parse().unwrap();
            probes.iter().any(|p| p.user == user && p.to == to)
        };
        let proxy = User { uid: 1337, ..APP };
        for to in ["192.0.2.1:15002", "10.66.0.2:15002", "127.0.0.1:15002"] {
            assert!(tried(APP, to) && tried(proxy, to), "{to}: {probes:?}");
        }
        for to in ["10.0.0.1:15002", "192.0.2.1:9000"] {
            assert!(tried(APP, to), "{to}: {probes:?}");
        }
        assert!(probes.iter().all(|p| p.to.is_ipv4()), "{probes:?}");
    }

    #[test]
    fn who_can_be_nobody_else_connects_as_itself() {
        let proxy = User {
            uid: 1337,
            gid: 1337,
        };
        let probes = probes(&ruleset(), &place(Users::Only(proxy)));
        assert!(
            !probes.is_empty() && probes.iter().all(|p| p.user == proxy),
            "{probes:?}"
        );
    }
}
