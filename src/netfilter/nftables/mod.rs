//! nf_tables over netlink: no program is started.
//!
//! A change goes as one batch, of which the kernel takes all or nothing, and only if nobody else
//! committed since it was read. Rules are written in one of two ways: as iptables-nft writes them,
//! so that iptables shows and edits them, or in nf_tables' own expressions in tables of our own.
//!
//! From the bottom up: `nf_tables` (numbers of the kernel's header), `batch` and `kernel` (what is
//! said to it), `expr` (its expressions as values, one file each), `header`, `verdict`, `xt` and
//! `native` (rules to expressions and back), `hooks` (where they live), `dump` (what is there),
//! `decode` (a dump in the model), `hooked` (everything
//! that a packet meets), `encode` (a change as messages), `error`.

mod batch;
mod decode;
mod detour;
mod dump;
mod encode;
mod error;
mod expr;
mod foreign;
mod header;
mod hooked;
mod hooks;
mod kernel;
mod monitor;
mod native;
mod nf_tables;
#[cfg(test)]
mod tests;
mod verdict;
mod xt;

use crate::netfilter::backend::{Backend, BackendError, Feature, Store};
use crate::netfilter::model::{Change, HookedTable, Live, Ruleset};
use crate::netfilter::netlink::{Error, Socket, Transport};
use batch::TooLarge;
use detour::Detour;
use dump::Dump;
use kernel::Kernel;
pub use monitor::{Commit, Monitor, Notification, Object, Process, Touched};
pub use native::{Unprintable, render};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::borrow::Cow;
use std::io;

/// A rule says something for which the encoding has no form.
#[derive(Clone, Copy, Debug)]
pub struct NoForm;

/// A backend that speaks to nf_tables through a netlink socket.
#[derive(Debug)]
pub struct Netlink<T = Socket> {
    kernel: Kernel<T>,
    store: Store,
    /// What the next change is made from.
    dump: Option<Dump>,
}

/// Opens a socket in the network namespace of this thread, for the tables that iptables-nft keeps
/// too. Nothing is asked of the kernel yet.
///
/// # Errors
/// [`BackendError::Missing`] when the kernel has no netfilter netlink at all.
pub fn open_xt() -> Result<Netlink, BackendError> {
    open(Store::Xt)
}

/// Opens a socket in the network namespace of this thread, for tables of our own with native
/// expressions. Fails as [`open_xt`] does.
pub fn open_native() -> Result<Netlink, BackendError> {
    open(Store::Native)
}

fn open(store: Store) -> Result<Netlink, BackendError> {
    let doing = "opening a netfilter netlink socket".to_owned();
    match Socket::open(SockProtocol::NetlinkNetFilter) {
        Ok(socket) => Ok(Netlink::new(socket, store)),
        Err(e) if unsupported(&e) => Err(BackendError::Missing {
            doing,
            feature: Feature::NfTables,
        }),
        Err(source) => Err(BackendError::Io { doing, source }),
    }
}

fn unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT))
}

impl<T: Transport> Netlink<T> {
    /// A backend for one of nf_tables' stores, over any transport.
    pub fn new(transport: T, store: Store) -> Self {
        Netlink {
            kernel: Kernel::new(transport),
            store,
            dump: None,
        }
    }
}

impl<T: Transport> Backend for Netlink<T> {
    fn name(&self) -> &'static str {
        match self.store {
            Store::Native => "nftables",
            _ => "netlink",
        }
    }

    fn store(&self) -> Store {
        self.store
    }

    fn notices_others(&self) -> bool {
        true
    }

    fn canonical<'r>(&self, wanted: &'r Ruleset) -> Cow<'r, Ruleset> {
        match self.store {
            Store::Native => Cow::Owned(native::merged_into_sets(wanted)),
            _ => Cow::Borrowed(wanted),
        }
    }

    fn read(&mut self) -> Result<Live, BackendError> {
        let dump = Dump::read(&mut self.kernel, self.store).map_err(error::of_read)?;
        if let Some((table, chain)) = dump.unknown() {
            return Err(error::of_hidden(table, chain));
        }
        let live = decode::live(&dump, self.store);
        self.dump = Some(dump);
        Ok(live)
    }

    fn commit(&mut self, change: &Change) -> Result<(), BackendError> {
        let Some(dump) = self.dump.take() else {
            return Err(error::of_read(Error::Interrupted));
        };
        match self.put(change, &dump) {
            Err(Failure::TooLarge(_)) => self.put_by_detour(change, &dump),
            result => result.map_err(|f| f.or(error::of_size)),
        }
    }
}

/// Why a change could not be committed.
enum Failure {
    /// What packets meet cannot be changed in one transaction.
    TooLarge(TooLarge),
    /// What is left empty cannot be removed, see [`encode::encode`].
    Busy(BackendError),
    Of(BackendError),
}

impl Failure {
    /// The error, where being too large is `too_large`.
    fn or(self, too_large: impl FnOnce(TooLarge) -> BackendError) -> BackendError {
        match self {
            Failure::TooLarge(by) => too_large(by),
            Failure::Busy(error) | Failure::Of(error) => error,
        }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Failure::Of(error)
    }
}

impl<T: Transport> Netlink<T> {
    /// Reads every table of nf_tables that an IP packet meets, whoever wrote it, with where its
    /// chains are hooked in.
    pub fn read_hooked(&mut self) -> Result<Vec<HookedTable>, BackendError> {
        hooked::read(&mut self.kernel).map_err(error::of_read)
    }

    /// Commits a change that was made from this dump, with one switch.
    fn put(&mut self, change: &Change, dump: &Dump) -> Result<(), Failure> {
        match self.attempt(change, dump, true) {
            Err(Failure::Busy(error)) => {
                log::debug!("what is left empty stays: {error}");
                self.attempt(change, dump, false)
            }
            result => result,
        }
    }

    fn attempt(&mut self, change: &Change, dump: &Dump, tidy: bool) -> Result<(), Failure> {
        let encoded = encode::encode(change, dump, self.store, tidy);
        let mut batch = encoded.map_err(error::of_encode)?;
        if batch.is_empty() {
            return Ok(());
        }
        let room = self.kernel.room(batch.len());
        let room = room.map_err(|e| error::of_commit(e.into(), &batch))?;
        let transactions = batch.transactions(room).map_err(Failure::TooLarge)?;
        let committed = self
            .kernel
            .commit(&mut batch, transactions, dump.generation);
        committed.map_err(|error| {
            let tidying = error::is_tidying(&error, &batch);
            let error = error::of_commit(error, &batch);
            match tidying {
                true => Failure::Busy(error),
                false => Failure::Of(error),
            }
        })
    }

    /// Commits a change that is too large for one switch.
    fn put_by_detour(&mut self, change: &Change, dump: &Dump) -> Result<(), BackendError> {
        let detour = Detour::around(change, dump);
        self.put(&detour.there, dump)
            .map_err(|f| f.or(error::of_size))?;
        let dump = Dump::read(&mut self.kernel, self.store).map_err(error::of_read)?;
        // If somebody else was there meanwhile, the chains are not as they were left.
        let changed = |_| error::of_read(Error::Interrupted);
        self.put(&detour.back, &dump).map_err(|f| f.or(changed))
    }
}
