//! What rules ask of packets, as sets: the counterpart of [`Match::evaluate`] and [`Field::of`] for
//! many packets at once. A property test holds the two together.

use super::addresses::multicast;
use super::sets::Set;
use super::space::{Bits, Dimension, SOCKETS, Space, constant};
use crate::netfilter::model::{
    AddressType, ConnState, ECHO_REQUESTS, Family, Field, FieldTest, Interface, Match, Owner,
    Packet, PortRange, Protocol, Side, Span, Test, Tracking, Value, number_of,
};
use crate::netfilter::trace::Network;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// An end of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub address: Bits,
    pub port: Bits,
}

/// Whether conntrack has looked at a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    NotYet,
    /// It was told not to.
    Never,
    Yes,
}

/// What packets on their way have in common, and how the rest depends on what they began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub source: End,
    pub destination: End,
    /// Before nat, if it has changed something.
    pub original_source: Option<End>,
    pub original_destination: Option<End>,
    pub in_interface: Bits,
    pub out_interface: Option<Interface>,
    /// Those that have their owner still.
    pub owned: Set,
    pub mark: Bits,
    pub connmark: Bits,
    pub zone: u16,
    pub tracked: Tracked,
}

impl Header {
    /// At the start.
    pub(super) fn new(space: &mut Space) -> Self {
        let end = |space: &mut Space, address, port| End {
            address: space.bits(address),
            port: space.bits(port),
        };
        Header {
            source: end(space, Dimension::Source, Dimension::SourcePort),
            destination: end(space, Dimension::Destination, Dimension::DestinationPort),
            original_source: None,
            original_destination: None,
            in_interface: space.bits(Dimension::InInterface),
            out_interface: None,
            owned: space.bits(Dimension::HasOwner)[0],
            mark: space.bits(Dimension::Mark),
            connmark: space.bits(Dimension::Connmark),
            zone: 0,
            tracked: Tracked::NotYet,
        }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    fn original(&self, side: Side) -> &End {
        let before = match side {
            Side::Source => &self.original_source,
            Side::Destination => &self.original_destination,
        };
        before.as_ref().unwrap_or_else(|| self.end(side))
    }

    /// Nat gives packets another source or destination.
    pub(super) fn translate(&mut self, side: Side, end: End) {
        let (before, now) = match side {
            Side::Source => (&mut self.original_source, &mut self.source),
            Side::Destination => (&mut self.original_destination, &mut self.destination),
        };
        before.get_or_insert_with(|| now.clone());
        *now = end;
    }
}

/// The packets that surely pass, and those of which it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passing {
    pub surely: Set,
    pub perhaps: Set,
}

/// What packets have in a field.
struct Holding {
    value: Content,
    /// Those without such a field.
    absent: Set,
    /// Those of which the value is not known.
    unknown: Set,
}

enum Content {
    Bits(Bits),
    /// The bits of an address's number.
    Address(Bits),
    /// Each value, with the packets that have it.
    Choices(Vec<(u128, Set)>),
}

/// The bits where the mask is 1; the others are 0.
pub(super) fn and_mask(bits: &Bits, mask: u128) -> Bits {
    let places = (0..bits.len()).rev();
    let bits = bits.iter().zip(places);
    let kept = bits.map(|(bit, place)| match mask >> place & 1 {
        1 => *bit,
        _ => Set::NONE,
    });
    kept.collect()
}

