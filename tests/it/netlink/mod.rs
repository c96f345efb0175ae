//! The backends of nf_tables against the kernel, and compared with iptables and nft.

mod limits;
mod listing;
mod native;
mod obstacles;
mod others;
mod reading;
mod xt;

use crate::lab::Namespace;
use prepare_proxy::engine::backends::MANAGED;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, BackendError, TableKind};
use prepare_proxy::netfilter::model::{Change, Observed, Ruleset};
use prepare_proxy::netfilter::nftables::{Netlink, NfTables};

/// Opens one of the two backends.
type Open = fn() -> Result<Netlink, BackendError>;

fn open_xt() -> Result<Netlink, BackendError> {
    Ok(NfTables::open(MANAGED)?.backend(TableKind::Xt))
}

fn open_native() -> Result<Netlink, BackendError> {
    Ok(NfTables::open(MANAGED)?.backend(TableKind::Native))
}

/// Reads until no other program commits.
fn read(backend: &mut Netlink) -> Result<Observed, BackendError> {
    loop {
        match backend.read() {
            Err(BackendError::Interrupted { .. }) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            read => return read,
        }
    }
}

/// What an apply would do.
fn difference(namespace: &Namespace, open: Open, desired: &Ruleset) -> Change {
    namespace.enter(|| {
        let mut backend = open().unwrap();
        let observed = read(&mut backend).unwrap();
        plan(&observed, &backend.normalised(desired))
    })
}

fn apply(namespace: &Namespace, open: Open, desired: &Ruleset) -> Result<(), BackendError> {
    namespace.enter(|| {
        let mut backend = open()?;
        let observed = read(&mut backend)?;
        let change = plan(&observed, &backend.normalised(desired));
        backend.commit(&change)
    })
}
