//! Questions and answers over one socket (netlink(7); RFC 3549).

use super::error::{Error, Nack};
use super::socket::Transport;
use super::wire::{Malformed, Message, Messages, Writer};
use super::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE};
use nix::errno::Errno;
use std::cell::RefCell;
use std::io;

/// The longest datagram that is received, in bytes: the kernel fills those of a dump up to 32 KiB
/// where it is offered as much (net/netlink/af_netlink.c).
const DATAGRAM: usize = 32 * 1024;

thread_local! {
    /// What is received goes through one buffer, whatever the socket: to make it costs as much as a
    /// small commit.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM].into());
}

/// Whether more answers are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    More,
    Done,
}

/// A conversation over one socket.
#[derive(Debug)]
pub struct Connection<T> {
    transport: T,
    sequence: u32,
}

impl<T: Transport> Connection<T> {
    /// Begins a conversation, with nothing said yet.
    pub fn new(transport: T) -> Self {
        Connection {
            transport,
            sequence: 0,
        }
    }

    /// Asks for one object, and hands over the message that is the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel has none, [`Error::Interrupted`] when the answer was lost.
    pub fn get(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Writer),
        mut answer: impl FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let sequence = self.ask(kind, 0, fill)?;
        self.answers(sequence, |message| {
            answer(message)?;
            Ok(Flow::Done)
        })
    }

    /// Asks for all objects of a kind, and hands them over one by one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when they changed meanwhile, or a part was lost.
    pub fn dump(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
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
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// Sends messages that are to be done one by one, all in one system call, so that a process
    /// killed meanwhile leaves none undone. Says how each went, in their order; `write` is given
    /// the sequence number of each.
    pub fn tell<M>(
        &mut self,
        messages: &[M],
        mut write: impl FnMut(&M, &mut Writer, u32),
    ) -> Result<Vec<Result<(), Nack>>, Error> {
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
                Err(Error::Refused(nack)) => Err(nack),
                Err(error) => return Err(error),
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
    ///
    /// # Errors
    /// [`Error::Io`] if nothing was sent, [`Error::Unanswered`] if no answer came.
    pub fn transact(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        self.transport.send(parts)?;
        BUFFER.with_borrow_mut(|buffer| self.outcome(buffer))
    }

    /// What became of a transaction.
    fn outcome(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let (mut acknowledged, mut lost, mut refused) = (false, None, None);
        loop {
            let length = match self.transport.receive(buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if overrun(&e) => {
                    lost = Some(e);
                    continue;
                }
                Err(e) => {
                    lost = Some(e);
                    break;
                }
            };
            for message in Messages::new(&buffer[..length]) {
                match message.map(Nack::of) {
                    Ok(Some(Ok(None))) => acknowledged = true,
                    Ok(Some(Ok(Some(nack)))) => refused = refused.or(Some(nack)),
                    Ok(None) => {}
                    Ok(Some(Err(e))) | Err(e) => {
                        lost = Some(io::Error::new(io::ErrorKind::InvalidData, e));
                    }
                }
            }
        }
        match refused {
            Some(nack) => Err(Error::Refused(nack)),
            None if acknowledged => Ok(()),
            None => Err(Error::Unanswered(lost.unwrap_or_else(silence))),
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) -> Result<u32, Error> {
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
        each: impl FnMut(Message) -> Result<Flow, Error>,
    ) -> Result<(), Error> {
        BUFFER.with_borrow_mut(|buffer| self.received(buffer, sequence, each))
    }

    fn received(
        &mut self,
        buffer: &mut [u8],
        sequence: u32,
        mut each: impl FnMut(Message) -> Result<Flow, Error>,
    ) -> Result<(), Error> {
        loop {
            let length = match self.transport.receive(buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(silence().into()),
                Err(e) if overrun(&e) => return Err(Error::Interrupted),
                Err(e) => return Err(e.into()),
            };
            for message in Messages::new(&buffer[..length]) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                if let Some(nack) = Nack::of(message).transpose()?.flatten() {
                    return Err(Error::Refused(nack));
                }
                if each(message)? == Flow::Done {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the kernel had no room for its answer, and dropped it.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel did not answer")
}