impl Space {
    /// Which packets pass a match.
    pub(super) fn passing(&mut self, m: &Match, header: &Header, network: &Network) -> Passing {
        let surely = match &m.test {
            Test::Undecoded(_) => {
                return Passing {
                    surely: Set::NONE,
                    perhaps: Set::ALL,
                };
            }
            Test::Fields(test) => return self.fields(test, m.not, header, network),
            Test::Connmark { value, mask } => {
                let test = masked(Field::Connmark, *value, *mask);
                return self.fields(&test, m.not, header, network);
            }
            Test::Source(net) => self.one_of(header.end(Side::Source), &[*net]),
            Test::Destination(net) => self.one_of(header.end(Side::Destination), &[*net]),
            Test::DestinationSet(set) => self.one_of(header.end(Side::Destination), set.as_slice()),
            Test::InInterface(_) => self.came_in(&header.in_interface, |packet| {
                Match::new(m.test.clone()).holds(packet)
            }),
            Test::OutInterface(_) => {
                let mut packet = blank();
                packet.out_interface.clone_from(&header.out_interface);
                whether(Match::new(m.test.clone()).holds(&packet))
            }
            Test::Protocol(protocol) => {
                let number = protocol.number().into();
                self.having(Dimension::Protocol, (number, number))
            }
            Test::Port { side, ports } => self.port(header.end(*side), &[*ports]),
            Test::Multiport { side, ports } => self.port(header.end(*side), ports.as_slice()),
            Test::Owner(owner) => {
                let (dimension, id) = match owner {
                    Owner::Uid(id) => (Dimension::Uid, *id),
                    Owner::Gid(id) => (Dimension::Gid, *id),
                };
                let has = self.having(dimension, (id.into(), id.into()));
                self.sets.and(has, header.owned)
            }
            Test::ConnState(states) => states.iter().fold(Set::NONE, |found, state| {
                let one = match state {
                    ConnState::Snat => self.translated(header, Side::Source),
                    ConnState::Dnat => self.translated(header, Side::Destination),
                    state => self.in_state(header, *state),
                };
                self.sets.or(found, one)
            }),
            Test::Mark { value, mask } => {
                let test = masked(Field::Mark, *value, *mask);
                self.fields(&test, false, header, network).surely
            }
            Test::Socket { transparent } => {
                let first = 1 + u128::from(*transparent);
                self.having(Dimension::Socket, (first, SOCKETS.len() as u128 - 1))
            }
        };
        Passing {
            surely: if m.not { !surely } else { surely },
            perhaps: Set::NONE,
        }
    }

    /// The packets of which an end is one of these addresses.
    pub(super) fn passing_one_of(
        &mut self,
        header: &Header,
        side: Side,
        nets: &[IpNet],
    ) -> Passing {
        Passing {
            surely: self.one_of(header.end(side), nets),
            perhaps: Set::NONE,
        }
    }

    fn one_of(&mut self, end: &End, nets: &[IpNet]) -> Set {
        let family = self.family;
        let mine = nets.iter().filter(|net| Family::of(net.addr()) == family);
        self.addressed(&end.address, mine.map(span_of))
    }

    fn port(&mut self, end: &End, ports: &[PortRange]) -> Set {
        let spans = ports.iter().map(|r| (r.first().into(), r.last().into()));
        self.sets.within(&end.port, spans)
    }

    /// The packets that came in through an interface with which a packet fits.
    fn came_in(&mut self, bits: &Bits, fits: impl Fn(&Packet) -> bool) -> Set {
        let mut packet = blank();
        let names = self.interfaces.iter().zip(0..);
        let numbers = names.filter_map(|(name, number)| {
            packet.in_interface.clone_from(name);
            fits(&packet).then_some((number, number))
        });
        self.sets.within(bits, numbers)
    }

    /// The packets that conntrack has a connection for.
    pub(super) fn connected(&mut self, header: &Header) -> Set {
        let known = [ConnState::New, ConnState::Related, ConnState::Established];
        known.into_iter().fold(Set::NONE, |found, state| {
            let one = self.in_state(header, state);
            self.sets.or(found, one)
        })
    }

    /// The packets whose state, as the conntrack match sees it, is this one.
    pub(super) fn in_state(&mut self, header: &Header, state: ConnState) -> Set {
        match header.tracked {
            Tracked::NotYet => whether(state == ConnState::Invalid),
            Tracked::Never => whether(state == ConnState::Untracked),
            Tracked::Yes => {
                let mut states = ConnState::ALL.iter();
                match states.position(|s| *s == state) {
                    Some(at) => self.having(Dimension::State, (at as u128, at as u128)),
                    None => Set::NONE,
                }
            }
        }
    }

