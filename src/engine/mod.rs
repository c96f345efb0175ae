//! Brings the observed state of a network namespace to the desired one.

pub mod backends;
pub mod error;
pub mod exit;
pub(crate) mod host;
pub(crate) mod lock;
pub(crate) mod network_namespace;
pub mod plan;
pub(crate) mod privilege;
pub(crate) mod reconcile;
pub(crate) mod record;
pub mod resolve;
pub(crate) mod retry;
pub(crate) mod user_namespace;
