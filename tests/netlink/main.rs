//! The netlink backends against the real kernel, and against what iptables and nft say of it.
#![forbid(unsafe_code)]

#[path = "../lab/mod.rs"]
mod lab;
mod xt;
mod zoo;

use lab::Namespace;
use prepare_proxy::backend::netlink::open_xt;
use prepare_proxy::backend::{Backend, BackendError};
use prepare_proxy::ops::plan;
use prepare_proxy::ruleset::{Change, Live, Ruleset};

/// Reads what `netlink` sees.
fn read(namespace: &Namespace) -> Live {
    namespace.enter(|| open_xt().unwrap().read().unwrap())
}

/// Commits what is needed to get to a ruleset, once; returns what that was.
fn apply(namespace: &Namespace, wanted: &Ruleset) -> Result<Change, BackendError> {
    namespace.enter(|| {
        let mut backend = open_xt()?;
        let change = plan(&backend.read()?, wanted);
        backend.commit(&change)?;
        Ok(change)
    })
}
