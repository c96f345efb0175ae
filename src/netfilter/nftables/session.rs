//! nf_tables in one network namespace, through one socket: what its backends have in common.

use super::batch::Batch;
use super::dump::{self, Dump, Scope, TableHead};
use super::encode::Origin;
use super::kernel::{Kernel, next_generation};
use super::{Netlink, error, hooked, unsupported};
use crate::netfilter::backend::{BackendError, Feature, Store};
use crate::netfilter::model::{ChainName, HookedTable, InetTable};
use crate::netfilter::netlink::{Error, Socket, Transport};
use nix::sys::socket::SockProtocol;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// nf_tables in one network namespace.
#[derive(Debug)]
pub struct NfTables<T = Socket>(Rc<RefCell<Session<T>>>);

/// What is managed, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Managed {
    /// In which chains, beside base chains, managed rules may stand.
    pub chain: fn(&ChainName) -> bool,
    /// Which tables of the family `inet` are managed as a whole.
    pub inet_table: fn(&str) -> bool,
}

/// One socket, and what was learned through it.
#[derive(Debug)]
struct Session<T> {
    kernel: Kernel<T>,
    managed: Managed,
    heads: Option<Heads>,
    /// What chains hid when they were last read, and since when they do.
    hidden: Option<(Vec<(String, u32)>, Instant)>,
}

/// Which tables there were.
#[derive(Debug)]
struct Heads {
    generation: u32,
    all: Vec<TableHead>,
    /// The store that a commit of this session has changed since.
    outdated: Option<Store>,
}

impl<T> Clone for NfTables<T> {
    fn clone(&self) -> Self {
        NfTables(Rc::clone(&self.0))
    }
}

impl NfTables {
    /// Opens a socket in the network namespace of this thread. Nothing is asked of the kernel yet.
    ///
    /// # Errors
    /// [`BackendError::Missing`] when the kernel has no netfilter netlink at all.
    pub fn open(managed: Managed) -> Result<Self, BackendError> {
        let doing = "opening a netfilter netlink socket".to_owned();
        match Socket::open(SockProtocol::NetlinkNetFilter) {
            Ok(socket) => Ok(NfTables::new(socket, managed)),
            Err(e) if unsupported(&e) => Err(BackendError::Missing {
                doing,
                feature: Feature::NfTables,
            }),
            Err(source) => Err(BackendError::Io { doing, source }),
        }
    }
}

impl<T: Transport> NfTables<T> {
    /// nf_tables over any transport.
    pub fn new(transport: T, managed: Managed) -> Self {
        NfTables(Rc::new(RefCell::new(Session {
            kernel: Kernel::new(transport),
            managed,
            heads: None,
            hidden: None,
        })))
    }

    /// The backend for one of nf_tables' stores.
    pub fn backend(&self, store: Store) -> Netlink<T> {
        Netlink {
            nf_tables: self.clone(),
            store,
            dump: None,
        }
    }

    /// Reads every table that an IP packet meets, whoever wrote it, with where its chains are hooked
    /// in, and the rules that packets can come to.
    pub fn read_hooked(&self) -> Result<Vec<HookedTable>, BackendError> {
        let dump = self.0.borrow_mut().read_hooked();
        Ok(hooked::tables(&dump.map_err(error::of_read)?))
    }

    /// Whether IP packets come to tables that no backend writes to, as far as the tables were listed.
    pub fn has_foreign_tables(&self) -> bool {
        let session = self.0.borrow();
        let heads = session.heads.iter().flat_map(|h| &h.all);
        let is_foreign = |h: &TableHead| {
            [Store::Xt, Store::Native]
                .iter()
                .all(|s| h.place(*s).is_none())
        };
        heads
            .into_iter()
            .any(|h| hooked::is_met(h) && is_foreign(h))
    }

    pub(super) fn read(&self, store: Store) -> Result<Dump, Error> {
        self.0.borrow_mut().read_store(store)
    }

