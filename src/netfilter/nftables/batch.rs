//! Messages that are committed together.

use super::nf_tables::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES,
};
use crate::netfilter::netlink::{NLM_F_ACK, NLM_F_REQUEST, Writer};
use std::ops::Range;

/// The type of an nf_tables message, from its `NFT_MSG_*` number.
pub(super) const fn message_type(number: u16) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | number
}

/// The header behind netlink's own (`struct nfgenmsg` of linux/netfilter/nfnetlink.h, whose version
/// is 0).
pub(super) fn family_header(w: &mut Writer, family: u8, resource: u16) {
    w.raw(&[family, 0]);
    w.raw(&resource.to_be_bytes());
}

/// The messages of one change, each with what it is about.
///
/// All go to the kernel as one transaction, if the socket takes as much: a pod in a user namespace may
/// not make it larger than net.core.wmem_max. Otherwise they go as several, of which one, the switch,
/// changes what packets meet. Before it comes what no packet can meet yet, and after it what none can
/// meet any more; both may be cut anywhere.
#[derive(Debug)]
pub(super) struct Batch<O> {
    writer: Writer,
    entries: Vec<Entry<O>>,
    /// The messages of the switch.
    switch: Range<usize>,
}

#[derive(Debug)]
struct Entry<O> {
    start: usize,
    /// Must be in the same transaction as the message before it.
    joined: bool,
    origin: O,
}

/// Messages that must be one transaction are larger than one can be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub needed: usize,
    pub room: usize,
}

impl<O> Batch<O> {
    pub(super) fn new() -> Self {
        Batch {
            writer: Writer::default(),
            entries: Vec::new(),
            switch: 0..0,
        }
    }

    /// Appends an nf_tables message about `origin`.
    pub(super) fn message(
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
    pub(super) fn join(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.joined = true;
        }
    }

    /// The switch begins with the next message.
    pub(super) fn begin_switch(&mut self) {
        self.switch = self.entries.len()..self.entries.len();
    }

    /// The last message was the end of the switch.
    pub(super) fn end_switch(&mut self) {
        self.switch.end = self.entries.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message grew beyond what netlink can say.
    pub(super) fn overflowed(&self) -> bool {
        self.writer.overflowed()
    }

    pub(super) fn len(&self) -> usize {
        self.writer.as_slice().len()
    }

    /// What the message with this sequence number is about, and its bytes.
    pub(super) fn find(&self, sequence: u32) -> Option<(&O, &[u8])> {
        let index = (sequence as usize).checked_sub(1)?;
        let entry = self.entries.get(index)?;
        Some((&entry.origin, self.slice(index..index + 1)))
    }

    /// The messages as the fewest transactions of at most `room` bytes.
    pub(super) fn transactions(&self, room: usize) -> Result<Vec<Range<usize>>, TooLarge> {
        let all = 0..self.entries.len();
        if self.len() <= room {
            return Ok(vec![all]);
        }
        let switch = self.switch.clone();
        let mut transactions = self.cut(0..switch.start, room)?;
        transactions.extend(Some(self.fitting(switch.clone(), room)?).filter(|s| !s.is_empty()));
        transactions.extend(self.cut(switch.end..all.end, room)?);
        Ok(transactions)
    }

    /// Cuts some messages wherever they do not belong together.
    fn cut(&self, messages: Range<usize>, room: usize) -> Result<Vec<Range<usize>>, TooLarge> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        let mut joined = messages.start;
        for index in messages.clone() {
            if !self.entries[index].joined {
                joined = index;
            }
            match parts.last_mut() {
                Some(part) if self.size(&(part.start..index + 1)) <= room => part.end = index + 1,
                last => {
                    // What belongs to this message goes with it.
                    if let Some(part) = last {
                        part.end = joined;
                    }
                    parts.push(self.fitting(joined..index + 1, room)?);
                }
            }
        }
        parts.retain(|p| !p.is_empty());
        Ok(parts)
    }

    fn fitting(&self, messages: Range<usize>, room: usize) -> Result<Range<usize>, TooLarge> {
        match self.size(&messages) {
            needed if needed > room => Err(TooLarge { needed, room }),
            _ => Ok(messages),
        }
    }

    fn size(&self, messages: &Range<usize>) -> usize {
        self.start(messages.end) - self.start(messages.start)
    }

    /// The bytes of some messages, of which the last asks for an acknowledgement.
    pub(super) fn acknowledged(&mut self, part: Range<usize>) -> &[u8] {
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
pub(super) fn begin(generation: u32) -> Writer {
    edge(NFNL_MSG_BATCH_BEGIN, Some(generation))
}

/// Closes a transaction.
pub(super) fn end() -> Writer {
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
        let all = 0..5;
        assert_eq!(batch.transactions(5 * 36), Ok(vec![all]));
    }

    #[test]
    fn the_switch_is_one_transaction_or_none() {
        let mut batch = batch(4);
        batch.begin_switch();
        for _ in 0..3 {
            batch.message(3, 0, 2, 4, |_| {});
        }
        batch.end_switch();
        batch.message(3, 0, 2, 4, |_| {});
        assert_eq!(batch.transactions(80), Ok(vec![0..2, 2..4, 4..7, 7..8]));
        let too_large = TooLarge {
            needed: 60,
            room: 59,
        };
        assert_eq!(batch.transactions(59), Err(too_large));
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
        batch.begin_switch();
        batch.end_switch();
        assert_eq!(batch.transactions(80), Ok(vec![0..1, 1..3, 3..4]));
        let too_large = TooLarge {
            needed: 72,
            room: 71,
        };
        assert_eq!(batch.transactions(71), Err(too_large));
    }
}
