//! Conversations with the kernel over netlink(7): `wire` (bytes), [`Socket`], [`Connection`]
//! (questions and answers), [`Subscription`] (what is told unasked), [`Error`]. What is said is up to
//! those who speak: nf_tables' backends and `routing`.

mod connection;
mod error;
mod socket;
mod subscription;
mod wire;

pub use connection::Connection;
pub use error::{Error, Nack};
pub use socket::{Socket, Transport};
pub use subscription::{Arrived, Subscription};
pub use wire::{AttributeTable, Attributes, Malformed, Message, Writer, u32_ne};

use nix::libc;

/// The message is a request, as opposed to an answer. These are the `NLM_F_*` of linux/netlink.h,
/// in the width that a header has for them.
pub const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// An acknowledgement is wanted.
pub const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
/// All objects of the kind are wanted.
pub const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
/// A removal that must not take along what is inside.
pub const NLM_F_NONREC: u16 = libc::NLM_F_NONREC as u16;
/// EEXIST if the object is there already.
pub const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
/// The object is made if it is not there.
pub const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
/// The object goes behind those that are there.
pub const NLM_F_APPEND: u16 = libc::NLM_F_APPEND as u16;

/// Of an answer: what was dumped changed meanwhile.
const NLM_F_DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;
/// Of a refusal: no more than the header of the request is repeated.
const NLM_F_CAPPED: u16 = libc::NLM_F_CAPPED as u16;
/// Of a refusal: attributes stand behind the request.
const NLM_F_ACK_TLVS: u16 = libc::NLM_F_ACK_TLVS as u16;
/// An acknowledgement or a refusal.
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
/// The end of a dump.
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
