//! Single packets of sets, and the sets of single packets.

#[cfg(test)]
use super::fields::and_mask;
#[cfg(test)]
use super::parts::Part;
use super::sets::Set;
use super::space::{Dimension, SOCKETS, Space};
use crate::netfilter::model::{
    ConnState, Credentials, Packet, Protocol, Side, Tracking, address_of, number_of,
};
use crate::netfilter::trace::{Probe, Start};
use std::net::SocketAddr;

impl Space {
    /// A packet of the set, unless it is empty. Where the set leaves it open, `choose` decides whether
    /// a bit is set; of addresses that share a number, between the first one and the last one.
    pub fn member(
        &self,
        set: Set,
        start: Start,
        choose: &mut impl FnMut() -> bool,
    ) -> Option<Probe> {
        if self.is_empty(set) {
            return None;
        }
        let mut rest = set;
        let mut values = [0; Dimension::ALL.len()];
        for (value, dimension) in values.iter_mut().zip(Dimension::ALL) {
            let (first, end) = self.place(dimension);
            for bit in first..end {
                let (zero, one) = self.sets.halves(rest, bit);
                let is_set = zero == Set::NONE || one != Set::NONE && choose();
                rest = if is_set { one } else { zero };
                *value = *value << 1 | u128::from(is_set);
            }
            if dimension.is_address() {
                let (first, last) = self.addresses.range((*value, *value))?;
                *value = if choose() { last } else { first };
            }
        }
        self.probe(start, values)
    }

    /// The packet with these values, in the order of [`Dimension::ALL`].
    fn probe(&self, start: Start, values: [u128; Dimension::ALL.len()]) -> Option<Probe> {
        let value = |dimension| {
            let mut all = Dimension::ALL.into_iter().zip(values);
            all.find(|(d, _)| *d == dimension).map_or(0, |(_, v)| v)
        };
        let end = |address, port| {
            let address = address_of(self.family, value(address));
            SocketAddr::new(address, value(port) as u16)
        };
        let number = |dimension| value(dimension) as u32;
        let index = |dimension| value(dimension) as usize;
        let owner = Credentials::new(number(Dimension::Uid), number(Dimension::Gid));
        let interface = self.interfaces.get(index(Dimension::InInterface))?;
        let state = *ConnState::ALL.get(index(Dimension::State))?;
        let packet = Packet {
            in_interface: interface.clone(),
            owner: (value(Dimension::HasOwner) == 1).then_some(owner),
            mark: number(Dimension::Mark),
            socket: *SOCKETS.get(index(Dimension::Socket))?,
            ..Packet::new(
                Protocol::of(value(Dimension::Protocol) as u8),
                end(Dimension::Source, Dimension::SourcePort),
                end(Dimension::Destination, Dimension::DestinationPort),
            )
        };
        Some(Probe {
            start,
            packet,
            tracking: Tracking::new(state, number(Dimension::Connmark)),
        })
    }

    /// The packets that have these values in common with one, whose addresses share their numbers.
    pub fn like(&mut self, probe: &Probe, dimensions: &[Dimension]) -> Set {
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
            Dimension::State => state as u128,
            Dimension::HasOwner => owner.is_some().into(),
            Dimension::Socket => packet.socket as u128,
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
        let values = values.into_iter().rev();
        for (dimension, value) in values.filter(|(d, _)| dimensions.contains(d)) {
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
}

#[cfg(test)]
impl Space {
    /// The packets that are like one in everything.
    pub(super) fn only(&mut self, probe: &Probe) -> Set {
        self.like(probe, &Dimension::ALL)
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
