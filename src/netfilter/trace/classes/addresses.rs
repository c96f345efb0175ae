//! Numbers for addresses: those that rules and networks cannot tell apart share one, so that a long
//! list of prefixes makes a small set, of either family.

use crate::netfilter::model::{
    Entry, Family, Field, FieldTest, Rules, Span, Target, Test, address_of, number_of,
};
use crate::netfilter::trace::Network;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `fe80::/10`.
pub(super) const LINK_LOCAL: Span = (0xfe80 << 112, (0xfec0 << 112) - 1);

/// The addresses of every host itself.
pub fn loopback(family: Family) -> Span {
    match family {
        Family::V4 => (0x7f00_0000, 0x7fff_ffff),
        Family::V6 => (1, 1),
    }
}

/// The address that REDIRECT gives to what is sent from here.
pub(super) fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

pub(super) fn multicast(family: Family) -> Span {
    match family {
        Family::V4 => (0xe000_0000, 0xefff_ffff),
        Family::V6 => (0xff << 120, u128::MAX),
    }
}

/// The number of each address of a family.
pub(super) struct Addresses {
    family: Family,
    /// The first address of each range whose addresses share a number, in order. Nothing where a rule
    /// is about bits of addresses: there each address has a number of its own, which is itself.
    firsts: Option<Vec<u128>>,
}

impl Addresses {
    /// Numbers with which these rules and networks can be compared.
    pub(super) fn new<'a>(
        family: Family,
        places: impl IntoIterator<Item = (&'a Rules, &'a Network)>,
    ) -> Self {
        let mut tests = Tests::new(family);
        for (rules, network) in places {
            tests.add_network(network);
            rules.entries().for_each(|entry| tests.add_entry(entry));
        }
        let whole = Addresses {
            family,
            firsts: None,
        };
        let ranges = tests.ranges.into_iter();
        let ranges = ranges.filter_map(|range| whole.clipped(range));
        let bounds = ranges.flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
        let mut firsts: Vec<u128> = bounds.flatten().filter(|n| *n <= whole.last()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        Addresses {
            family,
            firsts: (!tests.are_about_bits).then_some(firsts),
        }
    }

    /// How many bits a number has.
    pub(super) fn width(&self) -> u16 {
        (u128::BITS - self.last_number().leading_zeros()) as u16
    }

    /// The numbers of the addresses in these ranges. Nothing if a range begins or ends amid addresses
    /// that share one.
    pub(super) fn numbers(&self, ranges: impl IntoIterator<Item = Span>) -> Option<Vec<Span>> {
        let numbers = |(first, last)| {
            let behind = match last == self.last() {
                true => self.last_number(),
                false => self.beginning(last + 1)? - 1,
            };
            Some((self.beginning(first)?, behind))
        };
        let ranges = ranges.into_iter().filter_map(|range| self.clipped(range));
        ranges.map(numbers).collect()
    }

    /// The addresses that have these numbers.
    pub(super) fn range(&self, (first, last): Span) -> Option<Span> {
        let first_address = self.first(first)?;
        let behind = last.checked_add(1).and_then(|next| self.first(next));
        Some((first_address, behind.map_or(self.last(), |next| next - 1)))
    }

    /// The address that has this number alone.
    pub(super) fn single(&self, number: u128) -> Option<IpAddr> {
        let (first, last) = self.range((number, number))?;
        (first == last).then(|| address_of(self.family, first))
    }

    /// The number of an address.
    pub(super) fn number(&self, address: u128) -> u128 {
        match &self.firsts {
            None => address,
            Some(firsts) => firsts.partition_point(|first| *first <= address) as u128 - 1,
        }
    }

    /// The part of a range that is of the family.
    fn clipped(&self, (first, last): Span) -> Option<Span> {
        let last = last.min(self.last());
        (first <= last).then_some((first, last))
    }

    fn last(&self) -> u128 {
        u128::MAX >> (128 - self.family.bits())
    }

    fn last_number(&self) -> u128 {
        match &self.firsts {
            None => self.last(),
            Some(firsts) => firsts.len() as u128 - 1,
        }
    }

    /// The number that begins with this address.
    fn beginning(&self, first: u128) -> Option<u128> {
        match &self.firsts {
            None => Some(first),
            Some(firsts) => firsts.binary_search(&first).ok().map(|at| at as u128),
        }
    }

    /// The first address that has this number.
    fn first(&self, number: u128) -> Option<u128> {
        match &self.firsts {
            None => Some(number).filter(|number| *number <= self.last()),
            Some(firsts) => firsts.get(usize::try_from(number).ok()?).copied(),
        }
    }
}

