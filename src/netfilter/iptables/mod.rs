//! The tools of iptables-legacy: one `…-restore --noflush` per family writes, `…-save` reads.
//!
//! The only module that starts processes; without the feature `iptables` only the text is left, which
//! dry runs print and comparisons read.

mod extensions;
mod options;
mod order;
mod parse;
#[cfg(feature = "iptables")]
mod program;
mod render;
#[cfg(feature = "iptables")]
mod run;
#[cfg(feature = "iptables")]
mod tool;
mod words;

pub use parse::parse_save;
pub use render::{commands, restore};
#[cfg(feature = "iptables")]
pub use tool::{Iptables, legacy_tables_in_use};
