//! Questions and answers.

use super::socket::Transport;
use super::wire::{HEADER, Malformed, Message, Messages, Table, Writer, u32_ne};
use super::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use std::io;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The longest datagram that is received: the kernel fills dumps up to this.
const DATAGRAM: usize = 32 * 1024;
/// Flags of answers.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// What went wrong in a conversation.
#[derive(Debug)]
pub enum Fault {
    /// The kernel said no.
    Refused(Refusal),
    /// What was read changed meanwhile, or the answer was lost: begin again.
    Interrupted,
    /// The conversation broke down.
    Io(io::Error),
}

/// How the kernel said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the message that it is about.
    pub sequence: u32,
    pub errno: Errno,
    /// The kernel's words, where it has any (extended acknowledgement).
    pub words: Option<String>,
    /// Where in the message the offending attribute stands.
    pub offset: Option<usize>,
}

impl Refusal {
    /// The error's own words, and the kernel's behind them.
    pub fn reason(&self) -> String {
        let errno = self.errno.desc();
        match &self.words {
            Some(words) => format!("{errno} ({words})"),
            None => errno.to_owned(),
        }
    }
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

/// Whether more answers are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    More,
    Done,
}

/// A conversation over one socket.
#[derive(Debug)]
pub struct Talk<T> {
    transport: T,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl<T: Transport> Talk<T> {
    /// Begins a conversation, with nothing said yet.
    pub fn new(transport: T) -> Self {
        Talk {
            transport,
            sequence: 0,
            buffer: vec![0; DATAGRAM].into(),
        }
    }

    /// Asks for one object, and hands over the message that is the answer.
    pub fn get(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Writer),
        mut answer: impl FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Fault> {
        let sequence = self.ask(kind, 0, fill)?;
        self.answers(sequence, |message| {
            answer(message)?;
            Ok(Flow::Done)
        })
    }

    /// Asks for all objects of a kind, and hands them over one by one.
    ///
    /// # Errors
    /// [`Fault::Interrupted`] when they changed meanwhile.
    pub fn dump(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Fault> {
        let sequence = self.ask(kind, NLM_F_DUMP, fill)?;
        let mut interrupted = false;
        self.answers(sequence, |message| {
            interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            if message.kind == NLMSG_DONE {
                return Ok(Flow::Done);
            }
            each(message)?;
            Ok(Flow::More)
        })?;
        match interrupted {
            true => Err(Fault::Interrupted),
            false => Ok(()),
        }
    }

    /// Sends messages that are to be done one by one, all in one system call, so that a process
    /// killed meanwhile leaves none undone. Says how each went.
    pub fn tell<M>(
        &mut self,
        messages: &[M],
        mut write: impl FnMut(&M, &mut Writer, u32),
    ) -> Result<Vec<Result<(), Refusal>>, Fault> {
        let first = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            write(message, &mut writer, self.sequence);
        }
        self.transport.send(&[writer.as_slice()])?;
        let mut results = Vec::new();
        for index in 0..messages.len() as u32 {
            let result = self.answers(first.wrapping_add(index), |_| Ok(Flow::Done));
            results.push(match result {
                Ok(()) => Ok(()),
                Err(Fault::Refused(refusal)) => Err(refusal),
                Err(fault) => return Err(fault),
            });
        }
        Ok(results)
    }

    /// The largest datagram that can be sent, after trying to make it `wanted` bytes.
    pub fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        self.transport.capacity(wanted)
    }

    /// Sends the parts as one datagram, of whose messages the last asks for an acknowledgement.
    /// The first refusal of any of them counts.
    pub fn transact(&mut self, parts: &[&[u8]]) -> Result<(), Fault> {
        self.transport.send(parts)?;
        let (mut acknowledged, mut lost, mut refusal) = (false, false, None);
        loop {
            let length = match self.transport.receive(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if overrun(&e) => {
                    lost = true;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            for message in Messages::new(&self.buffer[..length]) {
                let message = message?;
                if message.kind == NLMSG_ERROR {
                    match error(message)? {
                        None => acknowledged = true,
                        Some(r) => refusal = refusal.or(Some(r)),
                    }
                }
            }
        }
        match refusal {
            Some(refusal) => Err(Fault::Refused(refusal)),
            None if acknowledged => Ok(()),
            None if lost => Err(Fault::Interrupted),
            None => Err(silence()),
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) -> Result<u32, Fault> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        writer.message(kind, flags | NLM_F_REQUEST, self.sequence, fill);
        self.transport.send(&[writer.as_slice()])?;
        Ok(self.sequence)
    }

    /// Hands over the messages that answer a request, until one is the last or the kernel says no.
    /// An acknowledgement counts as an answer.
    fn answers(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(Message) -> Result<Flow, Fault>,
    ) -> Result<(), Fault> {
        loop {
            let length = match self.transport.receive(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(silence()),
                Err(e) if overrun(&e) => return Err(Fault::Interrupted),
                Err(e) => return Err(e.into()),
            };
            for message in Messages::new(&self.buffer[..length]) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                let refusal = match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => error(message)?,
                    _ => None,
                };
                if let Some(refusal) = refusal {
                    return Err(Fault::Refused(refusal));
                }
                if each(message)? == Flow::Done {
                    return Ok(());
                }
            }
        }
    }
}

/// The kernel had no room for its answer.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn silence() -> Fault {
    let error = "the kernel did not answer";
    Fault::Io(io::Error::new(io::ErrorKind::UnexpectedEof, error))
}

/// An acknowledgement or the end of a dump (`None`), or a refusal in the place of either.
fn error(message: Message) -> Result<Option<Refusal>, Malformed> {
    const WORDS: u16 = 1;
    const OFFSET: u16 = 2;
    let code = u32_ne(message.payload, 0).ok_or(Malformed)? as i32;
    if code == 0 {
        return Ok(None);
    }
    let table = Table::<3>::parse(details(message))?;
    Ok(Some(Refusal {
        sequence: message.sequence,
        errno: Errno::from_raw(code.wrapping_neg()),
        words: table.string(WORDS).ok().map(str::to_owned),
        offset: table
            .get(OFFSET)
            .and_then(|o| u32_ne(o, 0))
            .map(|o| o as usize),
    }))
}

/// The attributes of a refusal: behind the code, and, unless a dump was refused, behind as much of
/// the request as is repeated (`struct nlmsgerr`).
fn details(message: Message<'_>) -> &[u8] {
    const CODE: usize = 4;
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return &[];
    }
    let repeated = match (message.kind, message.flags & NLM_F_CAPPED) {
        (NLMSG_DONE, _) => Some(0),
        (_, 0) => u32_ne(message.payload, CODE).map(|l| l as usize),
        _ => Some(HEADER),
    };
    repeated
        .and_then(|r| r.checked_next_multiple_of(4)?.checked_add(CODE))
        .and_then(|at| message.payload.get(at..))
        .unwrap_or_default()
}
