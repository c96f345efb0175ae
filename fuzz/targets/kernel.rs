//! A kernel that answers with the fuzzer's bytes.

use prepare_proxy::netfilter::netlink::Transport;
use std::io;

/// Each answer is a length of two bytes and as many bytes of a datagram. So that they are not passed
/// over at once, the sequence number in their first message is that of the request.
pub struct Kernel<'a> {
    answers: &'a [u8],
    sequence: [u8; 4],
}

impl<'a> Kernel<'a> {
    pub fn new(answers: &'a [u8]) -> Self {
        Kernel {
            answers,
            sequence: [0; 4],
        }
    }
}

impl Transport for Kernel<'_> {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.sequence.copy_from_slice(&parts[0][8..12]);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, rest) = self
            .answers
            .split_first_chunk()
            .ok_or(io::ErrorKind::WouldBlock)?;
        let length = usize::from(u16::from_le_bytes(*length));
        let length = length.min(rest.len()).min(buffer.len());
        let (datagram, rest) = rest.split_at(length);
        self.answers = rest;
        buffer[..length].copy_from_slice(datagram);
        if let Some(sequence) = buffer[..length].get_mut(8..12) {
            sequence.copy_from_slice(&self.sequence);
        }
        Ok(length)
    }

    fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        Ok(wanted)
    }
}
