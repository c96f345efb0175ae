//! `watch`: applies, then stays and puts right what others change.
//!
//! One thread waits in poll(2) for all there is to wait for ([`sources`]): nf_tables and rtnetlink
//! tell of each change, inotify of files, signalfd of signals. What is told becomes tasks
//! ([`agenda`], which is pure: events in, tasks out), of which the smallest is [`Task::Look`]: the
//! very code of an apply, which writes what differs in one transaction, and nothing where nothing
//! does. Where nothing happens, nothing is done.

mod agenda;
mod ahead;
mod files;
mod goal;
mod pace;
mod place;
mod post;
mod report;
mod service;
mod signals;
mod sources;
mod work;

use super::event::Event as Tell;
use crate::engine::backends::{BackendChoice, has_silent_store};
use crate::engine::error::Error;
use crate::engine::lock::NamespaceLock;
use crate::engine::reconcile::{self, Reconciled};
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege};
use crate::frontend::output::summary;
use crate::netfilter::nftables::Process;
use agenda::{Agenda, Event, Outcome, Task};
use files::Change;
use goal::Goal;
use pace::{CALM, Course, LONGEST_PAUSE};
use place::Place;
pub(crate) use post::watch_at_work;
use post::{Held, Other, Post};
use service::Service;
use signals::{Asked, Signals};
use sources::{Happened, Sources};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What only a watch can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often to read the tables of iptables-legacy, which raise no events; only where they are
    /// in use.
    pub interval: Duration,
    /// Read the env files again when they change; SIGHUP always does.
    pub reload_on_change: bool,
    /// Wait for another watch in this network namespace to end.
    pub wait: bool,
}

/// Applies, and stays until it is told to end, which leaves the rules as they are. The network
/// namespace has been entered.
///
/// # Errors
/// All that an apply can fail with, as long as nothing was applied yet; later only that the
/// notifications cannot be read, or that the namespace is gone.
pub(crate) fn watch(
    request: &Request,
    options: &Options,
    tell: &mut dyn FnMut(Tell),
) -> Result<(), Error> {
    let start = Instant::now();
    // What is wrong with the options is said before anything is done.
    let goal = Goal::read(request)?;
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    let place = request.network_namespace.as_deref();
    let place = place
        .map(Place::entered_by)
        .transpose()
        .map_err(failed("looking at the network namespace"))?;
    let signals = Signals::block().map_err(failed("blocking signals"))?;
    let Some(post) = take_post(&signals, options.wait)? else {
        return Ok(());
    };
    let mut watch = Watch {
        request,
        options,
        tell,
        sources: Sources::open(signals, post, goal.wanted())?,
        agenda: Agenda::new(start),
        service: Service::new(start),
        backend: request.backend,
        goal,
        addresses: None,
        ahead: BTreeSet::new(),
        place,
        known: None,
        suspects: Vec::new(),
        complaint: None,
        summary: String::new(),
        repairs: 0,
    };
    watch.begin(start)?;
    watch.stay()
}

/// Takes the place of the one watch; `None` if we were told to end while we waited for it.
fn take_post(signals: &Signals, wait: bool) -> Result<Option<Post>, Error> {
    loop {
        match Post::take().map_err(failed("looking for another watch"))? {
            Held::Ours(post) => return Ok(Some(post)),
            Held::Taken(other) if !wait => return Err(Error::AnotherWatch(other.to_string())),
            Held::Taken(other) => {
                log::info!("waiting for {other} to end");
                if !outlive(&other, signals)? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Waits for another watch to end. Returns whether it was that which ended the waiting.
fn outlive(other: &Other, signals: &Signals) -> Result<bool, Error> {
    let failed = failed("waiting for another watch");
    loop {
        if other.has_ended_or(signals).map_err(&failed)? {
            return Ok(true);
        }
        if signals.next().map_err(&failed)? == Some(Asked::Stop) {
            return Ok(false);
        }
    }
}

/// An error of the system, with what was being done.
fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Watch { doing, source }
}

/// A watch at work.
struct Watch<'a> {
    request: &'a Request,
    options: &'a Options,
    tell: &'a mut dyn FnMut(Tell),
    sources: Sources,
    agenda: Agenda,
    service: Service,
    /// As asked for, then the one that wrote: rules stay where they are.
    backend: BackendChoice,
    goal: Goal,
    /// The IPv6 addresses at the last look, each with its interface.
    addresses: Option<BTreeSet<String>>,
    /// Foreign rules that are asked before ours, which were told of.
    ahead: BTreeSet<String>,
    place: Option<Place>,
    /// The last commit after which the rules are known to have been as they should.
    known: Option<u32>,
    /// Who has touched what concerns the rules since.
    suspects: Vec<Process>,
    /// What could not be done, said once.
    complaint: Option<String>,
    /// Of the rules as they were last installed.
    summary: String,
    /// How often something had to be put back.
    repairs: u64,
}
