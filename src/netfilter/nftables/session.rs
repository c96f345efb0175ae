//! The socket that the nf_tables backends share.

use super::batch::Batch;
use super::dump::{self, Dump, Scope, TableHead};
use super::encode::Origin;
use super::kernel::{Kernel, next_generation};
use super::{Netlink, error, hooked, unsupported};
use crate::netfilter::backend::{BackendError, Feature, TableKind};
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

/// The names of managed chains and tables.
#[derive(Clone, Copy, Debug)]
pub struct Managed {
    /// Which chains, beside base chains, may hold managed rules.
    pub chain: fn(&ChainName) -> bool,
    /// Which tables of the family `inet` are managed as a whole.
    pub inet_table: fn(&str) -> bool,
}

/// One socket, and what was read over it.
#[derive(Debug)]
struct Session<T> {
    kernel: Kernel<T>,
    managed: Managed,
    heads: Option<Heads>,
    /// Hidden rules of the last read, and since when they are hidden.
    hidden: Option<(Vec<(String, u32)>, Instant)>,
}

/// The tables of the last read.
#[derive(Debug)]
struct Heads {
    generation: u32,
    all: Vec<TableHead>,
    /// The tables changed since by a commit of this session.
    outdated: Option<TableKind>,
}

impl<T> Clone for NfTables<T> {
    fn clone(&self) -> Self {
        NfTables(Rc::clone(&self.0))
    }
}

impl NfTables {
    /// Opens a socket in the network namespace of this thread, without any request.
    ///
    /// # Errors
    /// [`BackendError::Missing`] if the kernel has no nfnetlink.
    pub fn open(managed: Managed) -> Result<Self, BackendError> {
        let doing = "opening a netfilter netlink socket".to_owned();
        let socket = Socket::open(SockProtocol::NetlinkNetFilter);
        match socket.and_then(Socket::explaining_refusals) {
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
    pub fn new(transport: T, managed: Managed) -> Self {
        NfTables(Rc::new(RefCell::new(Session {
            kernel: Kernel::new(transport),
            managed,
            heads: None,
            hidden: None,
        })))
    }

    /// The backend for these tables.
    pub fn backend(&self, kind: TableKind) -> Netlink<T> {
        Netlink {
            nf_tables: self.clone(),
            kind,
            dump: None,
        }
    }

    /// Reads all tables that IP packets traverse, with hooks and reachable rules.
    pub fn read_hooked(&self) -> Result<Vec<HookedTable>, BackendError> {
        let dump = self.with_session(Session::read_hooked);
        Ok(hooked::tables(&dump.map_err(error::of_read)?))
    }

    /// Whether there are tables of IP packets that belong to no backend, among those listed so far.
    pub fn has_foreign_tables(&self) -> bool {
        let session = self.0.borrow();
        let heads = session.heads.iter().flat_map(|h| &h.all);
        let is_foreign = |h: &TableHead| {
            [TableKind::Xt, TableKind::Native]
                .iter()
                .all(|s| h.place(*s).is_none())
        };
        heads
            .into_iter()
            .any(|h| hooked::is_met(h) && is_foreign(h))
    }

    pub(super) fn read(&self, kind: TableKind) -> Result<Dump, Error> {
        self.with_session(|session| session.read_tables_of(kind))
    }

    /// The maximum size of the messages of a transaction, after trying to raise it to `wanted`.
    pub(super) fn room(&self, wanted: usize) -> io::Result<usize> {
        self.0.borrow_mut().kernel.room(wanted)
    }

    /// Commits a batch based on `generation`.
    pub(super) fn commit(
        &self,
        batch: &mut Batch<Origin>,
        kind: TableKind,
        generation: u32,
    ) -> Result<(), Error> {
        self.with_session(|session| {
            session.kernel.commit(batch, generation)?;
            session.has_committed(kind);
            Ok(())
        })
    }

    /// After a failure everything is read again.
    fn with_session<R>(
        &self,
        work: impl FnOnce(&mut Session<T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut session = self.0.borrow_mut();
        let result = work(&mut session);
        if result.is_err() {
            session.heads = None;
        }
        result
    }
}

impl<T: Transport> Session<T> {
    fn read_tables_of(&mut self, kind: TableKind) -> Result<Dump, Error> {
        let managed = self.managed;
        let (generation, heads) = self.heads(Some(kind))?;
        let chosen = heads.iter().filter(|h| h.place(kind).is_some());
        let chosen = chosen.cloned().collect();
        let inet = heads.iter().filter_map(TableHead::inet_name);
        let inet = inet.filter(|name| kind == TableKind::Native && (managed.inet_table)(name));
        let inet_tables = inet.map(|name| InetTable(name.to_owned())).collect();
        let dump = self.dump(generation, chosen, Scope::Managed(managed.chain))?;
        Ok(Dump {
            inet_tables,
            ..dump
        })
    }

    fn read_hooked(&mut self) -> Result<Dump, Error> {
        let (generation, heads) = self.heads(None)?;
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

    /// The generation and its tables; all, or at least those of one backend. They are as this session
    /// knows them: a dump of their rules, and a commit, fail if another program committed since.
    fn heads(&mut self, of: Option<TableKind>) -> Result<(u32, &[TableHead]), Error> {
        let is_known = |h: &Heads| !h.outdated.is_some_and(|o| of.is_none_or(|of| of == o));
        let heads = match self.heads.take().filter(is_known) {
            Some(heads) => heads,
            None => Heads {
                generation: self.kernel.generation()?,
                all: dump::table_heads(&mut self.kernel)?,
                outdated: None,
            },
        };
        let heads = self.heads.insert(heads);
        Ok((heads.generation, &heads.all))
    }

    /// Whether nothing is hidden, or the same rules for so long that they are not an uncommitted
    /// change of another program, which the kernel counts already.
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
        let is_final = hidden.is_empty() || since.elapsed() >= LONG;
        self.hidden = Some((hidden, since));
        is_final
    }

    /// Records an own commit: no other program committed, so the generation advanced by one and other
    /// tables are unchanged.
    fn has_committed(&mut self, kind: TableKind) {
        let others_are_known = |h: &Heads| h.outdated.is_none_or(|outdated| outdated == kind);
        self.heads = self.heads.take().filter(others_are_known);
        if let Some(heads) = &mut self.heads {
            heads.generation = next_generation(heads.generation);
            heads.outdated = Some(kind);
        }
    }
}
