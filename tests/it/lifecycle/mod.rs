//! Lifecycle: rules of every origin converge, foreign rules stay, and after any interruption the
//! kernel has the old or the new state.

mod ahead;
mod auto;
mod capabilities;
mod clean;
mod concurrency;
mod converge;
mod diff;
mod docker;
pub mod faults;
mod foreign_rules;
mod host_network;
mod in_force;
mod initial_states;
mod kill;
pub mod recorded;
mod restricted_host;
mod routes;
mod sequences;
mod ssh;
mod syscalls;
mod tools;
mod world;

use crate::lab::BACKENDS;

pub use initial_states::restore_part;
pub use world::{ISTIO, OTHER, SOME, apply, everything, rules, run};

/// Runs a check on every backend, and lists all failures.
fn on_every_backend(check: impl Fn(&'static str) -> Result<(), String>) {
    let failed: Vec<String> = BACKENDS
        .iter()
        .filter_map(|backend| Some(format!("{backend}: {}", check(backend).err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
