//! `watch`: applies, stays, and restores what other programs remove.
//!
//! The rules are applied before anything else. Then one thread waits in poll(2) for all there is to
//! wait for (`sources`): nf_tables and rtnetlink report each change, signalfd signals. Events become
//! tasks (`agenda`, which is pure: events in, tasks out), of which the smallest is `Task::Look`:
//! the code of an apply, which writes what differs in one transaction. Without events nothing is done.
//! A part that fails is retried with the one retry policy, and reported once.

mod agenda;
mod ahead;
pub(crate) mod event;
mod goal;
mod last_good;
mod place;
mod service;
mod signals;
mod sources;
mod work;

use super::event::Event;
use crate::engine::backends::BackendChoice;
use crate::engine::error::Error;
use crate::engine::lock::{Held, Holder, Name, Taken};
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege};
use crate::netfilter::nftables::Process;
use agenda::{Agenda, Task};
use event::WatchEvent;
use goal::Goal;
use last_good::LastGood;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use place::Place;
use service::Service;
use signals::Signals;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What only a watch can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often to read what raises no events: tables of iptables-legacy, where they are in use, and
    /// the path of a named network namespace.
    pub interval: Duration,
    /// Wait for another watch in this network namespace to end.
    pub wait: bool,
}

/// A watch at work.
struct Watch<'a> {
    request: &'a Request,
    options: &'a Options,
    tell: &'a mut dyn FnMut(Event),
    /// Recognised by other watches as long as this lives.
    name: Held,
    agenda: Agenda,
    service: Service,
    last_good: LastGood,
    /// As asked for, then the one that wrote: rules stay where they are.
    backend: BackendChoice,
    goal: Goal,
    /// Why the configuration was refused when it was read last; the one before is in use.
    refused: Option<String>,
    /// The pause before the configuration is read once more.
    settling: Duration,
    /// Once the rules were in place.
    installed: bool,
    /// Foreign rules ahead of managed ones that were reported.
    ahead: BTreeSet<String>,
    place: Option<Place>,
    /// The last commit after which the rules are known to have been in place.
    known: Option<u32>,
    /// Whose commits have concerned the rules since.
    suspects: Vec<Process>,
    /// What does not work, reported once.
    complaints: BTreeMap<Part, String>,
    /// How often something had to be restored.
    repairs: u64,
}

/// What can fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Rules,
    Events,
    Waiting,
}

/// Applies, and stays until it is told to end, which leaves the rules as they are. The network
/// namespace has been entered.
///
/// # Errors
/// Bad input, a missing capability, another watch; and later that the namespace is gone.
pub(crate) fn watch(
    request: &Request,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let start = Instant::now();
    Signals::defer_reload();
    let last_good = LastGood::of(&request.facts);
    let (goal, refused) = match Goal::read(request) {
        Ok(goal) => (goal, None),
        Err(error @ Error::Config(_)) => {
            let (goal, error) = Goal::read_last_good(request, &last_good, error)?;
            (goal, Some(error))
        }
        Err(error) => return Err(error),
    };
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    let place = request.network_namespace.as_deref();
    let place = place
        .map(Place::entered_by)
        .transpose()
        .map_err(|source| Error::Watch {
            doing: "identifying the network namespace",
            source,
        })?;
    let name = take_name(options.wait, tell)?;
    let mut agenda = Agenda::new(start);
    let words = refused.as_ref().map(Error::to_string);
    if let Some(error) = refused {
        if !error.is_refusal() {
            agenda.add(Task::Reread);
        }
        tell(Event::Watch(WatchEvent::LastGood(error)));
    }
    Watch {
        request,
        options,
        tell,
        name,
        agenda,
        service: Service::new(start),
        last_good,
        backend: request.backend,
        goal,
        refused: words,
        settling: work::SETTLES,
        installed: false,
        ahead: BTreeSet::new(),
        place,
        known: None,
        suspects: Vec::new(),
        complaints: BTreeMap::new(),
        repairs: 0,
    }
    .run(start)
}

/// Takes the name by which watches recognise each other. While it waits for another one, signals end
/// this process as they end any other.
fn take_name(wait: bool, tell: &mut dyn FnMut(Event)) -> Result<Held, Error> {
    let mut reported = None;
    loop {
        match Name::Watch.take() {
            Taken::Held(held) => return Ok(held),
            Taken::Ignored => {
                tell(Event::Watch(WatchEvent::NameTaken));
                return Ok(Held::NONE);
            }
            Taken::By(other) if !wait => return Err(Error::AnotherWatch(other.to_string())),
            Taken::By(other) => {
                if reported.replace(other.pid()) != Some(other.pid()) {
                    tell(Event::Watch(WatchEvent::Waiting(other.pid())));
                }
                outlive(&other);
            }
        }
    }
}

/// Waits until another watch has ended or closed the connection, and then a moment: it closes
/// connections from time to time.
fn outlive(other: &Holder) {
    let mut fds = [PollFd::new(other.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::NONE);
    if Name::Watch.holder().is_some() {
        sleep(Duration::from_secs(1));
    }
}
