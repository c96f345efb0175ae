//! Brings the observed state of a network namespace to the desired one: which backend, which
//! namespace, with which privilege, and beside whom.

pub mod backends;
pub mod error;
pub mod host;
pub(crate) mod lock;
pub(crate) mod network_namespace;
pub(crate) mod privilege;
pub mod reconcile;
pub mod request;
pub(crate) mod retry;
pub(crate) mod user_namespace;
