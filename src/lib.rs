//! Sends the TCP of a pod or a VM through its sidecar proxy, and takes that back.
//!
//! Data goes one way: the command line ([`cli`]) gives raw options; [`config`] resolves them, with
//! the environment, files and facts of the host, into a configuration in which every invariant
//! holds; a [`mesh`] turns that into a [`ruleset`], a pure value; [`ops`] compares it with what a
//! [`backend`] reads from the kernel, as far as that is ours (`ownership`), and hands the difference
//! back to it to be committed. [`packet`] tells what a ruleset does to one connection.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests look for themselves"
    )
)]

pub mod actions;
pub mod engine;
pub mod frontend;
pub mod mesh;
pub mod netfilter;

pub use frontend::{Exit, run};
