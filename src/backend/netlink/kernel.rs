//! The conversation with nf_tables: dumps, the generation, commits.

use super::batch::{self, Batch, family_header, message_type};
use super::socket::Transport;
use super::wire::{HEADER, Malformed, Message, Messages, Table, Writer, u32_ne};
use nix::errno::Errno;
use std::io;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTERRUPTED: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const GET_GENERATION: u16 = 16;
const GENERATION_ID: u16 = 1;

/// What went wrong in a conversation.
#[derive(Debug)]
pub enum Fault {
    /// The kernel said no.
    Refused(Refusal),
    /// Somebody else committed in between, or the answer was lost: read again.
    Interrupted,
    /// The conversation broke down.
    Io(io::Error),
}

/// How the kernel said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the message that it is about; 0 for a transaction as a whole.
    pub sequence: u32,
    pub errno: Errno,
    /// The kernel's words, where it has any (extended acknowledgement).
    pub words: Option<String>,
    /// Where in the message the offending attribute stands.
    pub offset: Option<usize>,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Fault::Io(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// nf_tables, as it can be spoken to through a socket.
#[derive(Debug)]
pub struct Kernel<T> {
    transport: T,
    sequence: u32,
    buffer: Vec<u8>,
}

impl<T: Transport> Kernel<T> {
    pub fn new(transport: T) -> Self {
        Kernel {
            transport,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// The number of the last commit in this network namespace.
    pub fn generation(&mut self) -> Result<u32, Fault> {
        let sequence = self.request(GET_GENERATION, 0, 0, |_| {})?;
        let mut generation = None;
        self.answers(sequence, |message| match message.kind {
            NLMSG_ERROR => Err(error(message)?.map_or(Fault::from(Malformed), Fault::Refused)),
            _ => {
                generation = Some(Table::<2>::parse(body(message)?.1)?.u32(GENERATION_ID)?);
                Ok(Flow::Done)
            }
        })?;
        generation.ok_or(Fault::from(Malformed))
    }

    /// Dumps objects of one kind (`NFT_MSG_GET*`), each as its family and its attributes; `filter`
    /// writes the attributes that narrow the dump. Family 0 means all.
    pub fn dump(
        &mut self,
        number: u16,
        family: u8,
        filter: impl FnOnce(&mut Writer),
        mut each: impl FnMut(u8, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Fault> {
        let sequence = self.request(number, NLM_F_DUMP, family, filter)?;
        let mut interrupted = false;
        self.answers(sequence, |message| {
            interrupted |= message.flags & NLM_F_DUMP_INTERRUPTED != 0;
            match message.kind {
                NLMSG_DONE => Ok(Flow::Done),
                NLMSG_ERROR => Err(error(message)?.map_or(Fault::from(Malformed), Fault::Refused)),
                _ => {
                    let (family, attributes) = body(message)?;
                    each(family, attributes)?;
                    Ok(Flow::More)
                }
            }
        })?;
        if interrupted {
            return Err(Fault::Interrupted);
        }
        Ok(())
    }

    /// Commits a batch made from what was read at `generation`.
    pub fn commit<O>(&mut self, batch: &mut Batch<O>, generation: u32) -> Result<(), Fault> {
        /// Room for what opens and closes a transaction.
        const EDGES: usize = 64;
        if batch.overflowed() {
            let error = "a rule is too long for a netlink message";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        }
        let room = self.transport.capacity(batch.len() + EDGES)?;
        let mut generation = generation;
        for part in batch.parts(room.saturating_sub(EDGES)) {
            let (begin, end) = (batch::begin(generation), batch::end());
            let messages = batch.acknowledged(part);
            self.transport
                .send(&[begin.as_slice(), messages, end.as_slice()])?;
            self.outcome()?;
            // The kernel counts every commit, and leaves out 0.
            generation = generation.checked_add(1).unwrap_or(1);
        }
        Ok(())
    }

    /// What became of a transaction: the first refusal counts.
    fn outcome(&mut self) -> Result<(), Fault> {
        let (mut acknowledged, mut lost, mut refusal) = (false, false, None);
        loop {
            match self.transport.receive(&mut self.buffer) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if overrun(&e) => {
                    lost = true;
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            for message in Messages::new(&self.buffer) {
                let message = message?;
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                match error(message)? {
                    None => acknowledged = true,
                    Some(r) => refusal = refusal.or(Some(r)),
                }
            }
        }
        match refusal {
            Some(r) if r.errno == Errno::ERESTART => Err(Fault::Interrupted),
            Some(r) => Err(Fault::Refused(r)),
            None if acknowledged => Ok(()),
            None if lost => Err(Fault::Interrupted),
            None => Err(silence()),
        }
    }

    fn request(
        &mut self,
        number: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Writer),
    ) -> Result<u32, Fault> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut writer = Writer::default();
        writer.message(message_type(number), flags | NLM_F_REQUEST, sequence, |w| {
            family_header(w, family, 0);
            fill(w);
        });
        self.transport.send(&[writer.as_slice()])?;
        Ok(sequence)
    }

    /// Hands over the messages that answer a request, until one is the last.
    fn answers(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(Message) -> Result<Flow, Fault>,
    ) -> Result<(), Fault> {
        loop {
            match self.transport.receive(&mut self.buffer) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(silence()),
                Err(e) if overrun(&e) => return Err(Fault::Interrupted),
                Err(e) => return Err(e.into()),
            }
            for message in Messages::new(&self.buffer) {
                let message = message?;
                if message.sequence == sequence && matches!(each(message)?, Flow::Done) {
                    return Ok(());
                }
            }
        }
    }
}

enum Flow {
    More,
    Done,
}

/// The kernel had no room for its answer.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn silence() -> Fault {
    Fault::Io(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the kernel did not answer",
    ))
}

/// The family and the attributes of an nf_tables message.
fn body<'a>(message: Message<'a>) -> Result<(u8, &'a [u8]), Malformed> {
    match message.payload {
        [family, _, _, _, attributes @ ..] => Ok((*family, attributes)),
        _ => Err(Malformed),
    }
}

/// An acknowledgement (`None`) or a refusal (`struct nlmsgerr`, and the attributes behind it).
fn error(message: Message) -> Result<Option<Refusal>, Malformed> {
    const MESSAGE: u16 = 1;
    const OFFSET: u16 = 2;
    let code = u32_ne(message.payload, 0).ok_or(Malformed)? as i32;
    if code == 0 {
        return Ok(None);
    }
    let request = match message.flags & NLM_F_CAPPED {
        0 => u32_ne(message.payload, 4).ok_or(Malformed)? as usize,
        _ => HEADER,
    };
    let tlvs = match message.flags & NLM_F_ACK_TLVS {
        0 => None,
        _ => request
            .checked_next_multiple_of(4)
            .and_then(|r| message.payload.get(r.checked_add(4)?..)),
    };
    let table = Table::<3>::parse(tlvs.unwrap_or_default())?;
    Ok(Some(Refusal {
        sequence: message.sequence,
        errno: Errno::from_raw(code.wrapping_neg()),
        words: table.string(MESSAGE).ok().map(str::to_owned),
        offset: table
            .get(OFFSET)
            .and_then(|o| u32_ne(o, 0))
            .map(|o| o as usize),
    }))
}
