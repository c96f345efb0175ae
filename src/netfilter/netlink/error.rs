//! Errors of requests.

use super::wire::{AttributeTable, HEADER, Malformed, Message, u32_ne};
use super::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR};
use nix::errno::Errno;
use std::io;

/// `enum nlmsgerr_attrs` of linux/netlink.h, which libc does not have.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

#[derive(Debug)]
pub enum Error {
    /// The kernel returned an error.
    Refused(Nack),
    /// The dump was inconsistent, or the reply was lost: retry.
    Interrupted,
    /// A transaction was sent but its result not received: it may have been committed.
    Unanswered(io::Error),
    /// Communication failed.
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Error::Io(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// An error of the kernel: an `NLMSG_ERROR` message with a code other than 0 (`struct nlmsgerr`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The sequence number of the refused message.
    pub sequence: u32,
    pub errno: Errno,
    /// The extended error message, if any (`NLMSGERR_ATTR_MSG`, since Linux 4.12).
    pub words: Option<String>,
    /// The offset of the offending attribute in the message (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<usize>,
}

impl Nack {
    /// Reads an `NLMSG_ERROR`, or the `NLMSG_DONE` of a dump; `None` on success.
    pub(super) fn read(message: Message) -> Result<Option<Self>, Malformed> {
        let code = u32_ne(message.payload, 0).ok_or(Malformed)? as i32;
        if code == 0 {
            return Ok(None);
        }
        let a = AttributeTable::<3>::parse(attributes(message))?;
        let offset = a.get(NLMSGERR_ATTR_OFFS).and_then(|o| u32_ne(o, 0));
        Ok(Some(Nack {
            sequence: message.sequence,
            errno: Errno::from_raw(code.wrapping_neg()),
            words: a.string(NLMSGERR_ATTR_MSG).ok().map(str::to_owned),
            offset: offset.map(|o| o as usize),
        }))
    }

    /// Like [`Nack::read`] for any message; `None` for other types.
    pub(super) fn of(message: Message) -> Option<Result<Option<Self>, Malformed>> {
        matches!(message.kind, NLMSG_ERROR | NLMSG_DONE).then(|| Nack::read(message))
    }

    /// The description of the errno and the extended error message.
    pub fn reason(&self) -> String {
        let errno = self.errno.desc();
        match &self.words {
            Some(words) => format!("{errno} ({words})"),
            None => errno.to_owned(),
        }
    }
}

/// The attributes after the code and, except for dumps, after the repeated part of the request.
fn attributes(message: Message<'_>) -> &[u8] {
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