    /// The packets of which nat has changed this end.
    pub(super) fn translated(&mut self, header: &Header, side: Side) -> Set {
        let (before, now) = (header.original(side), header.end(side));
        let addresses = self.unequal(Set::ALL, &before.address, &now.address);
        let ports = self.unequal(Set::ALL, &before.port, &now.port);
        self.sets.or(addresses, ports)
    }

    /// The packets of a set for which the numbers are not the same. (Of all packets there may be no
    /// small set, where both numbers vary.)
    pub(super) fn unequal(&mut self, among: Set, a: &Bits, b: &Bits) -> Set {
        let pairs = a.iter().zip(b.iter()).filter(|(a, b)| a != b);
        pairs.fold(Set::NONE, |found, (a, b)| {
            let (a, b) = (self.sets.and(among, *a), self.sets.and(among, *b));
            let bit = self.sets.differing(a, b);
            self.sets.or(found, bit)
        })
    }

    /// What an address is to this namespace ([`Network::address_type`]).
    fn address_types(&mut self, address: &Bits, network: &Network) -> Vec<(u128, Set)> {
        let local = self.own(network, address);
        let multicast = self.addressed(address, [multicast(self.family)]);
        let nets = network.links.iter().flat_map(|link| &link.addresses);
        let last = nets.filter_map(|net| match net {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast().to_bits()),
            _ => None,
        });
        let broadcast = match self.family {
            Family::V4 => {
                let last = last.chain([u32::MAX]).map(u128::from);
                self.addressed(address, last.map(|last| (last, last)))
            }
            Family::V6 => Set::NONE,
        };
        let mut rest = Set::ALL;
        let mut types = Vec::new();
        for (kind, set) in [
            (AddressType::Local, local),
            (AddressType::Multicast, multicast),
            (AddressType::Broadcast, broadcast),
            (AddressType::Unicast, Set::ALL),
        ] {
            types.push((kind as u128, self.sets.and(rest, set)));
            rest = self.sets.without(rest, set);
        }
        types
    }

    /// The packets to one host, which neither broadcast nor multicast is.
    pub fn to_one_host(&mut self, network: &Network) -> Set {
        let destination = self.bits(Dimension::Destination);
        let many = [AddressType::Multicast, AddressType::Broadcast].map(|kind| kind as u128);
        let types = self.address_types(&destination, network).into_iter();
        let types = types.filter(|(kind, _)| many.contains(kind));
        types.fold(Set::ALL, |left, (_, set)| self.sets.without(left, set))
    }

    /// What packets have in a field ([`Field::of`]).
    fn holding(&mut self, field: &Field, header: &Header, network: &Network) -> Holding {
        let bits = |bits: &Bits| Content::Bits(bits.clone());
        let is = |number| Content::Bits(constant(number, 32));
        let everywhere = |value| Holding {
            value,
            absent: Set::NONE,
            unknown: Set::NONE,
        };
        let of_family = |family: Family, mine: Family, end: &End| match family == mine {
            true => everywhere(Content::Address(end.address.clone())),
            false => Holding {
                value: Content::Choices(Vec::new()),
                absent: Set::ALL,
                unknown: Set::NONE,
            },
        };
        let tracked = |space: &mut Space, holding: Holding| {
            let connected = space.connected(header);
            Holding {
                absent: space.sets.or(holding.absent, !connected),
                ..holding
            }
        };
        match field {
            Field::Address(family, side) => of_family(*family, self.family, header.end(*side)),
            Field::Port(side) => everywhere(bits(&header.end(*side).port)),
            Field::Protocol => everywhere(Content::Bits(self.bits(Dimension::Protocol))),
            Field::InInterface => {
                let names = self.interfaces.clone().into_iter().enumerate();
                let choices = names.map(|(number, name)| {
                    let span = (number as u128, number as u128);
                    let set = self.sets.within(&header.in_interface, [span]);
                    let mut packet = blank();
                    packet.in_interface = name;
                    (known(field.of(&packet)), set)
                });
                everywhere(Content::Choices(choices.collect()))
            }
            Field::OutInterface => {
                let mut packet = blank();
                packet.out_interface.clone_from(&header.out_interface);
                everywhere(Content::Choices(vec![(known(field.of(&packet)), Set::ALL)]))
            }
            Field::Mark => everywhere(bits(&header.mark)),
            Field::Uid | Field::Gid => Holding {
                value: Content::Bits(self.bits(owner(field))),
                absent: !header.owned,
                unknown: Set::NONE,
            },
            Field::OwnerUid | Field::OwnerGid => {
                // Without an owner it is a value that no user has: all bits, and one more.
                let id = self.bits(owner(field));
                let id = [!header.owned].into_iter().chain(id.iter().copied());
                everywhere(Content::Bits(id.collect()))
            }
            Field::PacketType => {
                let types = self.address_types(&header.destination.address, network);
                let kind = |kind: u128| match kind {
                    3 => 1,
                    5 => 2,
                    _ => 0,
                };
                let types = types.into_iter().map(|(t, set)| (kind(t), set));
                everywhere(Content::Choices(types.collect()))
            }
            Field::EtherSource => {
                let from_outside = self.came_in(&header.in_interface, |packet| {
                    packet
                        .in_interface
                        .as_ref()
                        .is_some_and(|name| *name != Interface::LOOPBACK)
                });
                Holding {
                    value: is(0),
                    absent: !from_outside,
                    unknown: from_outside,
                }
            }
            Field::TcpFlags => {
                let tcp = Protocol::Tcp.number().into();
                let tcp = self.having(Dimension::Protocol, (tcp, tcp));
                let new = self.in_state(header, ConnState::New);
                Holding {
                    value: is(1 << 1),
                    absent: !tcp,
                    unknown: self.sets.without(tcp, new),
                }
            }
            Field::IcmpType(_) => {
                let requests = ECHO_REQUESTS.map(|(protocol, request)| {
                    let number = protocol.number().into();
                    let sent = self.having(Dimension::Protocol, (number, number));
                    (request, sent)
                });
                let icmp = self.sets.or(requests[0].1, requests[1].1);
                let new = self.in_state(header, ConnState::New);
                Holding {
                    value: Content::Choices(requests.into()),
                    absent: Set::NONE,
                    unknown: !self.sets.and(icmp, new),
                }
            }
            Field::FragmentOffset | Field::Ipsec | Field::Bridged => everywhere(is(0)),
            Field::AddressType(side) => {
                let address = header.end(*side).address.clone();
                everywhere(Content::Choices(self.address_types(&address, network)))
            }
            Field::ReversePath => {
                let any = |set, bit: &Set| self.sets.or(set, *bit);
                Holding {
                    value: is(1),
                    absent: Set::NONE,
                    unknown: header.mark.iter().fold(Set::NONE, any),
                }
            }
            Field::CtState => {
                let states = ConnState::ALL.map(|state| {
                    let mut packet = blank();
                    packet.tracking = Tracking::new(state, 0);
                    (known(field.of(&packet)), self.in_state(header, state))
                });
                everywhere(Content::Choices(states.into()))
            }
            Field::CtStatus => {
                let new = self.in_state(header, ConnState::New);
                let changed = [Side::Source, Side::Destination].map(|s| self.translated(header, s));
                let mut status = vec![Set::NONE; 32];
                (status[32 - 5], status[32 - 6]) = (changed[0], changed[1]);
                let holding = Holding {
                    value: Content::Bits(status.into()),
                    absent: Set::NONE,
                    unknown: !new,
                };
                tracked(self, holding)
            }
            Field::CtDirection => tracked(self, everywhere(is(0))),
            Field::Connmark => tracked(self, everywhere(bits(&header.connmark))),
            Field::CtZone => tracked(self, everywhere(is(header.zone.into()))),
            Field::OriginalAddress(family, side) => {
                let holding = of_family(*family, self.family, header.original(*side));
                tracked(self, holding)
            }
            Field::OriginalPort(side) => {
                tracked(self, everywhere(bits(&header.original(*side).port)))
            }
            Field::OriginalProtocol => {
                let protocol = self.bits(Dimension::Protocol);
                tracked(self, everywhere(Content::Bits(protocol)))
            }
            Field::Other(_) => Holding {
                value: is(0),
                absent: Set::NONE,
                unknown: Set::ALL,
            },
        }
    }

    /// The packets that have each of the values that are looked for, in their order, as far as they
    /// may have it; then those that surely have no such field, and those of which it is not known
    /// what they have ([`FieldTest::find`]).
    pub(super) fn values(
        &mut self,
        test: &FieldTest,
        header: &Header,
        network: &Network,
    ) -> (Vec<Set>, Set, Set) {
        let fields: Vec<Holding> = test
            .fields
            .iter()
            .map(|f| self.holding(f, header, network))
            .collect();
        let (mut absent, mut unknown) = (Set::NONE, Set::NONE);
        for field in &fields {
            absent = self.sets.or(absent, field.absent);
            unknown = self.sets.or(unknown, field.unknown);
        }
        unknown = self.sets.without(unknown, absent);
        let values = test.values.iter().map(|spans| {
            let mut all = !absent;
            for (field, span) in fields.iter().zip(spans) {
                let one = self.content_within(&field.value, test.mask, *span);
                let one = self.sets.or(one, field.unknown);
                all = self.sets.and(all, one);
            }
            all
        });
        (values.collect(), absent, unknown)
    }

    fn content_within(&mut self, content: &Content, mask: u128, span: Span) -> Set {
        match content {
            Content::Bits(bits) => self.sets.within(&and_mask(bits, mask), [span]),
            // Where the mask leaves bits out, the number of an address is the address.
            Content::Address(bits) => self.addressed(&and_mask(bits, mask), [span]),
            Content::Choices(choices) => {
                let fit = |value: u128| (span.0..=span.1).contains(&(value & mask));
                let fitting = choices.iter().filter(|(value, _)| fit(*value));
                fitting.fold(Set::NONE, |found, (_, set)| self.sets.or(found, *set))
            }
        }
    }

    fn fields(
        &mut self,
        test: &FieldTest,
        not: bool,
        header: &Header,
        network: &Network,
    ) -> Passing {
        let (values, absent, unknown) = self.values(test, header, network);
        let possible = values
            .into_iter()
            .fold(Set::NONE, |found, one| self.sets.or(found, one));
        let held = match not {
            false => self.sets.without(possible, unknown),
            true => self.sets.without(!possible, absent),
        };
        Passing {
            surely: held,
            perhaps: self.sets.and(possible, unknown),
        }
    }
}

/// The addresses of a network.
pub(super) fn span_of(net: &IpNet) -> Span {
    (number_of(net.network()), number_of(net.broadcast()))
}

fn owner(field: &Field) -> Dimension {
    match field {
        Field::Uid | Field::OwnerUid => Dimension::Uid,
        _ => Dimension::Gid,
    }
}

fn masked(field: Field, value: u32, mask: u32) -> FieldTest {
    FieldTest {
        mask: mask.into(),
        ..FieldTest::new(field, [(value.into(), value.into())])
    }
}

pub(super) fn whether(all: bool) -> Set {
    if all { Set::ALL } else { Set::NONE }
}

fn known(value: Value) -> u128 {
    match value {
        Value::Is(value) => value,
        Value::Absent | Value::Unknown => 0,
    }
}

/// A packet to be asked about one of its fields.
fn blank() -> Packet {
    let nowhere = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
    Packet::new(Protocol::Tcp, nowhere, nowhere)
}
