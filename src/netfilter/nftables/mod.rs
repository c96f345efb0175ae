//! nf_tables over netlink: no program is started.
//!
//! A change is one batch, which the kernel commits atomically, and only if no other program
//! committed since the read. Rules are written either as iptables-nft writes them, so that iptables
//! shows and edits them, or as native expressions in own tables.
//!
//! From the bottom up: `nf_tables` (constants), `batch` and `kernel` (requests), `expr`
//! (expressions as values, one file each), `header`, `verdict`, `xt` and `native` (rules to
//! expressions and back), `hooks` (names and hooks of tables), `dump` (what the kernel has),
//! `decode` (a dump as model), `hooked` (everything that a packet traverses), `listing` (both from the
//! text of nft), `encode` (a change as messages), `error`.

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
mod listing;
mod monitor;
mod native;
mod nf_tables;
mod nflog;
mod rule;
mod session;
#[cfg(test)]
mod tests;
mod verdict;
mod xt;

use crate::netfilter::backend::{Backend, BackendError, TableKind};
use crate::netfilter::model::{Change, Observed, Ruleset};
use crate::netfilter::netlink::{Error, Socket, Transport};
use batch::Batch;
use dump::Dump;
use encode::Origin;
pub use listing::{Listing, Unreadable, read as read_listing};
pub use monitor::{ChangedObject, Commit, Monitor, Notification, Object, Process};
pub use native::render;
use nix::errno::Errno;
pub use session::{Managed, NfTables};
use std::borrow::Cow;
use std::io;

/// The encoding cannot express a rule.
#[derive(Clone, Copy, Debug)]
pub struct NoForm;

/// A backend for nf_tables over netlink.
#[derive(Debug)]
pub struct Netlink<T = Socket> {
    nf_tables: NfTables<T>,
    kind: TableKind,
    /// The dump that the next change is based on.
    dump: Option<Dump>,
}

fn unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT))
}

impl<T: Transport> Netlink<T> {
    /// A backend over any transport that reads every chain.
    pub fn new(transport: T, kind: TableKind) -> Self {
        let managed = Managed {
            chain: |_| true,
            inet_table: |_| false,
        };
        NfTables::new(transport, managed).backend(kind)
    }
}

/// Normalises a ruleset to the form that is read back from tables of this kind.
pub fn normalised(kind: TableKind, desired: &Ruleset) -> Cow<'_, Ruleset> {
    match kind {
        TableKind::Native => Cow::Owned(native::merged_into_sets(desired)),
        _ => Cow::Borrowed(desired),
    }
}

impl<T: Transport> Backend for Netlink<T> {
    fn name(&self) -> &'static str {
        match self.kind {
            TableKind::Native => "nftables",
            _ => "netlink",
        }
    }

    fn kind(&self) -> TableKind {
        self.kind
    }

    fn detects_concurrent_commits(&self) -> bool {
        true
    }

    fn normalised<'r>(&self, desired: &'r Ruleset) -> Cow<'r, Ruleset> {
        normalised(self.kind, desired)
    }

    fn read(&mut self) -> Result<Observed, BackendError> {
        let dump = self.nf_tables.read(self.kind).map_err(error::of_read)?;
        // They may be managed.
        if let Some((table, chain)) = dump.hidden().find(|(_, c)| c.base.is_some()) {
            return Err(error::of_hidden(table, chain));
        }
        let observed = decode::observed(&dump, self.kind);
        self.dump = Some(dump);
        Ok(observed)
    }

    fn commit(&mut self, change: &Change) -> Result<(), BackendError> {
        let Some(dump) = self.dump.take() else {
            return Err(error::of_read(Error::Interrupted));
        };
        match self.attempt(change, &dump, true) {
            Err(Failure::Busy(error)) => {
                log::debug!("empty chains and tables are left in place: {error}");
                self.attempt(change, &dump, false)
            }
            result => result,
        }
        .map_err(|failure| match failure {
            Failure::Busy(error) | Failure::Of(error) => error,
        })
    }
}

enum Failure {
    /// Empty base chains or tables cannot be removed, see [`encode::encode`].
    Busy(BackendError),
    Of(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Failure::Of(error)
    }
}

impl<T: Transport> Netlink<T> {
    /// Commits a change made from this dump. With `tidy`, base chains and tables left empty are
    /// removed.
    fn attempt(&self, change: &Change, dump: &Dump, tidy: bool) -> Result<(), Failure> {
        let encoded = encode::encode(change, dump, self.kind, tidy);
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
        let committed = self.nf_tables.commit(&mut batch, self.kind, generation);
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