    /// How many bytes of messages a transaction may have, after trying to make that `wanted`.
    pub(super) fn room(&self, wanted: usize) -> io::Result<usize> {
        self.0.borrow_mut().kernel.room(wanted)
    }

    /// Commits a batch about a store that was made from what was read at `generation`.
    pub(super) fn commit(
        &self,
        batch: &mut Batch<Origin>,
        store: Store,
        generation: u32,
    ) -> Result<(), Error> {
        let mut session = self.0.borrow_mut();
        session.kernel.commit(batch, generation)?;
        session.has_committed(store, generation);
        Ok(())
    }
}

impl<T: Transport> Session<T> {
    fn read_store(&mut self, store: Store) -> Result<Dump, Error> {
        let generation = self.kernel.generation()?;
        let managed = self.managed;
        let heads = self.heads(generation, Some(store))?;
        let chosen = heads.iter().filter(|h| h.place(store).is_some());
        let chosen = chosen.cloned().collect();
        let inet = heads.iter().filter_map(TableHead::inet_name);
        let inet = inet.filter(|name| store == Store::Native && (managed.inet_table)(name));
        let inet_tables = inet.map(|name| InetTable(name.to_owned())).collect();
        let dump = self.dump(generation, chosen, Scope::Managed(managed.chain))?;
        Ok(Dump {
            inet_tables,
            ..dump
        })
    }

    fn read_hooked(&mut self) -> Result<Dump, Error> {
        let generation = self.kernel.generation()?;
        let heads = self.heads(generation, None)?;
        let chosen = heads.iter().filter(|h| hooked::is_met(h)).cloned();
        let chosen = chosen.collect();
        self.dump(generation, chosen, Scope::Reachable)
    }

    fn dump(
        &mut self,
        generation: u32,
        heads: Vec<TableHead>,
        scope: Scope,
    ) -> Result<Dump, Error> {
        let dump = Dump::read(&mut self.kernel, generation, heads, scope)?;
        match self.is_settled(&dump) {
            true => Ok(dump),
            false => Err(Error::Interrupted),
        }
    }

    /// Which tables there are at this generation; all, or at least those of a store.
    fn heads(&mut self, generation: u32, of: Option<Store>) -> Result<&[TableHead], Error> {
        let is_known = |h: &Heads| {
            let outdated = h.outdated.is_some_and(|o| of.is_none_or(|of| of == o));
            h.generation == generation && !outdated
        };
        let heads = match self.heads.take().filter(is_known) {
            Some(heads) => heads,
            None => Heads {
                generation,
                all: dump::table_heads(&mut self.kernel)?,
                outdated: None,
            },
        };
        Ok(&self.heads.insert(heads).all)
    }

    /// Whether nothing is hidden, or the same for so long that it is not what somebody else is about
    /// to commit, which the kernel counts already.
    fn is_settled(&mut self, dump: &Dump) -> bool {
        const LONG: Duration = Duration::from_secs(2);
        let hidden: Vec<(String, u32)> = dump
            .hidden()
            .map(|(t, c)| {
                (
                    format!("{} {} {}", t.head.family, t.head.name, c.name),
                    c.hidden,
                )
            })
            .collect();
        let since = match self.hidden.take() {
            Some((before, since)) if before == hidden => since,
            _ => Instant::now(),
        };
        let settled = hidden.is_empty() || since.elapsed() >= LONG;
        self.hidden = Some((hidden, since));
        settled
    }

    /// A commit is the next generation, if nobody else has committed since: other stores are as they
    /// were.
    fn has_committed(&mut self, store: Store, generation: u32) {
        let others_are_known = |h: &Heads| {
            h.generation == generation && h.outdated.is_none_or(|outdated| outdated == store)
        };
        self.heads = self.heads.take().filter(others_are_known);
        if let Some(heads) = &mut self.heads {
            heads.generation = next_generation(generation);
            heads.outdated = Some(store);
        }
    }
}
