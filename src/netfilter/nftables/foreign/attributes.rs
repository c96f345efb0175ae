//! Attributes of foreign expressions by number, most of which are never read.

use crate::netfilter::netlink::Attributes;
use crate::netfilter::nftables::expr::immediate::Verdict;
use crate::netfilter::nftables::rule::text;

pub(super) struct Attrs<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attrs<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Attrs(Attributes::new(bytes).map_while(Result::ok).collect())
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        let found = self.0.iter().find(|(k, _)| *k == kind);
        found.map(|(_, value)| *value)
    }

    /// A number in network byte order.
    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(super) fn u8(&self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        self.get(kind).map(|bytes| text(bytes).into_owned())
    }

    /// The bytes of an operand (`NFTA_DATA_VALUE`).
    pub(super) fn value(&self, kind: u16) -> Option<&'a [u8]> {
        Attrs::new(self.get(kind)?).get(1)
    }

    /// The verdict of an operand (`NFTA_DATA_VERDICT`).
    pub(super) fn verdict(&self, kind: u16) -> Option<Verdict> {
        Verdict::read(Attrs::new(self.get(kind)?).get(2)?).ok()
    }
}
