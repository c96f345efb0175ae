//! All packets of one family that rules can tell apart: what varies among them, as bits.

use super::Stopped;
use super::addresses::Addresses;
use super::sets::{Set, Sets};
use crate::netfilter::model::{
    ConnState, Family, FoundSocket, Interface, Rules, Span, Test, number_of,
};
use crate::netfilter::trace::{Network, Start};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Some bits, the most significant one first; each may depend on several bits of the packet.
pub(super) type Bits = Rc<[Set]>;

/// The bits of a number.
pub(super) fn constant(number: u128, width: u16) -> Bits {
    let bit = |place: u16| match number >> place & 1 {
        1 => Set::ALL,
        _ => Set::NONE,
    };
    (0..width).rev().map(bit).collect()
}

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

    pub(super) fn is_address(self) -> bool {
        matches!(self, Dimension::Source | Dimension::Destination)
    }
}

/// In the order of their numbers.
pub(super) const SOCKETS: [FoundSocket; 3] = [
    FoundSocket::None,
    FoundSocket::Plain,
    FoundSocket::Transparent,
];

/// All packets of one family.
pub struct Space {
    pub family: Family,
    /// The first stands for none; then lo, those that are there or that rules name, and one that
    /// nobody names.
    pub interfaces: Vec<Option<Interface>>,
    pub(super) addresses: Addresses,
    pub(super) sets: Sets,
}

impl Space {
    /// A space in which these rules and networks can be compared. After so many steps the sets are
    /// given up.
    pub fn new<'a>(
        family: Family,
        places: impl IntoIterator<Item = (&'a Rules, &'a Network)> + Clone,
        steps: u32,
    ) -> Self {
        let addresses = Addresses::new(family, places.clone());
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
            addresses,
            sets: Sets::new(steps),
        }
    }

    /// How many bits a dimension has.
    fn width(&self, dimension: Dimension) -> u16 {
        match dimension {
            Dimension::HasOwner => 1,
            Dimension::Socket => 2,
            Dimension::State => 3,
            Dimension::Protocol => 8,
            Dimension::InInterface | Dimension::SourcePort | Dimension::DestinationPort => 16,
            Dimension::Uid | Dimension::Gid | Dimension::Mark | Dimension::Connmark => 32,
            Dimension::Source | Dimension::Destination => self.addresses.width(),
        }
    }

    /// The number of a dimension's first bit, and of the bit behind its last one.
    pub(super) fn place(&self, dimension: Dimension) -> (u16, u16) {
        let before = Dimension::ALL.into_iter().take_while(|d| *d != dimension);
        let first = before.map(|d| self.width(d)).sum();
        (first, first + self.width(dimension))
    }

    /// The bits of a packet at its start; of an address those of its number.
    pub(super) fn bits(&mut self, dimension: Dimension) -> Bits {
        let (first, end) = self.place(dimension);
        (first..end).map(|bit| self.sets.bit(bit)).collect()
    }

    /// The packets that have such a value at their start.
    pub fn having(&mut self, dimension: Dimension, values: Span) -> Set {
        let bits = self.bits(dimension);
        match dimension.is_address() {
            true => self.addressed(&bits, [values]),
            false => self.sets.within(&bits, [values]),
        }
    }

    /// The packets of which an address, in these bits, is in one of these ranges.
    pub(super) fn addressed(
        &mut self,
        address: &[Set],
        ranges: impl IntoIterator<Item = Span>,
    ) -> Set {
        let numbers = self.numbers(ranges);
        self.sets.within(address, numbers)
    }

    /// The bits of one address.
    pub(super) fn constant_address(&mut self, address: IpAddr) -> Bits {
        let number = number_of(address);
        let numbers = self.numbers([(number, number)]);
        let number = numbers.first().map_or(0, |(number, _)| *number);
        constant(number, self.addresses.width())
    }

    /// The numbers of addresses. The sets are given up where the rules and networks of the space have
    /// no such range: no answer is better than one about other addresses.
    fn numbers(&mut self, ranges: impl IntoIterator<Item = Span>) -> Vec<Span> {
        let numbers = self.addresses.numbers(ranges);
        debug_assert!(numbers.is_some(), "a range that the space does not have");
        numbers.unwrap_or_else(|| {
            self.sets.give_up();
            Vec::new()
        })
    }

    /// The packets that have all of these values at their start.
    fn having_all(&mut self, values: impl IntoIterator<Item = (Dimension, u128)>) -> Set {
        let values = values.into_iter();
        values.fold(Set::ALL, |all, (dimension, value)| {
            let one = self.having(dimension, (value, value));
            self.sets.and(all, one)
        })
    }

    /// The first packets of connections, which have no mark of a connection yet.
    pub fn first_packets(&mut self) -> Set {
        let new = ConnState::New as u128;
        self.having_all([(Dimension::State, new), (Dimension::Connmark, 0)])
    }

    /// Those of which no rule has marked anything yet: what applications begin.
    pub fn new_connections(&mut self) -> Set {
        let first = self.first_packets();
        let unmarked = self.having(Dimension::Mark, (0, 0));
        self.sets.and(first, unmarked)
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
        self.having_all(dimensions.map(|dimension| (dimension, 0)))
    }

    /// The packets whose source or destination, at their start, is an address of this namespace.
    pub fn own_at(&mut self, network: &Network, dimension: Dimension) -> Set {
        let address = self.bits(dimension);
        self.own(network, &address)
    }

    /// The packets whose address, in these bits, is one of this namespace.
    pub(super) fn own(&mut self, network: &Network, address: &[Set]) -> Set {
        let own = network.own(self.family).into_iter();
        let own = own.map(|(first, last)| (number_of(first), number_of(last)));
        self.addressed(address, own)
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
}

/// The interfaces that rules name; of a pattern, one that fits.
fn named_interfaces(rules: &Rules) -> BTreeSet<String> {
    use crate::netfilter::model::{Entry, Field, FieldTest};
    let entries = rules
        .tables
        .iter()
        .flat_map(|t| &t.chains)
        .flat_map(|c| &c.rules);
    let mut names = BTreeSet::new();
    let mut fields: Vec<&FieldTest> = Vec::new();
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
