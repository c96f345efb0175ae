//! Sets: named address lists, and anonymous port sets of one rule.

use crate::netfilter::model::{
    AddressSet, Family, PortRange, PortSet, Rule, Span, Test, address_of, number_of,
};
use crate::netfilter::netlink::{AttributeTable, Attributes, Malformed, Writer};
use crate::netfilter::nftables::nf_tables::*;
use std::collections::BTreeMap;

/// The template of names for anonymous sets.
pub(super) const NAMELESS: &str = "__set%d";

/// Ranges per message: 4 KiB of IPv6 addresses. An attribute is limited to 64 KiB, a small socket
/// to less.
const CHUNK: usize = 50;

/// Key types of nft, so that it can print them (`enum datatypes`).
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
const TYPE_INET_SERVICE: u32 = 13;

/// The address lists of one chain, in order of use.
///
/// They are named after the chain; a keyword of nft as name could not be loaded again.
pub(crate) struct Lists<'a> {
    chain: &'a str,
    sets: Vec<&'a AddressSet>,
}

impl<'a> Lists<'a> {
    pub(crate) fn of(chain: &'a str, rules: &[&'a Rule]) -> Self {
        let mut sets = Vec::new();
        for m in rules.iter().flat_map(|r| &r.matches) {
            match &m.test {
                Test::DestinationSet(set) if !sets.contains(&set) => sets.push(set),
                _ => {}
            }
        }
        Lists { chain, sets }
    }

    pub(crate) fn none(chain: &'a str) -> Self {
        Lists {
            chain,
            sets: Vec::new(),
        }
    }

    /// The name of a list; equal lists share one.
    pub(crate) fn name(&self, set: &AddressSet) -> Option<String> {
        let index = self.sets.iter().position(|s| *s == set)?;
        Some(list_name(self.chain, index))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (String, &'a AddressSet)> {
        let named = |(i, set): (usize, &&'a AddressSet)| (list_name(self.chain, i), *set);
        self.sets.iter().enumerate().map(named)
    }
}

fn list_name(chain: &str, index: usize) -> String {
    format!("{chain}-cidrs-{}", index + 1)
}

/// Whether a set name is that of a list of `chain`.
pub(crate) fn is_list(name: &str, chain: &str) -> bool {
    let rest = name.strip_prefix(chain);
    rest.is_some_and(|r| r.starts_with("-cidrs-"))
}

/// A set to be written.
pub(crate) struct Set<'a> {
    name: String,
    /// The id by which rules of the same batch refer to it.
    id: u32,
    flags: u32,
    kind: u32,
    /// The length of a key in bytes.
    length: usize,
    elements: Elements<'a>,
}

enum Elements<'a> {
    Addresses(&'a AddressSet),
    Ports(&'a PortSet),
}

impl<'a> Set<'a> {
    pub(crate) fn of_addresses(name: String, id: u32, addresses: &'a AddressSet) -> Self {
        let family = addresses.family();
        Set {
            name,
            id,
            flags: NFT_SET_INTERVAL,
            kind: match family {
                Family::V4 => TYPE_IPADDR,
                Family::V6 => TYPE_IP6ADDR,
            },
            length: usize::from(family.bits() / 8),
            elements: Elements::Addresses(addresses),
        }
    }

    pub(crate) fn of_ports(id: u32, ports: &'a PortSet) -> Self {
        let mut ranges = ports.as_slice().iter();
        let interval = ranges.any(|range| range.first() != range.last());
        Set {
            name: NAMELESS.to_owned(),
            id,
            flags: NFT_SET_ANONYMOUS
                | NFT_SET_CONSTANT
                | if interval { NFT_SET_INTERVAL } else { 0 },
            kind: TYPE_INET_SERVICE,
            length: 2,
            elements: Elements::Ports(ports),
        }
    }

    fn ranges(&self) -> Box<dyn Iterator<Item = Span> + 'a> {
        let of_ports = |range: &PortRange| (range.first().into(), range.last().into());
        match self.elements {
            Elements::Addresses(set) => {
                Box::new(set.ranges().map(|(a, z)| (number_of(a), number_of(z))))
            }
            Elements::Ports(set) => Box::new(set.as_slice().iter().map(of_ports)),
        }
    }

    /// Writes the attributes of the set, after the table name.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.string(NFTA_SET_NAME, &self.name);
        w.u32(NFTA_SET_FLAGS, self.flags);
        w.u32(NFTA_SET_KEY_TYPE, self.kind);
        w.u32(NFTA_SET_KEY_LEN, self.length as u32);
        w.u32(NFTA_SET_ID, self.id);
    }

    /// The ranges in chunks of one message each.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Vec<Span>> + use<'a> {
        let mut ranges = self.ranges();
        std::iter::from_fn(move || {
            let chunk: Vec<Span> = ranges.by_ref().take(CHUNK).collect();
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Writes the attributes of elements, after the table name.
    pub(crate) fn write_elements(&self, chunk: &[Span], w: &mut Writer) {
        let last = u128::MAX >> (128 - 8 * self.length);
        w.string(NFTA_SET_ELEM_LIST_SET, &self.name);
        w.u32(NFTA_SET_ELEM_LIST_SET_ID, self.id);
        w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
            for (first, end) in chunk {
                self.write_element(*first, false, w);
                if self.flags & NFT_SET_INTERVAL != 0 && *end < last {
                    self.write_element(end + 1, true, w);
                }
            }
        });
    }

    fn write_element(&self, key: u128, end: bool, w: &mut Writer) {
        w.nest(NFTA_LIST_ELEM, |w| {
            let bytes = key.to_be_bytes();
            let key = &bytes[bytes.len() - self.length..];
            w.nest(NFTA_SET_ELEM_KEY, |w| w.bytes(NFTA_DATA_VALUE, key));
            if end {
                w.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            }
        });
    }
}

