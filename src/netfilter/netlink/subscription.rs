//! Notifications of multicast groups (netlink(7)).

use super::socket::{Socket, Transport};
use super::wire::{Message, Messages};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The longest datagram: a message cannot be longer than the length field of one attribute allows.
const DATAGRAM: usize = 64 * 1024;

/// The receive buffer for pending notifications: enough for a few thousand deleted rules.
const QUEUE: usize = 1 << 20;

/// Whether all notifications were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// Some were lost or could not be read.
    WithGaps,
}

/// A socket that only receives notifications.
#[derive(Debug)]
pub struct Subscription<T = Socket> {
    transport: T,
    buffer: Box<[u8]>,
}

impl Subscription {
    /// Joins groups of a netlink protocol by number (`NFNLGRP_*`, `RTNLGRP_*`) in the network
    /// namespace of this thread. EPROTONOSUPPORT if the kernel lacks the protocol, EPERM for
    /// nf_tables without CAP_NET_ADMIN.
    pub fn open(protocol: SockProtocol, groups: &[u32]) -> io::Result<Self> {
        let socket = Socket::open(protocol)?;
        socket.queue(QUEUE)?;
        groups.iter().try_for_each(|group| socket.join(*group))?;
        Ok(Subscription::new(socket))
    }
}

impl AsFd for Subscription {
    /// Readable when notifications are pending or were lost.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

impl<T: Transport> Subscription<T> {
    pub fn new(transport: T) -> Self {
        Subscription {
            transport,
            buffer: vec![0; DATAGRAM].into(),
        }
    }

    /// Passes all pending messages to a callback in order, without blocking.
    ///
    /// # Errors
    /// Errors of receiving, other than losses.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<Delivery> {
        let mut arrived = Delivery::Whole;
        loop {
            let length = match self.transport.receive(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(arrived),
                Err(e) if is_gap(&e) => {
                    arrived = Delivery::WithGaps;
                    continue;
                }
                Err(e) => return Err(e),
            };
            for message in Messages::new(&self.buffer[..length]) {
                match message {
                    Ok(message) => each(message),
                    Err(_) => arrived = Delivery::WithGaps,
                }
            }
        }
    }
}

/// Whether notifications were lost, in the kernel or here.
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

    fn drained(script: Vec<io::Result<Vec<u8>>>) -> (Vec<u16>, io::Result<Delivery>) {
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
        assert_eq!(arrived.unwrap(), Delivery::Whole);
    }

    #[test]
    fn losses_are_reported_and_later_messages_are_read() {
        for lost in [Errno::ENOBUFS, Errno::EMSGSIZE] {
            let (kinds, arrived) = drained(vec![Ok(message(1)), Err(lost.into()), Ok(message(2))]);
            assert_eq!(kinds, [1, 2]);
            assert_eq!(arrived.unwrap(), Delivery::WithGaps);
        }
        let cut = message(7)[..10].to_vec();
        let (kinds, arrived) = drained(vec![Ok(cut), Ok(message(2))]);
        assert_eq!(kinds, [2]);
        assert_eq!(arrived.unwrap(), Delivery::WithGaps);
    }

    #[test]
    fn a_socket_that_fails_is_an_error() {
        let (_, arrived) = drained(vec![Err(Errno::EBADF.into())]);
        assert!(arrived.is_err());
    }
}
