//! Sources of events, and which events concern the rules.

use super::signals::{SignalAction, Signals};
use crate::engine::error::Error;
use crate::mesh::managed::is_managed_chain;
use crate::netfilter::backend::{BackendError, TableKind};
use crate::netfilter::model::{ChainName, Hook, Ruleset, Table};
use crate::netfilter::netlink::Delivery;
use crate::netfilter::nftables::{ChangedObject, Monitor, Notification, Object, Process};
use crate::netfilter::rtnetlink;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Events since the last call.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub stop: bool,
    pub reload: bool,
    /// A commit may have changed the rules.
    pub rules: bool,
    /// The processes that committed, as far as the kernel reports them.
    pub processes: Vec<Process>,
    /// A relevant policy rule or route was added or removed.
    pub routes: bool,
    /// IPv6 addresses were added or removed.
    pub addresses: bool,
}

/// All sources. One that fails is closed, and reopened by the next [`Sources::open_missing`]; until
/// then the watch polls, and signals have their default effect.
#[derive(Debug, Default)]
pub(super) struct Sources {
    signals: Option<Signals>,
    rules: Option<Monitor>,
    routes: Option<rtnetlink::Monitor>,
    /// The kernel has no nf_tables, and thus no events for rules.
    no_events: bool,
    /// The commit whose end was not reported yet.
    concerns_rules: bool,
}

impl Sources {
    /// Whether a source is closed.
    pub(super) fn is_missing_any(&self) -> bool {
        let rules = self.rules.is_some() || self.no_events;
        self.signals.is_none() || self.routes.is_none() || !rules
    }

    /// Opens closed sources.
    ///
    /// # Errors
    /// The first failure; sources opened before it stay open.
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

    /// Closes the source of routes after a change of the desired routes.
    pub(super) fn close_routes(&mut self) {
        self.routes = None;
    }

    /// The generation id, if it can be read: it only saves a check.
    pub(super) fn generation(&mut self) -> Option<u32> {
        let generation = self.rules.as_mut()?.generation();
        if let Err(e) = &generation {
            log::debug!("cannot read the generation id: {e}");
            self.rules = None;
        }
        generation.ok()
    }

    /// Waits for an event, at most until `wake`.
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

    /// Reads pending signals.
    pub(super) fn read_signals(&self, events: &mut Events) -> Result<(), Error> {
        let Some(signals) = &self.signals else {
            return Ok(());
        };
        while let Some(signal) = signals.next().map_err(waiting)? {
            match signal {
                SignalAction::Stop => events.stop = true,
                SignalAction::Reload => events.reload = true,
            }
        }
        Ok(())
    }

    /// Reads all other events that concern `desired` and came after the commit `known`.
    ///
    /// # Errors
    /// A source that failed is closed.
    pub(super) fn read_events(
        &mut self,
        desired: &Ruleset,
        known: Option<u32>,
        events: &mut Events,
    ) -> Result<(), Error> {
        let routes = self.read_routes(desired, events);
        if routes.is_err() {
            self.routes = None;
        }
        let rules = self.read_rules(desired, known, events);
        if rules.is_err() {
            self.rules = None;
        }
        routes.and(rules)
    }

    fn read_routes(&mut self, desired: &Ruleset, events: &mut Events) -> Result<(), Error> {
        let Some(routes) = &mut self.routes else {
            return Ok(());
        };
        let arrived = routes.drain(|event| match event {
            rtnetlink::Event::Address => events.addresses = true,
            rtnetlink::Event::Rule(_) => events.routes = true,
            rtnetlink::Event::Route(family, table) => {
                let mut routes = desired.routing.policy_routes.iter();
                events.routes |= routes.any(|r| (r.family, r.table) == (family, table));
            }
        })?;
        if arrived == Delivery::WithGaps {
            events.addresses = true;
            events.routes = true;
        }
        Ok(())
    }

    fn read_rules(
        &mut self,
        desired: &Ruleset,
        known: Option<u32>,
        events: &mut Events,
    ) -> Result<(), Error> {
        let Some(rules) = &mut self.rules else {
            return Ok(());
        };
        let concerns_rules = &mut self.concerns_rules;
        let arrived = rules.drain(|notification| match notification {
            Notification::ChangedObject(touched) => *concerns_rules |= concerns(desired, &touched),
            Notification::ForeignChain => *concerns_rules = true,
            Notification::Commit(commit) => {
                let news = known.is_none_or(|known| is_later(commit.generation, known));
                if std::mem::take(concerns_rules) && news {
                    events.rules = true;
                    let new = |p: &Process| !events.processes.contains(p);
                    events.processes.extend(commit.process.filter(new));
                }
            }
        })?;
        if arrived == Delivery::WithGaps {
            log::debug!("notifications of nf_tables were lost: reading everything");
            self.concerns_rules = false;
            events.rules = true;
        }
        Ok(())
    }
}

/// Whether desired rules or managed chains may have changed. Any chain counts, as a rename is
/// reported with the new name only.
fn concerns(desired: &Ruleset, touched: &ChangedObject<'_>) -> bool {
    let table = desired.table(touched.family, touched.table);
    match (touched.table_kind, touched.object) {
        // Tables of this program only.
        (TableKind::Native, _) => true,
        (_, Object::Table | Object::Chain(_)) => table.is_some(),
        (_, Object::Rule(chain)) => {
            let desired = |t: &Table| t.chains.iter().any(|c| c.name.as_str() == chain);
            // Where packets are captured, a foreign rule may take precedence.
            let captures = |hook| matches!(hook, Hook::Prerouting | Hook::Output);
            let counts =
                |name: ChainName| name.hook().is_some_and(captures) || is_managed_chain(&name);
            table.is_some_and(desired) || ChainName::new(chain).is_ok_and(counts)
        }
        (_, Object::Other) => false,
    }
}

/// Generation ids wrap around and skip 0.
fn is_later(generation: u32, known: u32) -> bool {
    generation.wrapping_sub(known) as i32 > 0
}

/// Whole milliseconds, rounded up, for poll(2).
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
