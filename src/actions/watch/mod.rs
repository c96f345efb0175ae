//! `watch`: applies, stays, and restores what other programs remove.
//!
//! The rules are applied first. Then one thread waits in poll(2) for all `sources`: nf_tables and
//! rtnetlink notify of changes, signalfd of signals. Events become tasks (`agenda`, which is pure),
//! of which the smallest is `Task::Check`: an apply, which writes any difference in one transaction.
//! Without events nothing is done. A source that fails is retried with the common retry policy, and
//! reported once.

mod agenda;
mod desired_state;
pub(crate) mod event;
mod last_good;
mod named_namespace;
mod service;
mod signals;
mod sources;
mod work;

use super::event::Event;
use super::verify::Ahead;
use crate::engine::backends::{BackendChoice, Foreign};
use crate::engine::error::Error;
use crate::engine::lock::{Holder, Lock, LockName, LockResult};
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege};
use crate::netfilter::nftables::Process;
use agenda::{Agenda, Task};
use desired_state::DesiredState;
use event::WatchEvent;
use last_good::LastGood;
use named_namespace::NamedNamespace;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::Service;
use signals::Signals;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Options of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interval for polling what raises no events: tables of iptables-legacy, if in use, and
    /// the path of a named network namespace.
    pub interval: Duration,
    /// Wait for another watch in this network namespace to end.
    pub wait: bool,
}

/// A running watch.
struct Watch<'a> {
    request: &'a Request,
    options: &'a Options,
    report: &'a mut dyn FnMut(Event),
    /// The lock by which watches recognise each other.
    name: Lock,
    agenda: Agenda,
    service: Service,
    last_good: LastGood,
    /// The requested backend, then the one that wrote.
    backend: BackendChoice,
    state: DesiredState,
    /// Why the configuration was refused at the last read; the previous one is in force.
    refused: Option<String>,
    /// The pause before the next read of the configuration.
    reread_pause: Duration,
    /// Whether the rules were in place once.
    installed: bool,
    /// Reported foreign rules that precede managed ones.
    ahead: BTreeSet<Ahead>,
    /// The foreign rules at the last reconciliation.
    foreign: Foreign,
    namespace: Option<NamedNamespace>,
    /// The last commit after which the rules were in place.
    known: Option<u32>,
    /// The processes whose commits have concerned the rules since.
    committers: Vec<Process>,
    /// Reported failures.
    failures: BTreeMap<Part, String>,
    /// Repairs since the start.
    repairs: usize,
}

/// Parts that fail independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Rules,
    Events,
    Waiting,
}

/// Applies, and runs until a signal, leaving the rules in place. The network namespace has been
/// entered.
///
/// # Errors
/// Bad input, a missing capability, another watch; later, that the namespace is gone.
pub(crate) fn watch(
    request: &Request,
    options: &Options,
    report: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let start = Instant::now();
    Signals::defer_reload();
    let last_good = LastGood::of(&request.facts);
    let (state, refused) = match DesiredState::read(request) {
        Ok(state) => (state, None),
        Err(error @ Error::Config(_)) => {
            let (state, error) = DesiredState::read_last_good(request, &last_good, error)?;
            (state, Some(error))
        }
        Err(error) => return Err(error),
    };
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    let path = request.network_namespace.as_deref();
    let namespace = path
        .map(NamedNamespace::entered_by)
        .transpose()
        .map_err(|source| Error::Watch {
            doing: "identifying the network namespace",
            source,
        })?;
    let name = take_lock(options.wait, report)?;
    let mut agenda = Agenda::new(start);
    let words = refused.as_ref().map(Error::to_string);
    if let Some(error) = refused {
        if !error.is_refusal() {
            agenda.add(Task::Reread);
        }
        report(Event::Watch(WatchEvent::LastGood(error)));
    }
    Watch {
        request,
        options,
        report,
        name,
        agenda,
        service: Service::new(start),
        last_good,
        backend: request.backend,
        state,
        refused: words,
        reread_pause: work::FIRST_REREAD_PAUSE,
        installed: false,
        ahead: BTreeSet::new(),
        foreign: Foreign::default(),
        namespace,
        known: None,
        committers: Vec::new(),
        failures: BTreeMap::new(),
        repairs: 0,
    }
    .run(start)
}

/// Takes the lock of watches. While this waits for another watch, signals have their default
/// effect.
fn take_lock(wait: bool, report: &mut dyn FnMut(Event)) -> Result<Lock, Error> {
    let mut reported = None;
    loop {
        match LockName::Watch.take() {
            LockResult::Acquired(lock) => return Ok(lock),
            LockResult::Ignored => {
                report(Event::Watch(WatchEvent::LockTaken));
                return Ok(Lock::NONE);
            }
            LockResult::HeldBy(other) if !wait => {
                return Err(Error::AnotherWatch(other.to_string()));
            }
            LockResult::HeldBy(other) => {
                if reported.replace(other.pid()) != Some(other.pid()) {
                    report(Event::Watch(WatchEvent::Waiting(other.pid())));
                }
                wait_for_end(&other);
            }
        }
    }
}

/// Waits until another watch has ended or closed the connection, which it does from time to time,
/// and then a moment.
fn wait_for_end(other: &Holder) {
    let mut fds = [PollFd::new(other.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::NONE);
    if LockName::Watch.holder().is_some() {
        sleep(Duration::from_secs(1));
    }
}
