//! Parses what was typed and prints what was found.

pub mod cli;
pub(crate) mod cni;
pub(crate) mod log_format;
