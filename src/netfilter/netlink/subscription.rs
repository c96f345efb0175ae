//! Notifications: what the kernel tells everybody who has joined a multicast group (netlink(7)).

use super::socket::{Socket, Transport};
use super::wire::{Message, Messages};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The longest datagram that is received whole: a message cannot be longer than what its length
/// can say of one attribute.
const DATAGRAM: usize = 64 * 1024;

/// How many bytes of notifications may wait in the kernel: a few thousand rules that go at once.
const QUEUE: usize = 1 << 20;

/// Whether everything that was sent has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    Whole,
    /// Some notifications were lost, or could not be read: anything may have happened.
    WithGaps,
}

/// A socket that nothing is asked on, but notifications arrive at.
#[derive(Debug)]
pub struct Subscription<T = Socket> {
    transport: T,
    buffer: Box<[u8]>,
}

impl Subscription {
    /// Joins groups of one netlink protocol, each by its number (`NFNLGRP_*`, `RTNLGRP_*`), in the
    /// network namespace of this thread. EPROTONOSUPPORT when the kernel has no such protocol,
    /// EPERM where nf_tables' are to be heard without CAP_NET_ADMIN.
    pub fn open(protocol: SockProtocol, groups: &[u32]) -> io::Result<Self> {
        let socket = Socket::open(protocol)?;
        socket.queue(QUEUE)?;
        groups.iter().try_for_each(|group| socket.join(*group))?;
        Ok(Subscription::new(socket))
    }
}

impl AsFd for Subscription {
    /// Readable when notifications wait, or some were lost.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

impl<T: Transport> Subscription<T> {
    /// Listens to what comes over this transport.
    pub fn new(transport: T) -> Self {
        Subscription {
            transport,
            buffer: vec![0; DATAGRAM].into(),
        }
    }

    /// Hands over every message that waits, in its order, and does not wait for more.
    ///
    /// # Errors
    /// What receiving failed with, other than that something was lost.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<Arrived> {
        let mut arrived = Arrived::Whole;
        loop {
            let length = match self.transport.receive(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(arrived),
                Err(e) if is_gap(&e) => {
                    arrived = Arrived::WithGaps;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for message in Messages::new(&self.buffer[..length]) {
                match message {
                    Ok(message) => each(message),
                    Err(_) => arrived = Arrived::WithGaps,
                }
            }
        }
    }
}

/// The kernel had no room for a notification, or we had none.
fn is_gap(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOBUFS | Errno::EMSGSIZE))
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;
    use std::collections::VecDeque;

    /// What arrives, one after the other.
    struct Script(VecDeque<io::Result<Vec<u8>>>);

    impl Transport for Script {
        fn send(&mut self, _: &[&[u8]]) -> io::Result<()> {
            panic!("nothing is asked")
        }

        fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self
                .0
                .pop_front()
                .unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }

        fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
            Ok(wanted)
        }
    }

    fn message(kind: u16) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.message(kind, 0, 0, |_| {});
        writer.as_slice().to_vec()
    }

    fn drained(script: Vec<io::Result<Vec<u8>>>) -> (Vec<u16>, io::Result<Arrived>) {
        let mut kinds = Vec::new();
        let mut subscription = Subscription::new(Script(script.into()));
        let arrived = subscription.drain(|m| kinds.push(m.kind));
        (kinds, arrived)
    }

    #[test]
    fn all_messages_of_all_datagrams_are_handed_over() {
        let both = [message(1), message(2)].concat();
        let (kinds, arrived) = drained(vec![Ok(both), Ok(message(3))]);
        assert_eq!(kinds, [1, 2, 3]);
        assert_eq!(arrived.unwrap(), Arrived::Whole);
    }

    #[test]
    fn what_is_lost_is_told_and_what_follows_is_read() {
        for lost in [Errno::ENOBUFS, Errno::EMSGSIZE] {
            let (kinds, arrived) = drained(vec![Ok(message(1)), Err(lost.into()), Ok(message(2))]);
            assert_eq!(kinds, [1, 2]);
            assert_eq!(arrived.unwrap(), Arrived::WithGaps);
        }
        let cut = message(7)[..10].to_vec();
        let (kinds, arrived) = drained(vec![Ok(cut), Ok(message(2))]);
        assert_eq!(kinds, [2]);
        assert_eq!(arrived.unwrap(), Arrived::WithGaps);
    }

    #[test]
    fn a_socket_that_fails_is_an_error() {
        let (_, arrived) = drained(vec![Err(Errno::EBADF.into())]);
        assert!(arrived.is_err());
    }
}
