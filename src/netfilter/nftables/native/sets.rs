//! Sets: named address lists, and anonymous port sets of one rule.

use crate::netfilter::model::{AddressSet, Family, PortRange, PortSet, Rule, Test};
use crate::netfilter::netlink::{AttributeTable, Attributes, Malformed, Writer};
use crate::netfilter::nftables::nf_tables::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
pub(crate) struct Set {
    name: String,
    /// The id by which rules of the same batch refer to it.
    id: u32,
    flags: u32,
    kind: u32,
    /// The length of a key in bytes.
    length: usize,
    ranges: Vec<(u128, u128)>,
}

impl Set {
    pub(crate) fn of_addresses(name: String, id: u32, addresses: &AddressSet) -> Self {
        let family = addresses.family();
        let ranges = addresses.ranges();
        Set {
            name,
            id,
            flags: NFT_SET_INTERVAL,
            kind: match family {
                Family::V4 => TYPE_IPADDR,
                Family::V6 => TYPE_IP6ADDR,
            },
            length: usize::from(family.bits() / 8),
            ranges: ranges.map(|(a, z)| (key_of(a), key_of(z))).collect(),
        }
    }

    pub(crate) fn of_ports(id: u32, ports: &PortSet) -> Self {
        let key = |range: &PortRange| (range.first().into(), range.last().into());
        let ranges: Vec<(u128, u128)> = ports.as_slice().iter().map(key).collect();
        let interval = ranges.iter().any(|(a, z)| a != z);
        Set {
            name: NAMELESS.to_owned(),
            id,
            flags: NFT_SET_ANONYMOUS
                | NFT_SET_CONSTANT
                | if interval { NFT_SET_INTERVAL } else { 0 },
            kind: TYPE_INET_SERVICE,
            length: 2,
            ranges,
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
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[(u128, u128)]> {
        self.ranges.chunks(CHUNK)
    }

    /// Writes the attributes of elements, after the table name.
    pub(crate) fn write_elements(&self, chunk: &[(u128, u128)], w: &mut Writer) {
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

fn key_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
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
    /// Keys, and whether they end a range.
    elements: Vec<(u128, bool)>,
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
            elements: Vec::new(),
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
                Some(element) => set.elements.push(element),
                None => set.foreign = true,
            }
        }
        Ok(())
    }

    /// The addresses of a set, if it holds only addresses.
    pub(crate) fn addresses(&self, name: &str, family: Family) -> Option<AddressSet> {
        let set = self.0.get(name).filter(|set| !set.foreign)?;
        let address = |key: u128| match family {
            Family::V4 => u32::try_from(key).ok().map(|k| Ipv4Addr::from(k).into()),
            Family::V6 => Some(Ipv6Addr::from(key).into()),
        };
        let ranges: Option<Vec<(IpAddr, IpAddr)>> = set
            .ranges()
            .into_iter()
            .map(|(a, z)| Some((address(a)?, address(z)?)))
            .collect();
        AddressSet::from_ranges(ranges?).filter(|_| set.length == usize::from(family.bits() / 8))
    }

    /// The ports of a set, if it holds only ports.
    pub(crate) fn ports(&self, name: &str) -> Option<PortSet> {
        let set = self.0.get(name).filter(|set| !set.foreign)?;
        let ranges: Option<Vec<PortRange>> = set
            .ranges()
            .into_iter()
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

    fn ranges(&self) -> Vec<(u128, u128)> {
        let mut elements = self.elements.clone();
        if !self.interval {
            return elements.into_iter().map(|(key, _)| (key, key)).collect();
        }
        // Where ranges touch, the end sorts first.
        elements.sort_by_key(|(key, end)| (*key, !end));
        let mut ranges = Vec::new();
        let mut open = None;
        for (key, end) in elements {
            if end {
                ranges.extend(open.take().map(|first| (first, key.saturating_sub(1))));
            } else {
                open = open.or(Some(key));
            }
        }
        let last = u128::MAX >> (128 - 8 * self.length.clamp(1, 16));
        ranges.extend(open.map(|first| (first, last)));
        ranges
    }
}