/// What rules and networks can ask about addresses, or make of them.
struct Tests {
    family: Family,
    ranges: Vec<Span>,
    /// Something depends on bits that do not make a range.
    are_about_bits: bool,
}

impl Tests {
    /// Those that depend on no rule and no network.
    fn new(family: Family) -> Self {
        let one = |address| (number_of(address), number_of(address));
        let broadcast = (u32::MAX.into(), u32::MAX.into());
        Tests {
            family,
            ranges: vec![
                one(family.unspecified()),
                one(localhost(family)),
                loopback(family),
                multicast(family),
                broadcast,
                LINK_LOCAL,
            ],
            are_about_bits: false,
        }
    }

    fn add_network(&mut self, network: &Network) {
        for (first, last) in network.own(self.family) {
            self.add(first, last);
        }
        for net in network.links.iter().flat_map(|link| &link.addresses) {
            self.add(net.addr(), net.addr());
            self.add(net.broadcast(), net.broadcast());
            self.add_net(net);
        }
        network.routes.iter().for_each(|(net, _)| self.add_net(net));
    }

    fn add_entry(&mut self, entry: &Entry) {
        entry.matches().iter().for_each(|m| self.add_test(&m.test));
        entry.target().into_iter().for_each(|t| self.add_target(t));
        if let Entry::Map { map, .. } = entry {
            self.add_fields(&map.keys);
            let targets = map.targets.iter().chain(&map.default);
            targets.for_each(|target| self.add_target(target));
        }
    }

    fn add_test(&mut self, test: &Test) {
        match test {
            Test::Source(net) | Test::Destination(net) => self.add_net(net),
            Test::DestinationSet(set) => set.as_slice().iter().for_each(|net| self.add_net(net)),
            Test::Fields(test) => self.add_fields(test),
            _ => {}
        }
    }

    fn add_fields(&mut self, test: &FieldTest) {
        let all = u128::MAX >> (128 - self.family.bits());
        for (at, field) in test.fields.iter().enumerate() {
            match field {
                Field::Address(family, _) | Field::OriginalAddress(family, _)
                    if *family == self.family =>
                {
                    self.are_about_bits |= test.mask & all != all;
                    self.ranges
                        .extend(test.values.iter().map(|spans| spans[at]));
                }
                _ => {}
            }
        }
    }

    fn add_target(&mut self, target: &Target) {
        match target {
            Target::Dnat(to) | Target::Snat(to) => {
                let first = to.addresses.map(|(first, _)| first);
                first.into_iter().for_each(|first| self.add(first, first));
            }
            Target::Netmap(net) => self.are_about_bits |= Family::of(net.addr()) == self.family,
            Target::Several(targets) => targets.iter().for_each(|t| self.add_target(t)),
            _ => {}
        }
    }

    fn add_net(&mut self, net: &IpNet) {
        self.add(net.network(), net.broadcast());
    }

    fn add(&mut self, first: IpAddr, last: IpAddr) {
        if Family::of(first) == self.family {
            self.ranges.push((number_of(first), number_of(last)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(family: Family) -> Addresses {
        Addresses::new(family, [(&Rules::default(), &Network::default())])
    }

    #[test]
    fn what_no_rule_asks_about_has_no_numbers() {
        for family in Family::ALL {
            let (first, last) = loopback(family);
            let addresses = ranges(family);
            assert!(addresses.numbers([(first, last)]).is_some());
            for range in [(first + 2, last + 2), (first, last + 2)] {
                assert_eq!(addresses.numbers([(first, last), range]), None);
            }
        }
    }

    #[test]
    fn numbers_stand_for_the_addresses_that_they_were_made_of() {
        for family in Family::ALL {
            let addresses = ranges(family);
            for range in Tests::new(family).ranges {
                let Some(range) = addresses.clipped(range) else {
                    continue;
                };
                let numbers = addresses.numbers([range]).unwrap();
                assert_eq!(addresses.range(numbers[0]), Some(range));
            }
            assert_eq!(
                addresses.range((addresses.last_number() + 1, u128::MAX)),
                None
            );
        }
    }
}
