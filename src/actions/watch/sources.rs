//! Everything that a watch waits for, and what of it concerns the rules.

use super::signals::{Received, Signals};
use crate::engine::error::Error;
use crate::mesh::managed::is_our_chain;
use crate::netfilter::backend::{BackendError, Store};
use crate::netfilter::model::{ChainName, Hook, Ruleset, Table};
use crate::netfilter::netlink::Arrived;
use crate::netfilter::nftables::{Monitor, Notification, Object, Process, Touched};
use crate::netfilter::rtnetlink;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What has happened since the last time.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub stop: bool,
    pub reload: bool,
    /// A commit concerned the rules, or may have.
    pub rules: bool,
    /// Whose commits, as far as the kernel says; each once.
    pub processes: Vec<Process>,
    /// A policy rule or a route that concerns ours came or went.
    pub routes: bool,
    /// IPv6 addresses came or went.
    pub addresses: bool,
}

/// All that is waited for. A part that fails is closed, and opened again by the next
/// [`Sources::open_missing`]; until then the watch polls, and signals have their default effect.
#[derive(Debug, Default)]
pub(super) struct Sources {
    signals: Option<Signals>,
    rules: Option<Monitor>,
    routes: Option<rtnetlink::Monitor>,
    /// The kernel has no nf_tables, so that rules raise no events.
    no_events: bool,
    /// What is known of the commit whose end was not reported yet.
    concerned: bool,
}

impl Sources {
    /// Whether some part is closed.
    pub(super) fn is_missing_any(&self) -> bool {
        let rules = self.rules.is_some() || self.no_events;
        self.signals.is_none() || self.routes.is_none() || !rules
    }

    /// Opens what is closed.
    ///
    /// # Errors
    /// The first failure; what could be opened before it is open.
    pub(super) fn open_missing(&mut self, desired: &Ruleset) -> Result<(), Error> {
        if self.signals.is_none() {
            self.signals = Some(Signals::open().map_err(waiting)?);
        }
        if self.rules.is_none() && !self.no_events {
            match Monitor::open() {
                Ok(monitor) => self.rules = Some(monitor),
                Err(BackendError::Missing { .. }) => self.no_events = true,
                Err(e) => return Err(e.into()),
            }
        }
        if self.routes.is_none() {
            self.routes = Some(rtnetlink::Monitor::open(&desired.routing)?);
        }
        Ok(())
    }

    /// Other routes are desired from now on.
    pub(super) fn close_routes(&mut self) {
        self.routes = None;
    }

    /// The number of the last commit, where it can be had: it only spares a look.
    pub(super) fn generation(&mut self) -> Option<u32> {
        let generation = self.rules.as_mut()?.generation();
        if let Err(e) = &generation {
            log::debug!("cannot read the generation id: {e}");
            self.rules = None;
        }
        generation.ok()
    }

    /// Sleeps until something happens, at most until `wake`.
    pub(super) fn wait(&self, wake: Option<Instant>) -> Result<(), Error> {
        let signals = self.signals.as_ref().map(AsFd::as_fd);
        let routes = self.routes.as_ref().map(AsFd::as_fd);
        let rules = self.rules.as_ref().map(AsFd::as_fd);
        let fds = [signals, routes, rules].into_iter().flatten();
        let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout(wake)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(waiting(errno.into())),
        }
    }

    /// The signals that have come.
    pub(super) fn take_in_signals(&self, happened: &mut Happened) -> Result<(), Error> {
        let Some(signals) = &self.signals else {
            return Ok(());
        };
        while let Some(signal) = signals.next().map_err(waiting)? {
            match signal {
                Received::Stop => happened.stop = true,
                Received::Reload => happened.reload = true,
            }
        }
        Ok(())
    }

    /// All else that has happened, as far as it concerns `desired` and came after the commit `known`.
    ///
    /// # Errors
    /// A part that failed is closed.
    pub(super) fn take_in(
        &mut self,
        desired: &Ruleset,
        known: Option<u32>,
        happened: &mut Happened,
    ) -> Result<(), Error> {
        let routes = self.take_in_routes(desired, happened);
        if routes.is_err() {
            self.routes = None;
        }
        let rules = self.take_in_rules(desired, known, happened);
        if rules.is_err() {
            self.rules = None;
        }
        routes.and(rules)
    }

    fn take_in_routes(&mut self, desired: &Ruleset, happened: &mut Happened) -> Result<(), Error> {
        let Some(routes) = &mut self.routes else {
            return Ok(());
        };
        let arrived = routes.drain(|event| match event {
            rtnetlink::Event::Address => happened.addresses = true,
            rtnetlink::Event::Rule(_) => happened.routes = true,
            rtnetlink::Event::Route(family, table) => {
                let mut routes = desired.routing.policy_routes.iter();
                happened.routes |= routes.any(|r| (r.family, r.table) == (family, table));
            }
        })?;
        if arrived == Arrived::WithGaps {
            happened.addresses = true;
            happened.routes = true;
        }
        Ok(())
    }

    fn take_in_rules(
        &mut self,
        desired: &Ruleset,
        known: Option<u32>,
        happened: &mut Happened,
    ) -> Result<(), Error> {
        let Some(rules) = &mut self.rules else {
            return Ok(());
        };
        let concerned = &mut self.concerned;
        let arrived = rules.drain(|notification| match notification {
            Notification::Touched(touched) => *concerned |= concerns(desired, &touched),
            Notification::Committed(commit) => {
                let news = known.is_none_or(|known| is_later(commit.generation, known));
                if std::mem::take(concerned) && news {
                    happened.rules = true;
                    let new = |p: &Process| !happened.processes.contains(p);
                    happened.processes.extend(commit.process.filter(new));
                }
            }
        })?;
        if arrived == Arrived::WithGaps {
            log::debug!("notifications of nf_tables were lost: reading everything");
            self.concerned = false;
            happened.rules = true;
        }
        Ok(())
    }
}

/// Whether rules that are desired, or managed chains, may have been touched. Any chain counts: a
/// notification of a renamed one has the new name alone.
fn concerns(desired: &Ruleset, touched: &Touched<'_>) -> bool {
    let table = desired.table(touched.family, touched.table);
    match (touched.store, touched.object) {
        // Only this program writes there.
        (Store::Native, _) => true,
        (_, Object::Table | Object::Chain(_)) => table.is_some(),
        (_, Object::Rule(chain)) => {
            let desired = |t: &Table| t.chains.iter().any(|c| c.name.as_str() == chain);
            // Where packets are captured, a foreign rule may take precedence.
            let captures = |hook| matches!(hook, Hook::Prerouting | Hook::Output);
            let counts = |name: ChainName| name.hook().is_some_and(captures) || is_our_chain(&name);
            table.is_some_and(desired) || ChainName::new(chain).is_ok_and(counts)
        }
        (_, Object::Other) => false,
    }
}

/// Commits are counted around, without 0.
fn is_later(generation: u32, known: u32) -> bool {
    generation.wrapping_sub(known) as i32 > 0
}

/// For poll(2), which counts whole milliseconds: never too short.
fn timeout(wake: Option<Instant>) -> PollTimeout {
    let Some(wake) = wake else {
        return PollTimeout::NONE;
    };
    let left = wake.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return PollTimeout::ZERO;
    }
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

fn waiting(source: io::Error) -> Error {
    Error::Watch {
        doing: "waiting for changes",
        source,
    }
}
