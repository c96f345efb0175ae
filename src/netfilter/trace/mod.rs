//! What a ruleset does to one packet: the hooks that it passes, the tables at each, rule by rule.
//!
//! Pure and total: no I/O, no clock; a loop of jumps is an error. What the kernel does is said where
//! it is done, with the function that does it there; a test of real connections keeps this and the
//! kernel in agreement.

mod chain;
pub mod classes;
mod follow;
mod network;
mod passage;
#[cfg(test)]
mod properties;
mod state;
#[cfg(test)]
mod tests;
mod tracer;

pub use follow::{every_trace, follow};
pub use network::{Link, Network, NextHop};
pub use passage::{
    Capture, Effect, End, Passage, Step, StepOutcome, TablePassage, Trace, Undecoded,
};
pub use tracer::{Probe, Start, chains_at};

use crate::netfilter::model::ChainName;
use thiserror::Error;

/// A chain that leads back to itself. The kernel refuses such rules, so they were not read from one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("chain {chain} of table {table} leads back to itself")]
pub struct JumpLoop {
    pub table: String,
    pub chain: ChainName,
}
