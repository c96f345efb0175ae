//! Single packets of sets, and the sets of single packets: what the properties compare.

use super::fields::and_mask;
use super::parts::Part;
use super::sets::Set;
use super::space::{Dimension, SOCKETS, Space};
use crate::netfilter::model::{
    ConnState, Credentials, Packet, Protocol, Side, Tracking, address_of, number_of,
};
use crate::netfilter::trace::{Probe, Start};
use std::net::SocketAddr;

impl Space {
    /// A packet of the set, which is not empty. Where the set leaves it open, `choose` decides; of
    /// addresses that share a number, between the first one and the last one.
    pub(super) fn member(
        &self,
        set: Set,
        start: Start,
        choose: &mut impl FnMut() -> bool,
    ) -> Probe {
        let mut rest = set;
        let values = Dimension::ALL.map(|dimension| {
            let (first, end) = self.place(dimension);
            let value = (first..end).fold(0, |value, bit| {
                let (zero, one) = self.sets.halves(rest, bit);
                let is_set = zero == Set::NONE || one != Set::NONE && choose();
                rest = if is_set { one } else { zero };
                value << 1 | u128::from(is_set)
            });
            match (dimension.is_address(), choose()) {
                (false, _) => value,
                (true, false) => self.addresses.range((value, value)).unwrap().0,
                (true, true) => self.addresses.range((value, value)).unwrap().1,
            }
        });
        let value = |dimension| {
            let at = Dimension::ALL.iter().position(|d| *d == dimension);
            values[at.unwrap()]
        };
        self.probe(start, value)
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

    /// The set of one packet, and of those that differ in addresses that share its addresses' numbers.
    pub(super) fn only(&mut self, probe: &Probe) -> Set {
        let packet = &probe.packet;
        let (state, connmark) = match probe.tracking {
            Tracking::NotYet | Tracking::Invalid => (ConnState::Invalid, 0),
            Tracking::Untracked => (ConnState::Untracked, 0),
            Tracking::Known(connection) => (connection.state, connection.mark),
        };
        let address = |side: Side| self.addresses.number(number_of(packet.end(side).ip()));
        let owner = packet.owner.as_ref();
        let value = |dimension| match dimension {
            Dimension::Protocol => packet.protocol.number().into(),
            Dimension::State => ConnState::ALL.iter().position(|s| *s == state).unwrap() as u128,
            Dimension::HasOwner => owner.is_some().into(),
            Dimension::Socket => SOCKETS.iter().position(|s| *s == packet.socket).unwrap() as u128,
            Dimension::InInterface => {
                let name = packet.in_interface.as_ref();
                name.map_or(0, |name| self.number(name))
            }
            Dimension::Uid => owner.map_or(0, |o| o.uid).into(),
            Dimension::Gid => owner.map_or(0, |o| o.gid).into(),
            Dimension::Mark => packet.mark.into(),
            Dimension::Connmark => connmark.into(),
            Dimension::SourcePort => packet.port(Side::Source).into(),
            Dimension::DestinationPort => packet.port(Side::Destination).into(),
            Dimension::Source => address(Side::Source),
            Dimension::Destination => address(Side::Destination),
        };
        let mut set = Set::ALL;
        let values = Dimension::ALL.map(|dimension| (dimension, value(dimension)));
        for (dimension, value) in values.into_iter().rev() {
            let (first, end) = self.place(dimension);
            for bit in (first..end).rev() {
                set = match value >> (end - 1 - bit) & 1 {
                    1 => self.sets.make(bit, Set::NONE, set),
                    _ => self.sets.make(bit, set, Set::NONE),
                };
            }
        }
        set
    }

    /// The packets of a part.
    pub(super) fn of_part(&mut self, part: &Part) -> Set {
        part.iter().fold(Set::ALL, |packets, field| {
            let bits = self.bits(field.dimension);
            let is_mark = matches!(field.dimension, Dimension::Mark | Dimension::Connmark);
            let some = field.values.iter().fold(Set::NONE, |some, value| {
                let one = match (is_mark, *value) {
                    (true, (value, mask)) => {
                        self.sets.within(&and_mask(&bits, mask), [(value, value)])
                    }
                    (false, span) => self.having(field.dimension, span),
                };
                self.or(some, one)
            });
            self.and(packets, if field.not { !some } else { some })
        })
    }
}
