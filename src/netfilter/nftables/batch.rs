//! Messages that are committed together.

use super::nf_tables::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES,
};
use crate::netfilter::netlink::{NLM_F_ACK, NLM_F_REQUEST, Writer};

/// The type of an nf_tables message, from its `NFT_MSG_*` number.
pub(super) const fn message_type(number: u16) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | number
}

/// The header after that of netlink (`struct nfgenmsg` of linux/netfilter/nfnetlink.h, version 0).
pub(super) fn family_header(w: &mut Writer, family: u8, resource: u16) {
    w.raw(&[family, 0]);
    w.raw(&resource.to_be_bytes());
}

/// The messages of one transaction, each with its origin.
#[derive(Debug)]
pub(super) struct Batch<O> {
    writer: Writer,
    entries: Vec<Entry<O>>,
}

#[derive(Debug)]
struct Entry<O> {
    start: usize,
    origin: O,
}

impl<O> Batch<O> {
    pub(super) fn new() -> Self {
        Batch {
            writer: Writer::default(),
            entries: Vec::new(),
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
        self.entries.push(Entry { start, origin });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message exceeded the limits of netlink.
    pub(super) fn overflowed(&self) -> bool {
        self.writer.overflowed()
    }

    pub(super) fn len(&self) -> usize {
        self.writer.as_slice().len()
    }

    /// The origin and bytes of the message with this sequence number.
    pub(super) fn find(&self, sequence: u32) -> Option<(&O, &[u8])> {
        let index = (sequence as usize).checked_sub(1)?;
        let entry = self.entries.get(index)?;
        let end = self.entries.get(index + 1).map_or(self.len(), |e| e.start);
        Some((&entry.origin, &self.writer.as_slice()[entry.start..end]))
    }

    /// All messages, the last of which requests an acknowledgement.
    pub(super) fn acknowledged(&mut self) -> &[u8] {
        if let Some(last) = self.entries.last() {
            self.writer.set_flags(last.start, NLM_F_ACK);
        }
        self.writer.as_slice()
    }
}

/// Begins a transaction that is refused unless the generation is still this one.
pub(super) fn begin(generation: u32) -> Writer {
    edge(NFNL_MSG_BATCH_BEGIN, Some(generation))
}

/// Ends a transaction.
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
