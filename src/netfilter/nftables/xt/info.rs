//! Structures of `match` and `target` expressions, field by field.

use crate::netfilter::model::Family;
use crate::netfilter::nftables::expr::Extension;
use crate::netfilter::nftables::header::address_of;
use std::net::IpAddr;

/// Builds a structure.
#[derive(Default)]
pub(super) struct Info(Vec<u8>);

impl Info {
    pub(super) fn u8(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }

    pub(super) fn u16(self, v: u16) -> Self {
        self.bytes(&v.to_ne_bytes())
    }

    pub(super) fn u32(self, v: u32) -> Self {
        self.bytes(&v.to_ne_bytes())
    }

    pub(super) fn port(self, v: u16) -> Self {
        self.bytes(&v.to_be_bytes())
    }

    pub(super) fn bytes(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(v);
        self
    }

    /// Pads with zeros to this length.
    pub(super) fn to(mut self, length: usize) -> Self {
        self.0.resize(length, 0);
        self
    }

    /// Pads as x_tables does (`XT_ALIGN`).
    pub(super) fn finish(self, name: &'static str, revision: u32) -> Extension {
        let length = self.0.len().next_multiple_of(8);
        Extension {
            name: name.into(),
            revision,
            info: self.to(length).0,
        }
    }
}

/// The fields of a structure, by their offsets.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    pub(super) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(super) fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    pub(super) fn port(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn address(self, at: usize, family: Family) -> Option<IpAddr> {
        let end = at + usize::from(family.bits() / 8);
        address_of(family, self.0.get(at..end)?)
    }
}
