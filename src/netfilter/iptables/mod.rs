//! The tools of iptables-legacy: one `…-restore --noflush` per family writes, `…-save` reads.
//!
//! The only module that starts processes; without the feature `iptables` only the text for dry runs
//! is available.

#[cfg(feature = "iptables")]
mod extensions;
#[cfg(feature = "iptables")]
mod options;
mod order;
#[cfg(feature = "iptables")]
mod parse;
#[cfg(feature = "iptables")]
mod program;
mod render;
#[cfg(feature = "iptables")]
mod run;
#[cfg(feature = "iptables")]
mod tool;
mod words;

#[cfg(feature = "iptables")]
pub use parse::parse_save;
pub use render::{commands, restore};
#[cfg(feature = "iptables")]
pub use tool::{Iptables, legacy_tables_in_use};
