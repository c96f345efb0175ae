//! Reconciles a network namespace with the desired state: facts, choice of backend, privileges,
//! locking and retries.

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