/// Dumped sets of a table by name.
#[derive(Debug, Default)]
pub(crate) struct Sets(BTreeMap<String, ObservedSet>);

#[derive(Debug)]
struct ObservedSet {
    nameless: bool,
    interval: bool,
    /// A verdict map.
    verdicts: bool,
    length: usize,
    /// Keys of elements; of ranges, those of their first ones.
    firsts: Vec<u128>,
    /// Of ranges, the keys behind their last ones; the last range may have none.
    ends: Vec<u128>,
    /// It has other elements: foreign, and not decoded.
    foreign: bool,
}

impl Sets {
    /// Reads the attributes of a set.
    pub(crate) fn add(&mut self, attributes: &[u8]) -> Result<(), Malformed> {
        let a = AttributeTable::<7>::parse(attributes)?;
        let flags = a.get(NFTA_SET_FLAGS);
        let flags = flags.map_or(Ok(0), |_| a.u32(NFTA_SET_FLAGS))?;
        let set = ObservedSet {
            nameless: flags & NFT_SET_ANONYMOUS != 0,
            interval: flags & NFT_SET_INTERVAL != 0,
            verdicts: a.u32(NFTA_SET_DATA_TYPE) == Ok(NFT_DATA_VERDICT),
            length: a.u32(NFTA_SET_KEY_LEN)? as usize,
            firsts: Vec::new(),
            ends: Vec::new(),
            foreign: false,
        };
        // Managed sets have UTF-8 names.
        if let Ok(name) = a.string(NFTA_SET_NAME) {
            self.0.insert(name.to_owned(), set);
        }
        Ok(())
    }

    /// Whether there are verdict maps.
    pub(crate) fn lead_to_chains(&self) -> bool {
        self.0.values().any(|set| set.verdicts)
    }

    /// All names, including generated ones.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names that were not generated.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(|(_, set)| !set.nameless);
        named.map(|(name, _)| name.as_str())
    }

    pub(crate) fn fill(&mut self, name: &str, attributes: &[u8]) -> Result<(), Malformed> {
        let a = AttributeTable::<4>::parse(attributes)?;
        let set = self.0.get_mut(name).ok_or(Malformed)?;
        for element in Attributes::new(a.get(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default()) {
            match set.read_element(element?.1)? {
                Some((key, true)) => set.ends.push(key),
                Some((key, false)) => set.firsts.push(key),
                None => set.foreign = true,
            }
        }
        Ok(())
    }

    /// The addresses of a set, if it holds only addresses.
    pub(crate) fn addresses(&self, name: &str, family: Family) -> Option<AddressSet> {
        let set = self.0.get(name).filter(|set| !set.foreign)?;
        let is_of_family = set.length == usize::from(family.bits() / 8);
        let ranges = is_of_family.then(|| set.ranges())?;
        let address = |key| address_of(family, key);
        AddressSet::from_ranges(ranges.map(|(a, z)| (address(a), address(z))))
    }

    /// The ports of a set, if it holds only ports.
    pub(crate) fn ports(&self, name: &str) -> Option<PortSet> {
        let set = self.0.get(name).filter(|set| !set.foreign)?;
        let ranges: Option<Vec<PortRange>> = set
            .ranges()
            .map(|(a, z)| PortRange::new(a.try_into().ok()?, z.try_into().ok()?))
            .collect();
        PortSet::merged(ranges?)
    }
}

impl ObservedSet {
    /// The key of an element, and whether it ends a range. `None` for elements that managed sets do
    /// not have: longer keys, or a catch-all element.
    fn read_element(&self, attributes: &[u8]) -> Result<Option<(u128, bool)>, Malformed> {
        let element = AttributeTable::<4>::parse(attributes)?;
        let Some(key) = element.get(NFTA_SET_ELEM_KEY) else {
            return Ok(None);
        };
        let key = AttributeTable::<2>::parse(key)?.bytes(NFTA_DATA_VALUE)?;
        if key.len() != self.length || key.len() > 16 {
            return Ok(None);
        }
        let flags = element.get(NFTA_SET_ELEM_FLAGS);
        let flags = flags.map_or(Ok(0), |_| element.u32(NFTA_SET_ELEM_FLAGS))?;
        let number = key
            .iter()
            .fold(0, |number, byte| (number << 8) | u128::from(*byte));
        Ok(Some((number, flags & NFT_SET_ELEM_INTERVAL_END != 0)))
    }

    /// The ranges, in order. Where an end is missing, the next one ends both; where ranges touch, the
    /// one ends where the other begins.
    fn ranges(&self) -> impl Iterator<Item = Span> {
        let sorted = |keys: &[u128]| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys.into_iter().peekable()
        };
        let (mut firsts, mut ends) = (sorted(&self.firsts), sorted(&self.ends));
        let last = u128::MAX >> (128 - 8 * self.length.clamp(1, 16));
        std::iter::from_fn(move || {
            let first = firsts.next()?;
            if !self.interval {
                return Some((first, first));
            }
            while ends.next_if(|end| *end <= first).is_some() {}
            let end = ends.next();
            while firsts
                .next_if(|next| end.is_none_or(|end| *next < end))
                .is_some()
            {}
            Some((first, end.map_or(last, |end| end - 1)))
        })
    }
}
