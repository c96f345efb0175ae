//! Redirects a pod's or VM's TCP traffic to its sidecar proxy.
//!
//! # The house
//!
//! Five floors; imports go downward only (`tests/it/architecture.rs`).
//!
//! ```text
//!  frontend    parses what was typed, prints what was found        cli/  output/
//!     │ Request, Action                                  ▲ Report, Event, Error
//!  actions     apply  clean  diff  explain  status  verify  watch
//!     │                                                  ▲ Reconciled, observed rules
//!  engine      reconcile (plan, pass), backends, lock, facts of the host, namespaces
//!     │ options, Facts                                   ▲ Config, desired Ruleset, Warning
//!  mesh        pure: options → config → desired ruleset; what is managed; a folder per mesh
//!     │                                                  ▲ Observed, Trace
//!  netfilter   rules as values (model), packets through them (trace), and the kernel:
//!              nftables  iptables  rtnetlink  conntrack  netlink
//! ```
//!
//! # The way of one apply
//!
//! 1. [`frontend::run`] parses the command line ([`frontend::cli::parse`]) into a
//!    [`Request`](engine::request::Request) and an [`Action`](actions::Action).
//! 2. [`actions::run`] performs it; `actions::apply` checks where it is and what it may.
//! 3. [`Request::resolve`](engine::request::Request::resolve) gathers facts and asks
//!    [`mesh::resolve`] for the configuration and the desired ruleset.
//! 4. [`engine::reconcile`] adds policy routes, then makes passes over the rules until nothing
//!    differs: each compares the observed rules with the desired ones
//!    ([`plan`](engine::reconcile::plan::plan)).
//! 5. [`Backend::commit`](netfilter::backend::Backend::commit) commits the change in one transaction.
//! 6. The report goes back up, and [`frontend`] logs its one line.
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
