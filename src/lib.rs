//! Redirects a pod's or VM's TCP traffic to its sidecar proxy.
//!
//! # The house
//!
//! Five floors; imports go downward only (`tests/it/architecture.rs`).
//!
//! ```text
//!  frontend    parses what was typed, prints what was found        cli/  cni/  output/
//!     │ Request, Action                                  ▲ Report, Event, Error
//!  actions     apply  clean  diff  dry_run  explain  status  verify  watch
//!     │ Request, desired Ruleset                         ▲ Reconciled, observed rules, Error
//!  engine      reconcile (plan, pass), backends, lock, facts of the host, namespaces
//!     │ options, Facts                                   ▲ Config, desired Ruleset, Warning
//!  mesh        pure: options → config → desired ruleset; what is managed; a folder per mesh
//!     │ Ruleset, Packet                                  ▲ Observed, Trace
//!  netfilter   rules as values (model), packets through them (trace), and the kernel:
//!              nftables  iptables  rtnetlink  conntrack  sock_diag  netlink
//! ```
//!
//! # One apply, from `main` to the commit
//!
//! 1. [`frontend::run`] parses the command line ([`frontend::cli::parse`]) into a
//!    [`Request`](engine::request::Request) and an [`Action`](actions::Action).
//! 2. [`actions::run`] enters the network namespace and calls `actions::apply::apply`.
//! 3. [`Request::resolve`](engine::request::Request::resolve) gathers facts and makes the
//!    configuration and the desired ruleset of them ([`mesh::resolve`]); then `apply` checks that the
//!    namespace is not a node's and that CAP_NET_ADMIN is there.
//! 4. `engine::reconcile::apply` takes the lock, adds policy routes, and makes passes until one
//!    changes nothing: the first backend that works gets the rules, leftovers in the others go.
//! 5. In a pass, `Record::reconcile_tables` reads the tables of a backend, compares them with the
//!    desired ruleset ([`plan`](engine::reconcile::plan::plan)), and
//! 6. [`Backend::commit`](netfilter::backend::Backend::commit) commits the difference in one
//!    transaction.
//!
//! The report goes back up, and [`frontend`] logs its one line.
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
