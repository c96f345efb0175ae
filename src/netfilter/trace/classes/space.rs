//! All packets of one family that rules can tell apart: what varies among them, as bits.

use super::Stopped;
use super::sets::{Set, Sets};
use crate::netfilter::model::{
    ConnState, Credentials, Family, FoundSocket, Interface, Packet, Protocol, Rules, Side, Test,
    Tracking, address_of, number_of,
};
use crate::netfilter::trace::{Network, Probe, Start};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

/// Some bits, the most significant one first; each may depend on several bits of the packet.
pub(super) type Bits = Rc<[Set]>;

/// What a packet begins with, in the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Protocol,
    /// The number of a [`ConnState`] in [`ConnState::ALL`]: what conntrack makes of the packet.
    State,
    /// Whether a process sent it: 1 or 0.
    HasOwner,
    /// The number of a [`FoundSocket`].
    Socket,
    /// The number of an interface in [`Space::interfaces`]; 0 is none.
    InInterface,
    Uid,
    Gid,
    Mark,
    Connmark,
    SourcePort,
    DestinationPort,
    Source,
    Destination,
}

impl Dimension {
    /// In the order of their bits: first what long lists of rules differ in, so that sets of it share
    /// the rest.
    pub const ALL: [Dimension; 13] = [
        Dimension::Destination,
        Dimension::Source,
        Dimension::DestinationPort,
        Dimension::SourcePort,
        Dimension::Connmark,
        Dimension::Mark,
        Dimension::Gid,
        Dimension::Uid,
        Dimension::InInterface,
        Dimension::Socket,
        Dimension::HasOwner,
        Dimension::State,
        Dimension::Protocol,
    ];

    /// How many bits it has.
    pub(super) fn width(self, family: Family) -> u16 {
        match self {
            Dimension::HasOwner => 1,
            Dimension::Socket => 2,
            Dimension::State => 3,
            Dimension::Protocol => 8,
            Dimension::InInterface | Dimension::SourcePort | Dimension::DestinationPort => 16,
            Dimension::Uid | Dimension::Gid | Dimension::Mark | Dimension::Connmark => 32,
            Dimension::Source | Dimension::Destination => family.bits().into(),
        }
    }

    /// Its greatest value.
    pub fn last(self, family: Family) -> u128 {
        u128::MAX >> (128 - self.width(family))
    }

    /// The number of its first bit.
    pub(super) fn offset(self, family: Family) -> u16 {
        let before = Dimension::ALL.into_iter().take_while(|d| *d != self);
        before.map(|d| d.width(family)).sum()
    }
}

/// In the order of their numbers.
pub(super) const SOCKETS: [FoundSocket; 3] = [
    FoundSocket::None,
    FoundSocket::Plain,
    FoundSocket::Transparent,
];

/// What is preferred in a representative, where the set leaves it open.
const PROCESS: u32 = 1000;
const CLIENT_PORT: u16 = 50000;

/// All packets of one family.
pub struct Space {
    pub family: Family,
    /// The first stands for none; then lo, those that are there or that rules name, and one that
    /// nobody names.
    pub interfaces: Vec<Option<Interface>>,
    pub(super) sets: Sets,
}

