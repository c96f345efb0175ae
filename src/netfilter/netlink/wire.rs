//! Netlink messages and attributes as bytes.
//!
//! Lengths and types are in host byte order, values of nf_tables in network byte order (netlink(7),
//! linux/netlink.h, linux/netfilter/nfnetlink.h). Reading checks every length and never panics.

use nix::libc;
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed netlink message")]
pub struct Malformed;

/// The length of a message's header in bytes (`struct nlmsghdr`).
pub(super) const HEADER: usize = 16;
/// The length of an attribute's header in bytes (`struct nlattr`).
const NLA_HDRLEN: usize = 4;
/// The type's upper bits say "nested" and "network byte order".
const NLA_TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;
const NLA_F_NESTED: u16 = libc::NLA_F_NESTED as u16;

/// Rounds up to the alignment of netlink (`NLMSG_ALIGN`, `NLA_ALIGN`).
fn aligned(length: usize) -> usize {
    length.next_multiple_of(libc::NLA_ALIGNTO as usize)
}

/// A sequence of messages.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// An attribute exceeded 64 KiB, the limit of its length field.
    overflow: bool,
}

impl Writer {
    /// Appends one message whose family-specific header and attributes `fill` writes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        fill: impl FnOnce(&mut Writer),
    ) {
        let start = self.bytes.len();
        self.raw(&0u32.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        self.raw(&flags.to_ne_bytes());
        self.raw(&sequence.to_ne_bytes());
        self.raw(&0u32.to_ne_bytes());
        fill(self);
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    /// Appends a fixed header.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |w| w.raw(value));
    }

    /// Appends an attribute with a number in network byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends an attribute with a number in network byte order.
    pub fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends a string with its closing NUL.
    pub fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |w| {
            w.raw(value.as_bytes());
            w.raw(&[0]);
        });
    }

    /// Appends an attribute of nested attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NLA_F_NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.raw(&[0, 0]);
        self.raw(&kind.to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets flags of the message that begins at `start`.
    pub fn set_flags(&mut self, start: usize, flags: u16) {
        let at = start + 6..start + 8;
        let old = u16::from_ne_bytes([self.bytes[at.start], self.bytes[at.start + 1]]);
        self.bytes[at].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Whether an attribute exceeded its length field.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// After the netlink header.
    pub payload: &'a [u8],
}

/// The messages of one datagram; ends after the first that is malformed.
#[derive(Clone, Debug)]
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Messages(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0 = &[];
        let length = u32_ne(bytes, 0).map_or(0, |l| l as usize);
        if length < HEADER || length > bytes.len() {
            return Some(Err(Malformed));
        }
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: u16::from_ne_bytes([bytes[6], bytes[7]]),
            sequence: u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            payload: &bytes[HEADER..length],
        }))
    }
}

/// Attributes with their types; ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0 = &[];
        let length = u16_ne(bytes, 0).map_or(0, usize::from);
        if length < NLA_HDRLEN || length > bytes.len() {
            return Some(Err(Malformed));
        }
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & NLA_TYPE_MASK;
        Some(Ok((kind, &bytes[NLA_HDRLEN..length])))
    }
}

/// Attributes indexed by type below `N`; others are ignored.
#[derive(Clone, Copy, Debug)]
pub struct AttributeTable<'a, const N: usize> {
    slots: [Option<&'a [u8]>; N],
    complete: bool,
}

impl<'a, const N: usize> AttributeTable<'a, N> {
    /// Indexes attributes by type; of duplicates the last one counts.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut table = AttributeTable {
            slots: [None; N],
            complete: true,
        };
        for attribute in Attributes::new(bytes) {
            let (kind, value) = attribute?;
            match table.slots.get_mut(usize::from(kind)) {
                Some(slot) => table.complete &= slot.replace(value).is_none(),
                None => table.complete = false,
            }
        }
        Ok(table)
    }

    /// Like [`AttributeTable::parse`], but an unknown or duplicate attribute is an error, as it may
    /// change the meaning.
    pub fn exact(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(bytes).and_then(|t| if t.complete { Ok(t) } else { Err(Malformed) })
    }

    /// Whether there were no unknown or duplicate attributes.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn kinds(&self) -> impl Iterator<Item = u16> {
        (0u16..)
            .zip(self.slots)
            .filter_map(|(kind, slot)| slot.map(|_| kind))
    }

    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.slots.get(usize::from(kind)).copied().flatten()
    }

    /// The value of a required attribute.
    pub fn bytes(&self, kind: u16) -> Result<&'a [u8], Malformed> {
        self.get(kind).ok_or(Malformed)
    }

    /// A number in network byte order.
    pub fn u32(&self, kind: u16) -> Result<u32, Malformed> {
        self.array(kind).map(u32::from_be_bytes)
    }

    /// A number in network byte order.
    pub fn u64(&self, kind: u16) -> Result<u64, Malformed> {
        self.array(kind).map(u64::from_be_bytes)
    }

    /// A UTF-8 string, with or without its closing NUL.
    pub fn string(&self, kind: u16) -> Result<&'a str, Malformed> {
        let bytes = self.bytes(kind)?;
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        std::str::from_utf8(bytes).map_err(|_| Malformed)
    }

    fn array<const L: usize>(&self, kind: u16) -> Result<[u8; L], Malformed> {
        self.bytes(kind)?.try_into().map_err(|_| Malformed)
    }
}

/// A number in host byte order at an offset, if there are enough bytes.
pub fn u32_ne(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// A number in host byte order at an offset, if there are enough bytes.
pub(super) fn u16_ne(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(two.try_into().ok()?))
}
