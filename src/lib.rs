//! Sends the TCP of a pod or a VM through its sidecar proxy.
#![forbid(unsafe_code)]

pub mod backend;
pub mod config;
pub mod mesh;
pub mod ruleset;