impl Space {
    /// A space in which these rules and networks can be compared. After so many steps the sets are
    /// given up.
    pub fn new<'a>(
        family: Family,
        places: impl IntoIterator<Item = (&'a Rules, &'a Network)>,
        steps: u32,
    ) -> Self {
        let mut names = BTreeSet::new();
        for (rules, network) in places {
            names.extend(network.links.iter().map(|l| l.name.to_string()));
            names.extend(named_interfaces(rules));
        }
        names.remove("lo");
        let other = (0..).map(|n| format!("other{n}"));
        let other = other.into_iter().find(|name| !names.contains(name));
        let names = names.into_iter().chain(other);
        let known = names.filter_map(|name| name.parse().ok()).map(Some);
        Space {
            family,
            interfaces: [None, Some(Interface::LOOPBACK)]
                .into_iter()
                .chain(known)
                .collect(),
            sets: Sets::new(steps),
        }
    }

    /// The bits of a packet at its start.
    pub(super) fn bits(&mut self, dimension: Dimension) -> Bits {
        let first = dimension.offset(self.family);
        let bits = first..first + dimension.width(self.family);
        bits.map(|bit| self.sets.bit(bit)).collect()
    }

    /// The packets that have such a value at their start.
    pub fn having(&mut self, dimension: Dimension, values: (u128, u128)) -> Set {
        let bits = self.bits(dimension);
        self.sets.within(&bits, values)
    }

    pub fn and(&mut self, a: Set, b: Set) -> Set {
        self.sets.and(a, b)
    }

    pub fn or(&mut self, a: Set, b: Set) -> Set {
        self.sets.or(a, b)
    }

    /// The set without the packets of the other one.
    pub fn without(&mut self, a: Set, b: Set) -> Set {
        self.sets.without(a, b)
    }

    pub fn is_empty(&self, set: Set) -> bool {
        set == Set::NONE
    }

    /// The number of an interface; one that nobody names is like another.
    pub(super) fn number(&self, name: &Interface) -> u128 {
        let at = self
            .interfaces
            .iter()
            .position(|i| i.as_ref() == Some(name));
        at.unwrap_or(self.interfaces.len() - 1) as u128
    }

    /// Every packet that begins there. What comes in has an interface and no owner; what a process
    /// sends has an address of this namespace. Nobody sends from or to the unspecified address.
    pub fn all(&mut self, start: Start, network: &Network) -> Set {
        let first_outside = 2;
        let interfaces = (first_outside, self.interfaces.len() as u128 - 1);
        let mut conditions = vec![
            self.having(Dimension::State, (0, ConnState::ALL.len() as u128 - 1)),
            self.having(Dimension::Socket, (0, SOCKETS.len() as u128 - 1)),
            self.having(Dimension::Source, (1, u128::MAX)),
            self.having(Dimension::Destination, (1, u128::MAX)),
        ];
        match start {
            Start::Here => {
                let source = self.bits(Dimension::Source);
                let own = self.own(network, &source);
                let somebody = self.having(Dimension::HasOwner, (1, 1));
                let nobody = self.nobody();
                let sender = self.sets.or(somebody, nobody);
                let nowhere = self.having(Dimension::InInterface, (0, 0));
                conditions.extend([own, sender, nowhere]);
            }
            Start::Outside => {
                let nobody = self.nobody();
                let somewhere = self.having(Dimension::InInterface, interfaces);
                conditions.extend([nobody, somewhere]);
            }
        }
        let and = |all, condition| self.sets.and(all, condition);
        conditions.into_iter().fold(Set::ALL, and)
    }

    /// The packets without an owner, who has then no uid.
    fn nobody(&mut self) -> Set {
        let dimensions = [Dimension::HasOwner, Dimension::Uid, Dimension::Gid];
        dimensions.into_iter().fold(Set::ALL, |all, dimension| {
            let none = self.having(dimension, (0, 0));
            self.sets.and(all, none)
        })
    }

    /// The packets whose source or destination, at their start, is an address of this namespace.
    pub fn own_at(&mut self, network: &Network, dimension: Dimension) -> Set {
        let address = self.bits(dimension);
        self.own(network, &address)
    }

    /// The packets whose address, in these bits, is one of this namespace.
    pub(super) fn own(&mut self, network: &Network, address: &[Set]) -> Set {
        network
            .own(self.family)
            .into_iter()
            .fold(Set::NONE, |own, (first, last)| {
                let span = (number_of(first), number_of(last));
                let one = self.sets.within(address, span);
                self.sets.or(own, one)
            })
    }

    /// How many more steps may be taken.
    pub fn steps_left(&self) -> u32 {
        self.sets.steps_left()
    }

    /// Fails if too many steps were taken: sets made since then are too small.
    ///
    /// # Errors
    /// [`Stopped::Bounded`].
    pub fn check(&self) -> Result<(), Stopped> {
        match self.sets.is_exhausted() {
            true => Err(Stopped::Bounded),
            false => Ok(()),
        }
    }

    /// A packet of the set, as plain as can be: new TCP of an ordinary user, without marks.
    pub fn representative(&mut self, set: Set, start: Start, network: &Network) -> Option<Probe> {
        let far: u128 = match self.family {
            Family::V4 => Ipv4Addr::new(192, 0, 2, 1).to_bits().into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).to_bits(),
        };
        let own = network.links.iter().rev().flat_map(|l| &l.addresses);
        let own = own
            .map(|net| net.addr())
            .find(|a| Family::of(*a) == self.family);
        let own = own.map_or(far, number_of);
        let (source, destination) = match start {
            Start::Here => (own, far),
            Start::Outside => (far, own),
        };
        let preferred: [(Dimension, u128); 13] = [
            (Dimension::State, 1),
            (Dimension::Protocol, Protocol::Tcp.number().into()),
            (Dimension::HasOwner, 1),
            (Dimension::Mark, 0),
            (Dimension::Connmark, 0),
            (Dimension::Socket, 0),
            (Dimension::Uid, PROCESS.into()),
            (Dimension::Gid, PROCESS.into()),
            (Dimension::InInterface, 2),
            (Dimension::Source, source),
            (Dimension::Destination, destination),
            (Dimension::SourcePort, CLIENT_PORT.into()),
            (Dimension::DestinationPort, 80),
        ];
        let mut left = set;
        for (dimension, value) in preferred {
            let wish = self.having(dimension, (value, value));
            let fulfilled = self.sets.and(left, wish);
            if fulfilled != Set::NONE {
                left = fulfilled;
            }
        }
        let member = self.sets.member(left)?;
        let value = |dimension: Dimension| {
            let first = dimension.offset(self.family);
            let width = dimension.width(self.family);
            let bits = member.iter().filter(|(_, is_set)| *is_set);
            let bits = bits.filter(|(bit, _)| (first..first + width).contains(bit));
            bits.fold(0, |number, (bit, _)| {
                number | 1u128 << (first + width - 1 - bit)
            })
        };
        Some(self.probe(start, value))
    }

    fn probe(&self, start: Start, value: impl Fn(Dimension) -> u128) -> Probe {
        let end = |address, port| {
            let address = address_of(self.family, value(address));
            SocketAddr::new(address, value(port) as u16)
        };
        let number = |dimension| value(dimension) as u32;
        let state = ConnState::ALL[value(Dimension::State) as usize];
        let owner = Credentials::new(number(Dimension::Uid), number(Dimension::Gid));
        let packet = Packet {
            in_interface: self.interfaces[value(Dimension::InInterface) as usize].clone(),
            owner: (value(Dimension::HasOwner) == 1).then_some(owner),
            mark: number(Dimension::Mark),
            socket: SOCKETS[value(Dimension::Socket) as usize],
            ..Packet::new(
                Protocol::of(value(Dimension::Protocol) as u8),
                end(Dimension::Source, Dimension::SourcePort),
                end(Dimension::Destination, Dimension::DestinationPort),
            )
        };
        let tracking = Tracking::new(state, number(Dimension::Connmark));
        Probe {
            start,
            packet,
            tracking,
        }
    }

    /// The set of one packet.
    pub fn only(&mut self, probe: &Probe) -> Set {
        let packet = &probe.packet;
        let (state, connmark) = match probe.tracking {
            Tracking::NotYet | Tracking::Invalid => (ConnState::Invalid, 0),
            Tracking::Untracked => (ConnState::Untracked, 0),
            Tracking::Known(connection) => (connection.state, connection.mark),
        };
        let at = |found: Option<usize>| found.unwrap_or_default() as u128;
        let address = |side: Side| number_of(packet.end(side).ip());
        let owner = packet.owner.as_ref();
        let in_interface = packet.in_interface.as_ref();
        let values: [(Dimension, u128); 13] = [
            (Dimension::Protocol, packet.protocol.number().into()),
            (
                Dimension::State,
                at(ConnState::ALL.iter().position(|s| *s == state)),
            ),
            (Dimension::HasOwner, owner.is_some().into()),
            (
                Dimension::Socket,
                at(SOCKETS.iter().position(|s| *s == packet.socket)),
            ),
            (
                Dimension::InInterface,
                in_interface.map_or(0, |name| self.number(name)),
            ),
            (Dimension::Uid, owner.map_or(0, |o| o.uid).into()),
            (Dimension::Gid, owner.map_or(0, |o| o.gid).into()),
            (Dimension::Mark, packet.mark.into()),
            (Dimension::Connmark, connmark.into()),
            (Dimension::SourcePort, packet.port(Side::Source).into()),
            (
                Dimension::DestinationPort,
                packet.port(Side::Destination).into(),
            ),
            (Dimension::Source, address(Side::Source)),
            (Dimension::Destination, address(Side::Destination)),
        ];
        values
            .into_iter()
            .fold(Set::ALL, |set, (dimension, value)| {
                let one = self.having(dimension, (value, value));
                self.sets.and(set, one)
            })
    }
}

