//! The backends of nf_tables against the kernel, and compared with iptables and nft.

mod limits;
mod native;
mod obstacles;
mod others;
mod reading;
mod xt;

use crate::lab::Namespace;
use prepare_proxy::engine::backends::MANAGED;
use prepare_proxy::engine::reconcile::plan::plan;
use prepare_proxy::netfilter::backend::{Backend, BackendError, Store};
use prepare_proxy::netfilter::model::{Change, Live, Ruleset};
use prepare_proxy::netfilter::nftables::{Netlink, NfTables};

/// Opens one of the two backends.
type Open = fn() -> Result<Netlink, BackendError>;

fn open_xt() -> Result<Netlink, BackendError> {
    Ok(NfTables::open(MANAGED)?.backend(Store::Xt))
}

fn open_native() -> Result<Netlink, BackendError> {
    Ok(NfTables::open(MANAGED)?.backend(Store::Native))
}

/// Reads until no other program commits.
fn read(backend: &mut Netlink) -> Result<Live, BackendError> {
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
        let live = read(&mut backend).unwrap();
        plan(&live, &backend.normalised(desired))
    })
}

fn apply(namespace: &Namespace, open: Open, desired: &Ruleset) -> Result<(), BackendError> {
    namespace.enter(|| {
        let mut backend = open()?;
        let live = read(&mut backend)?;
        let change = plan(&live, &backend.normalised(desired));
        backend.commit(&change)
    })
}
