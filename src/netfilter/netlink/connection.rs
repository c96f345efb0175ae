//! Requests and replies over one socket (netlink(7); RFC 3549).

use super::error::{Error, Nack};
use super::socket::Transport;
use super::wire::{Malformed, Message, Messages, Writer};
use super::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE};
use nix::errno::Errno;
use std::cell::RefCell;
use std::io;

/// The receive buffer size: the kernel fills dump datagrams up to 32 KiB if the buffer allows it
/// (net/netlink/af_netlink.c).
const DATAGRAM: usize = 32 * 1024;

thread_local! {
    /// One receive buffer per thread, of which only the pages that replies fill take memory.
    static BUFFER: RefCell<[u8; DATAGRAM]> = const { RefCell::new([0; DATAGRAM]) };
}

/// Whether more replies are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    More,
    Done,
}

/// A sequence of requests over one socket.
#[derive(Debug)]
pub struct Connection<T> {
    transport: T,
    sequence: u32,
}

impl<T: Transport> Connection<T> {
    pub fn new(transport: T) -> Self {
        Connection {
            transport,
            sequence: 0,
        }
    }

    /// Requests one object and passes the reply to a callback.
    ///
    /// # Errors
    /// [`Error::Refused`] by the kernel, [`Error::Interrupted`] if the reply was lost.
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

    /// Dumps all objects of a kind and passes them to a callback one by one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if they changed meanwhile, or a part was lost.
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

    /// Sends independent messages in one system call, so that a killed process leaves none unsent.
    /// Returns the result of each in order; `write` gets the sequence number of each.
    pub fn send_all<M>(
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

    /// Returns the maximum size of a datagram, after trying to raise it to `wanted` bytes.
    pub fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        self.transport.capacity(wanted)
    }

    /// Sends the parts as one datagram whose last message requests an acknowledgement. Returns the
    /// first error of any message.
    ///
    /// # Errors
    /// [`Error::Io`] if nothing was sent, [`Error::Unanswered`] if no reply was received.
    pub fn transact(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        self.transport.send(parts)?;
        BUFFER.with_borrow_mut(|buffer| self.outcome(buffer))
    }

    /// Receives the result of a transaction: refusals come before the acknowledgement, which is that of
    /// the last message.
    fn outcome(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let (mut acknowledged, mut lost, mut refused) = (false, None, None);
        while !acknowledged {
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

    /// Passes replies to a callback until the last one or an error. An acknowledgement counts as a
    /// reply.
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

/// Whether the kernel dropped a reply for lack of buffer space.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel did not answer")
}
