//! The main loop of a watch.

use super::agenda::{Outcome, Task};
use super::event::WatchEvent;
use super::sources::{Events, Sources};
use super::{DesiredState, Event, Part, Watch};
use crate::actions::verify::{Ahead, rules_ahead};
use crate::engine::backends::{BackendChoice, has_tables_without_events};
use crate::engine::error::Error;
use crate::engine::network_namespace;
use crate::engine::reconcile::{self, Reconciled, TimeLimits};
use crate::netfilter::backend::BackendError;
use crate::netfilter::nftables::Process;
use crate::netfilter::rtnetlink::Router;
use std::time::{Duration, Instant};

/// How often to poll while there are no events.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// After a reload the configuration is read again, with pauses that double up to the longest while
/// it stays the same: a file may be written in pieces, or change before systemd watches it again.
pub(super) const FIRST_REREAD_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REREAD_PAUSE: Duration = Duration::from_secs(64);

impl Watch<'_> {
    /// Applies, then handles events until a signal ends the watch.
    pub(super) fn run(mut self, start: Instant) -> Result<(), Error> {
        self.warn();
        let first = self.first_apply()?;
        let mut sources = Sources::default();
        self.open_sources(&mut sources);
        if let Some(done) = first {
            self.installed(done, start);
        }
        loop {
            let now = Instant::now();
            let wakes = [self.agenda.next(now), self.service.due()];
            match sources.wait(wakes.into_iter().flatten().min()) {
                Ok(()) => self.report_recovery(Part::Waiting),
                Err(e) => {
                    self.report_failure(Part::Waiting, e);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            if self.handle_events(&mut sources)? {
                self.service.stopping();
                self.report(WatchEvent::Stopping);
                return Ok(());
            }
            self.open_sources(&mut sources);
        }
    }

    /// The first apply; passing failures are retried.
    fn first_apply(&mut self) -> Result<Option<Reconciled>, Error> {
        match self.reconcile(&mut Sources::default()) {
            Err(e) if is_lasting(&e) => Err(e),
            Err(e) => {
                self.report_failure(Part::Rules, e);
                self.agenda
                    .end(Task::Check, Outcome::Failed, Instant::now());
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Opens missing sources of events. The check that follows finds earlier commits.
    fn open_sources(&mut self, sources: &mut Sources) {
        if !sources.is_missing_any() {
            return;
        }
        match sources.open_missing(self.state.desired()) {
            Ok(()) => {
                self.report_recovery(Part::Events);
                self.agenda.add(Task::Check);
            }
            Err(e) => self.report_failure(Part::Events, e),
        }
        self.set_polling(sources);
    }

    /// Handles pending events and the due task. Returns whether to end.
    fn handle_events(&mut self, sources: &mut Sources) -> Result<bool, Error> {
        let woken = Instant::now();
        let mut events = Events::default();
        let signals = sources.read_signals(&mut events);
        if events.stop {
            return Ok(true);
        }
        if let Some(namespace) = self
            .namespace
            .as_ref()
            .filter(|namespace| !namespace.exists())
        {
            let path = namespace.path.clone();
            return Err(Error::NamespaceGone { path });
        }
        let taken = sources.read_events(self.state.desired(), self.known, &mut events);
        if let Err(e) = signals.and(taken) {
            self.report_failure(Part::Events, e);
        }
        self.schedule(events);
        if self.agenda.limit_ends(woken) {
            self.report(WatchEvent::RateLimitEnds);
        }
        if let Some(task) = self.agenda.due(woken) {
            self.run_task(task, woken, sources);
        }
        self.name.drain();
        self.service.notify_watchdog(woken);
        Ok(false)
    }

    /// Schedules tasks for the events.
    fn schedule(&mut self, events: Events) {
        // Own commits are reported too.
        let own = std::process::id();
        let new = |p: &Process| p.id != own && !self.committers.contains(p);
        let new: Vec<Process> = events.processes.into_iter().filter(new).collect();
        self.committers.extend(new);
        if events.reload {
            self.agenda.add(Task::Reload);
        }
        if events.addresses {
            self.agenda.add(Task::Refresh);
        }
        if events.rules || events.routes {
            self.agenda.add(Task::Check);
        }
    }

    /// Runs a task and records its outcome.
    fn run_task(&mut self, task: Task, woken: Instant, sources: &mut Sources) {
        if task == Task::Reload {
            self.service.reloading();
        }
        self.agenda.begin(task);
        let outcome = match self.execute(task, woken, sources) {
            Ok(outcome) => {
                if !self.committers.is_empty() {
                    self.report_rules_ahead();
                }
                self.committers.clear();
                self.report_recovery(Part::Rules);
                outcome
            }
            Err(e) => {
                self.report_failure(Part::Rules, e);
                Outcome::Failed
            }
        };
        if self.agenda.end(task, outcome, Instant::now()) {
            self.report(WatchEvent::RateLimitBegins);
        }
        if task == Task::Reload && self.installed {
            self.service.ready();
        }
        self.set_polling(sources);
    }

    /// Updates the desired state if the task asks for it; if that fails, the previous one is
    /// restored.
    fn execute(
        &mut self,
        task: Task,
        woken: Instant,
        sources: &mut Sources,
    ) -> Result<Outcome, Error> {
        let state = match task {
            Task::Check => Ok(None),
            Task::Refresh => self.state.refreshed(self.request).map(Some),
            Task::Reread | Task::Reload => self.reload(task, woken),
        };
        let (state, failed) = match state {
            Ok(state) => (state, None),
            Err(e) => (None, Some(e)),
        };
        let changed = state.is_some_and(|state| self.adopt(state, sources));
        if changed {
            self.warn();
        }
        let done = self.reconcile(sources)?;
        let outcome = match (changed || !self.installed, done.changed()) {
            (true, _) => {
                self.installed(done, woken);
                Outcome::Fine
            }
            (false, true) => {
                self.repaired(&done, woken);
                Outcome::Repaired
            }
            (false, false) => Outcome::Fine,
        };
        failed.map_or(Ok(outcome), Err)
    }

    /// Reads the configuration, and schedules another read. An invalid one changes nothing.
    fn reload(&mut self, task: Task, now: Instant) -> Result<Option<DesiredState>, Error> {
        let asked = task == Task::Reload;
        let (state, refused) = match DesiredState::read(self.request) {
            Err(e) if e.is_refusal() => (None, Some(e)),
            state => (Some(state?), None),
        };
        let words = refused.as_ref().map(Error::to_string);
        let newly_refused = words != std::mem::replace(&mut self.refused, words.clone());
        let changed = state
            .as_ref()
            .is_some_and(|state| state.facts != self.state.facts);
        self.reread_pause = match asked || newly_refused || changed {
            true => FIRST_REREAD_PAUSE,
            false => self.reread_pause * 2,
        };
        if self.reread_pause <= LONGEST_REREAD_PAUSE {
            self.agenda.reread_at(now + self.reread_pause);
        }
        match (refused, &state) {
            (Some(e), _) if asked || newly_refused => self.report(WatchEvent::Refused(e)),
            (_, Some(state)) if asked && state.is_equivalent(&self.state) => {
                self.report(WatchEvent::Unchanged);
            }
            _ => {}
        }
        Ok(state)
    }

    /// Replaces the desired state. Returns whether it differs.
    fn adopt(&mut self, state: DesiredState, sources: &mut Sources) -> bool {
        let before = std::mem::replace(&mut self.state, state);
        if self.state.desired().routing != before.desired().routing {
            sources.close_routes();
        }
        !self.state.is_equivalent(&before)
    }

    /// Reports the warnings of the desired state.
    fn warn(&mut self) {
        let resolved = &self.state.resolved;
        let warnings = resolved.warnings.iter().cloned().map(Event::Warning);
        let ssh = resolved.config.captures_ssh(&resolved.desired)
            && network_namespace::has_ssh(self.request);
        warnings
            .chain(ssh.then_some(Event::SshCaptured))
            .for_each(&mut *self.report);
    }

    /// The rules are in place for the first time, or after a change of the desired state.
    fn installed(&mut self, done: Reconciled, since: Instant) {
        if self.backend == BackendChoice::Auto {
            self.backend = BackendChoice::named(done.backend).unwrap_or_default();
        }
        self.installed = true;
        if self.refused.is_none() {
            self.last_good.save(&self.state.facts);
        }
        self.report_rules_ahead();
        self.report(WatchEvent::Installed {
            resolved: Box::new(self.state.resolved.clone()),
            done,
            took: since.elapsed(),
        });
        self.service.ready();
    }

    fn repaired(&mut self, done: &Reconciled, woken: Instant) {
        self.repairs += 1;
        self.report(WatchEvent::Repaired {
            by: self.committers.clone(),
            missing: done.missing,
            took: woken.elapsed(),
            count: self.repairs,
            limited: self.agenda.is_limited(),
        });
        self.service.ready();
    }

    /// Applies, and records the commit after which the rules are in place: notifications up to it,
    /// including own commits, are ignored.
    fn reconcile(&mut self, sources: &mut Sources) -> Result<Reconciled, Error> {
        let before = sources.generation();
        let (desired, limits) = (self.state.desired(), TimeLimits::WATCH);
        let done = reconcile::apply(desired, self.backend, limits, &mut Router::open()?)?;
        let after = sources.generation();
        let commits = u32::try_from(done.changes.len()).unwrap_or(u32::MAX);
        let alone = before.map(|before| before.wrapping_add(commits)) == after;
        self.known = if alone { after } else { before };
        self.foreign = done.foreign;
        Ok(done)
    }

    /// Reports foreign rules that newly precede managed ones. A concurrent commit raises another
    /// event.
    fn report_rules_ahead(&mut self) {
        let ahead = match rules_ahead(self.state.desired(), self.foreign) {
            Ok(ahead) => ahead,
            Err(e) => return log::debug!("cannot list preceding rules: {e}"),
        };
        let new: Vec<Ahead> = ahead.difference(&self.ahead).cloned().collect();
        for rule in new {
            self.report(WatchEvent::Ahead {
                rule,
                by: self.committers.clone(),
            });
        }
        self.ahead = ahead;
    }

    /// Reports a failure once, until it changes or is over.
    fn report_failure(&mut self, part: Part, error: Error) {
        let words = error.to_string();
        if self.failures.get(&part) == Some(&words) {
            log::debug!("{words}");
            return;
        }
        self.failures.insert(part, words);
        self.report(WatchEvent::Failed(error));
    }

    fn report_recovery(&mut self, part: Part) {
        if self.failures.remove(&part).is_some() && self.failures.is_empty() {
            self.report(WatchEvent::Recovered);
        }
    }

    /// Polls while there are tables or paths without events.
    fn set_polling(&mut self, sources: &Sources) {
        let legacy = has_tables_without_events();
        let without_events = !matches!(legacy, Ok(false)) || self.namespace.is_some();
        let interval = match sources.is_missing_any() {
            true => Some(WITHOUT_EVENTS),
            false => without_events.then_some(self.options.interval),
        };
        let begins = self.agenda.check_every(interval, Instant::now());
        if begins && matches!(legacy, Ok(true)) {
            self.report(WatchEvent::Polling(self.options.interval));
        }
    }

    fn report(&mut self, event: WatchEvent) {
        (self.report)(Event::Watch(event));
    }
}

/// Whether a retry is useless: bad input, a missing capability or kernel feature.
fn is_lasting(error: &Error) -> bool {
    match error.root() {
        Error::Backend(e) => !matches!(
            e,
            BackendError::Interrupted { .. }
                | BackendError::Io { .. }
                | BackendError::Locked { .. }
        ),
        Error::Contended(_) | Error::Routing(_) | Error::Watch { .. } => false,
        _ => true,
    }
}
