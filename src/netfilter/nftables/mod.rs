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
mod rule;
mod session;
#[cfg(test)]
mod tests;
mod verdict;
mod xt;

use crate::netfilter::backend::{Backend, BackendError, Store};
use crate::netfilter::model::{Change, Live, Ruleset};
use crate::netfilter::netlink::{Error, Socket, Transport};
use batch::Batch;
use dump::Dump;
use encode::Origin;
pub use monitor::{Commit, Monitor, Notification, Object, Process, Touched};
pub use native::render;
use nix::errno::Errno;
pub use session::{Managed, NfTables};
use std::borrow::Cow;
use std::io;

/// A rule says something for which the encoding has no form.
#[derive(Clone, Copy, Debug)]
pub struct NoForm;

/// A backend that speaks to nf_tables through a netlink socket.
#[derive(Debug)]
pub struct Netlink<T = Socket> {
    nf_tables: NfTables<T>,
    store: Store,
    /// What the next change is made from.
    dump: Option<Dump>,
}

fn unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT))
}

impl<T: Transport> Netlink<T> {
    /// A backend for one of nf_tables' stores, over any transport, that reads every chain.
    pub fn new(transport: T, store: Store) -> Self {
        let managed = Managed {
            chain: |_| true,
            inet_table: |_| false,
        };
        NfTables::new(transport, managed).backend(store)
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
        let dump = self.nf_tables.read(self.store).map_err(error::of_read)?;
        // Managed rules may be there.
        if let Some((table, chain)) = dump.hidden().find(|(_, c)| c.base.is_some()) {
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
        match self.attempt(change, &dump, true) {
            Err(Failure::Busy(error)) => {
                log::debug!("what is left empty stays: {error}");
                self.attempt(change, &dump, false)
            }
            result => result,
        }
        .map_err(|failure| match failure {
            Failure::Busy(error) | Failure::Of(error) => error,
        })
    }
}

/// Why a change could not be committed.
enum Failure {
    /// What is left empty cannot be removed, see [`encode::encode`].
    Busy(BackendError),
    Of(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Failure::Of(error)
    }
}

impl<T: Transport> Netlink<T> {
    /// Commits a change that was made from this dump. With `tidy`, what is left empty goes.
    fn attempt(&self, change: &Change, dump: &Dump, tidy: bool) -> Result<(), Failure> {
        let encoded = encode::encode(change, dump, self.store, tidy);
        let (now, then) = encoded.map_err(error::of_encode)?;
        let next = match now.is_empty() {
            true => dump.generation,
            false => kernel::next_generation(dump.generation),
        };
        self.send(now, dump.generation)?;
        self.send(then, next)
    }

    fn send(&self, mut batch: Batch<Origin>, generation: u32) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let room = self.nf_tables.room(batch.len());
        let room = room.map_err(|e| error::of_commit(e.into(), &batch))?;
        if batch.len() > room {
            return Err(error::of_size(batch.len(), room).into());
        }
        let committed = self.nf_tables.commit(&mut batch, self.store, generation);
        committed.map_err(|error| {
            let tidying = error::is_tidying(&error, &batch);
            let error = error::of_commit(error, &batch);
            match tidying {
                true => Failure::Busy(error),
                false => Failure::Of(error),
            }
        })
    }
}