/// The interfaces that rules name; of a pattern, one that fits.
fn named_interfaces(rules: &Rules) -> BTreeSet<String> {
    use crate::netfilter::model::{Entry, Field};
    let entries = rules
        .tables
        .iter()
        .flat_map(|t| &t.chains)
        .flat_map(|c| &c.rules);
    let mut names = BTreeSet::new();
    let mut fields = Vec::new();
    for entry in entries {
        for test in entry.matches().iter().map(|m| &m.test) {
            match test {
                Test::InInterface(name) | Test::OutInterface(name) => {
                    names.insert(match name.prefix() {
                        Some(prefix) => format!("{prefix}0"),
                        None => name.to_string(),
                    });
                }
                Test::Fields(test) => fields.push(test),
                _ => {}
            }
        }
        if let Entry::Map { map, .. } = entry {
            fields.push(&map.keys);
        }
    }
    for test in fields {
        let interfaces = test.fields.iter().enumerate();
        let interfaces =
            interfaces.filter(|(_, f)| matches!(f, Field::InInterface | Field::OutInterface));
        for (at, _) in interfaces {
            for (first, last) in test.values.iter().map(|spans| spans[at]) {
                let bytes = first.to_be_bytes();
                let stem = bytes.split(|b| *b == 0).next().unwrap_or_default();
                let stem = String::from_utf8_lossy(stem);
                names.insert(match first == last {
                    true => stem.into_owned(),
                    false => format!("{stem}0"),
                });
            }
        }
    }
    names
}
