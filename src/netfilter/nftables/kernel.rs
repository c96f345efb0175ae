//! Requests to nf_tables: dumps, the generation, commits.

use super::batch::{self, Batch, family_header, message_type};
use super::nf_tables::{NFT_MSG_GETGEN, NFTA_GEN_ID};
use crate::netfilter::netlink::{
    AttributeTable, Connection, Error, Malformed, Message, Transport, Writer,
};
use nix::errno::Errno;
use std::io;

#[derive(Debug)]
pub(super) struct Kernel<T>(Connection<T>);

impl<T: Transport> Kernel<T> {
    pub(super) fn new(transport: T) -> Self {
        Kernel(Connection::new(transport))
    }

    /// The current generation id.
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let kind = message_type(NFT_MSG_GETGEN);
        let mut generation = 0;
        self.0.get(
            kind,
            |w| family_header(w, 0, 0),
            |message| {
                generation = AttributeTable::<2>::parse(body(message)?.1)?.u32(NFTA_GEN_ID)?;
                Ok(())
            },
        )?;
        Ok(generation)
    }

    /// Dumps objects of one kind (`NFT_MSG_GET*`), each as family and attributes; `filter` writes
    /// attributes that narrow the dump. Family 0 means all.
    pub(super) fn dump(
        &mut self,
        number: u16,
        family: u8,
        filter: impl FnOnce(&mut Writer),
        mut each: impl FnMut(u8, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let request = |w: &mut Writer| {
            family_header(w, family, 0);
            filter(w);
        };
        self.0.dump(message_type(number), request, |message| {
            let (family, attributes) = body(message)?;
            each(family, attributes)
        })
    }

    /// The maximum size of the messages of a transaction, after trying to raise it to `wanted`.
    pub(super) fn room(&mut self, wanted: usize) -> io::Result<usize> {
        /// The messages that begin and end a transaction.
        const EDGES: usize = 64;
        Ok(self.0.capacity(wanted + EDGES)?.saturating_sub(EDGES))
    }

    /// Commits a batch based on `generation`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if another program committed since, or the acknowledgement was lost
    /// and a commit was made. An error has the sequence number of the message in the batch, or 0.
    pub(super) fn commit<O>(&mut self, batch: &mut Batch<O>, generation: u32) -> Result<(), Error> {
        if batch.overflowed() {
            let error = "a rule is too long for a netlink message";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        }
        let (begin, end) = (batch::begin(generation), batch::end());
        let parts = [begin.as_slice(), batch.acknowledged(), end.as_slice()];
        match self.0.transact(&parts) {
            Err(Error::Refused(r)) if r.errno == Errno::ERESTART => Err(Error::Interrupted),
            Err(Error::Unanswered(lost)) => Err(self.look_again(generation, lost)),
            result => result,
        }
    }

    /// The error for a lost acknowledgement: nothing was committed if the generation is unchanged.
    fn look_again(&mut self, generation: u32, lost: io::Error) -> Error {
        match self.generation() {
            Ok(now) if now == generation => Error::Io(lost),
            Ok(_) => Error::Interrupted,
            Err(_) => Error::Unanswered(lost),
        }
    }
}

/// The next generation id; the kernel skips 0.
pub(super) fn next_generation(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// The family and the attributes of an nf_tables message.
pub(super) fn body(message: Message<'_>) -> Result<(u8, &[u8]), Malformed> {
    match message.payload {
        [family, _, _, _, attributes @ ..] => Ok((*family, attributes)),
        _ => Err(Malformed),
    }
}
