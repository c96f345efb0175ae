//! Conversations with the kernel over netlink(7): `wire` (bytes), [`Socket`], [`Talk`] (questions
//! and answers). What is said is up to those who speak: nf_tables' backends and `routing`.

mod socket;
mod talk;
mod wire;

pub use socket::{Socket, Transport};
pub use talk::{Fault, Refusal, Talk};
pub use wire::{Attributes, Malformed, Message, Table, Writer, u32_ne};

/// It is a question or an order, as opposed to an answer.
pub const NLM_F_REQUEST: u16 = 1;
/// An acknowledgement is wanted.
pub const NLM_F_ACK: u16 = 4;
/// All objects of the kind are wanted.
pub const NLM_F_DUMP: u16 = 0x300;
/// For a removal: nothing that is inside may go with it.
pub const NLM_F_NONREC: u16 = 0x100;
/// Not what is there already.
pub const NLM_F_EXCL: u16 = 0x200;
/// What is not there is made.
pub const NLM_F_CREATE: u16 = 0x400;
/// Behind what is there already.
pub const NLM_F_APPEND: u16 = 0x800;
