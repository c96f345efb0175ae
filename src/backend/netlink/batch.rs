//! Messages that are committed together.

use super::nf_tables::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES,
};
use crate::netlink::{NLM_F_ACK, NLM_F_REQUEST, Writer};
use std::ops::Range;

/// The type of an nf_tables message, from its `NFT_MSG_*` number.
pub const fn message_type(number: u16) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | number
}

/// The header behind netlink's own (`struct nfgenmsg` of linux/netfilter/nfnetlink.h, whose version
/// is 0).
pub fn family_header(w: &mut Writer, family: u8, resource: u16) {
    w.raw(&[family, 0]);
    w.raw(&resource.to_be_bytes());
}

/// The messages of one change, each with what it is about.
///
/// All go to the kernel as one transaction. Where the socket is too small for that (a pod in a user
/// namespace may not enlarge it beyond net.core.wmem_max) they go as several, cut so that all that
/// hooks anything in comes last: the change is no longer one transaction then, but no packet meets
/// the half of a new ruleset.
#[derive(Debug)]
pub struct Batch<O> {
    writer: Writer,
    entries: Vec<Entry<O>>,
    /// The first message that hooks something in.
    hooks: Option<usize>,
}

#[derive(Debug)]
struct Entry<O> {
    start: usize,
    /// Must be in the same transaction as the message before it.
    joined: bool,
    origin: O,
}

impl<O> Batch<O> {
    pub fn new() -> Self {
        Batch {
            writer: Writer::default(),
            entries: Vec::new(),
            hooks: None,
        }
    }

    /// Appends an nf_tables message about `origin`.
    pub fn message(
        &mut self,
        number: u16,
        flags: u16,
        family: u8,
        origin: O,
        fill: impl FnOnce(&mut Writer),
    ) {
        let start = self.writer.as_slice().len();
        let sequence = self.entries.len() as u32 + 1;
        let kind = message_type(number);
        self.writer
            .message(kind, flags | NLM_F_REQUEST, sequence, |w| {
                family_header(w, family, 0);
                fill(w);
            });
        self.entries.push(Entry {
            start,
            joined: false,
            origin,
        });
    }

    /// Keeps the last message together with the one before it.
    pub fn join(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.joined = true;
        }
    }

    /// From here on messages hook something in or take it away.
    pub fn hooks(&mut self) {
        self.hooks = Some(self.entries.len());
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message grew beyond what netlink can say.
    pub fn overflowed(&self) -> bool {
        self.writer.overflowed()
    }

    pub fn len(&self) -> usize {
        self.writer.as_slice().len()
    }

    /// What the message with this sequence number is about, and its bytes.
    pub fn find(&self, sequence: u32) -> Option<(&O, &[u8])> {
        let index = (sequence as usize).checked_sub(1)?;
        let entry = self.entries.get(index)?;
        Some((&entry.origin, self.slice(index..index + 1)))
    }

    /// The messages cut into transactions of at most `room` bytes, where that is possible at all.
    pub fn parts(&self, room: usize) -> Vec<Range<usize>> {
        let count = self.entries.len();
        let mut parts = Vec::new();
        if self.writer.as_slice().len() <= room {
            parts.push(0..count);
            return parts;
        }
        let hooks = self.hooks.unwrap_or(count);
        for section in [0..hooks, hooks..count] {
            let mut part = section.start..section.start;
            for index in section.clone() {
                let fits = self.start(index + 1) - self.start(part.start) <= room;
                if !fits && !self.entries[index].joined && !part.is_empty() {
                    parts.push(part.clone());
                    part.start = index;
                }
                part.end = index + 1;
            }
            if !part.is_empty() {
                parts.push(part);
            }
        }
        parts
    }

    /// The bytes of some messages, of which the last asks for an acknowledgement.
    pub fn acknowledged(&mut self, part: Range<usize>) -> &[u8] {
        if let Some(last) = part.clone().last() {
            let start = self.start(last);
            self.writer.set_flags(start, NLM_F_ACK);
        }
        self.slice(part)
    }

    fn slice(&self, messages: Range<usize>) -> &[u8] {
        &self.writer.as_slice()[self.start(messages.start)..self.start(messages.end)]
    }

    /// Where a message begins; behind the last one, where that ends.
    fn start(&self, index: usize) -> usize {
        let entry = self.entries.get(index);
        entry.map_or(self.writer.as_slice().len(), |e| e.start)
    }
}

/// Opens a transaction that the kernel takes only if it still is at this generation.
pub fn begin(generation: u32) -> Writer {
    edge(NFNL_MSG_BATCH_BEGIN, Some(generation))
}

/// Closes a transaction.
pub fn end() -> Writer {
    edge(NFNL_MSG_BATCH_END, None)
}

fn edge(kind: u16, generation: Option<u32>) -> Writer {
    let mut writer = Writer::default();
    writer.message(kind, NLM_F_REQUEST, 0, |w| {
        family_header(w, 0, NFNL_SUBSYS_NFTABLES);
        if let Some(generation) = generation {
            w.u32(NFNL_BATCH_GENID, generation);
        }
    });
    writer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of messages with 12 to spare: 36 bytes each.
    fn batch(count: usize) -> Batch<usize> {
        let mut batch = Batch::new();
        for i in 0..count {
            batch.message(6, 0, 2, i, |w| w.bytes(1, &[0; 12]));
        }
        batch
    }

    #[test]
    fn one_transaction_as_long_as_there_is_room() {
        let batch = batch(5);
        assert_eq!(batch.len(), 5 * 36);
        assert_eq!(batch.parts(5 * 36), vec![0..5]);
    }

    #[test]
    fn what_hooks_in_goes_last_and_together() {
        let mut batch = batch(4);
        batch.hooks();
        batch.message(3, 0, 2, 4, |_| {});
        assert_eq!(batch.parts(80), vec![0..2, 2..4, 4..5]);
    }

    #[test]
    fn joined_messages_are_not_cut() {
        let mut batch = Batch::new();
        for i in 0..4 {
            batch.message(6, 0, 2, i, |w| w.bytes(1, &[0; 12]));
            if i == 2 {
                batch.join();
            }
        }
        assert_eq!(batch.parts(80), vec![0..3, 3..4]);
    }
}
