//! Communication with the kernel over netlink(7): `wire` (bytes), [`Socket`], [`Connection`]
//! (requests and replies), [`Subscription`] (notifications), [`Error`].

mod connection;
mod error;
mod socket;
mod subscription;
mod wire;

pub use connection::Connection;
pub use error::{Error, Nack};
pub use socket::{Socket, Transport};
pub use subscription::{Delivery, Subscription};
pub use wire::{AttributeTable, Attributes, Malformed, Message, Writer, u32_ne};

use nix::libc;

/// A request. These are the `NLM_F_*` of linux/netlink.h in the width of the header field.
pub const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Request an acknowledgement.
pub const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
/// Request all objects.
pub const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
/// Do not delete recursively.
pub const NLM_F_NONREC: u16 = libc::NLM_F_NONREC as u16;
/// EEXIST if the object exists.
pub const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
/// Create the object if it does not exist.
pub const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Append the object.
pub const NLM_F_APPEND: u16 = libc::NLM_F_APPEND as u16;

/// In replies: the dumped objects changed meanwhile.
const NLM_F_DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;
/// In errors: only the header of the request is repeated.
const NLM_F_CAPPED: u16 = libc::NLM_F_CAPPED as u16;
/// In errors: attributes follow the request.
const NLM_F_ACK_TLVS: u16 = libc::NLM_F_ACK_TLVS as u16;
/// An acknowledgement or an error.
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
/// The end of a dump.
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
