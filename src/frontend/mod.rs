//! Parses what was typed and prints what was found.

pub mod cli;
pub(crate) mod log_format;
