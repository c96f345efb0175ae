//! Sets and maps of a table, managed or foreign.

use super::attributes::Attrs;
use crate::netfilter::model::Span;
use crate::netfilter::netlink::{Attributes, Error, Malformed, Transport, Writer};
use crate::netfilter::nftables::expr::Verdict;
use crate::netfilter::nftables::kernel::Kernel;
use crate::netfilter::nftables::nf_tables::*;
use std::collections::BTreeMap;

/// Sets by name.
#[derive(Debug, Default)]
pub(in crate::netfilter::nftables) struct Sets(BTreeMap<String, Set>);

#[derive(Debug, Default)]
pub(super) struct Set {
    pub is_nameless: bool,
    is_interval: bool,
    /// The length of a key in bytes.
    pub key_length: usize,
    pub elements: Vec<Element>,
    /// The catch-all element.
    pub default: Option<Data>,
}

/// An element, or one end of a range.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub data: Option<Data>,
    ends: bool,
}

/// The value of a map element.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

impl Sets {
    pub(super) fn get(&self, name: &str) -> Option<&Set> {
        self.0.get(name)
    }

    /// Dumps the sets of a table of this family (`NFPROTO_*`) and name, with their elements.
    pub(in crate::netfilter::nftables) fn read<T: Transport>(
        kernel: &mut Kernel<T>,
        family: u8,
        table: &str,
    ) -> Result<Self, Error> {
        let mut sets = Sets::default();
        let filter = |w: &mut Writer| w.string(NFTA_SET_TABLE, table);
        kernel.dump(NFT_MSG_GETSET, family, filter, |_, a| {
            let a = Attrs::new(a);
            let name = a.text(NFTA_SET_NAME).ok_or(Malformed)?;
            let flags = a.u32(NFTA_SET_FLAGS).unwrap_or(0);
            let set = Set {
                is_nameless: flags & NFT_SET_ANONYMOUS != 0,
                is_interval: flags & NFT_SET_INTERVAL != 0,
                key_length: a.u32(NFTA_SET_KEY_LEN).ok_or(Malformed)? as usize,
                ..Set::default()
            };
            sets.0.insert(name, set);
            Ok(())
        })?;
        for (name, set) in &mut sets.0 {
            let filter = |w: &mut Writer| {
                w.string(NFTA_SET_ELEM_LIST_TABLE, table);
                w.string(NFTA_SET_ELEM_LIST_SET, name);
            };
            kernel.dump(NFT_MSG_GETSETELEM, family, filter, |_, a| {
                let list = Attrs::new(a)
                    .get(NFTA_SET_ELEM_LIST_ELEMENTS)
                    .unwrap_or_default();
                for element in Attributes::new(list) {
                    set.add(&Attrs::new(element?.1));
                }
                Ok(())
            })?;
        }
        Ok(sets)
    }
}

impl Set {
    fn add(&mut self, a: &Attrs) {
        const NFTA_SET_ELEM_KEY_END: u16 = 10;
        let data = match a.verdict(NFTA_SET_ELEM_DATA) {
            Some(verdict) => Some(Data::Verdict(verdict)),
            None => a.value(NFTA_SET_ELEM_DATA).map(|v| Data::Value(v.to_vec())),
        };
        match a.value(NFTA_SET_ELEM_KEY) {
            Some(key) => self.elements.push(Element {
                key: key.to_vec(),
                key_end: a.value(NFTA_SET_ELEM_KEY_END).map(<[u8]>::to_vec),
                data,
                ends: a.u32(NFTA_SET_ELEM_FLAGS).unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0,
            }),
            // The catch-all element.
            None => self.default = data,
        }
    }

    /// The values of a set of single keys, with their map values. `number` decodes a key.
    pub(super) fn spans(&self, number: impl Fn(&[u8]) -> u128) -> Vec<(Span, Option<Data>)> {
        let keyed = self.elements.iter().map(|e| (number(&e.key), e));
        if !self.is_interval {
            return keyed.map(|(key, e)| ((key, key), e.data.clone())).collect();
        }
        // Where ranges touch, the end sorts first.
        let mut keyed: Vec<(u128, &Element)> = keyed.collect();
        keyed.sort_by_key(|(key, e)| (*key, !e.ends));
        let mut spans = Vec::new();
        let mut open: Option<(u128, &Element)> = None;
        for (key, element) in keyed {
            if let Some((first, from)) = open.take() {
                let last = key.saturating_sub(1);
                spans.push(((first, last), from.data.clone()));
            }
            open = (!element.ends).then_some((key, element));
        }
        let greatest = u128::MAX >> (128 - 8 * self.key_length.clamp(1, 16));
        spans.extend(open.map(|(first, from)| ((first, greatest), from.data.clone())));
        spans
    }
}
