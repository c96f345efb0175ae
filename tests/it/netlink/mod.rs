//! The netlink backends against the real kernel, and against what iptables and nft say of it.

mod limits;
mod native;
mod obstacles;
mod others;
mod small_sockets;
mod xt;

use crate::lab::Namespace;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, BackendError};
use prepare_proxy::netfilter::model::{Change, Ruleset};
use prepare_proxy::netfilter::nftables::Netlink;

/// Opens one of the two backends.
type Open = fn() -> Result<Netlink, BackendError>;

/// What an apply would do.
fn difference(namespace: &Namespace, open: Open, wanted: &Ruleset) -> Change {
    namespace.enter(|| {
        let mut backend = open().unwrap();
        plan(&backend.read().unwrap(), &backend.canonical(wanted))
    })
}

/// Does it, once.
fn apply(namespace: &Namespace, open: Open, wanted: &Ruleset) -> Result<(), BackendError> {
    namespace.enter(|| {
        let mut backend = open()?;
        let change = plan(&backend.read()?, &backend.canonical(wanted));
        backend.commit(&change)
    })
}
