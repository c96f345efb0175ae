//! The work of a watch: waiting, and what is done about what has happened.

use super::agenda::{Outcome, Task};
use super::ahead::rules_ahead;
use super::event::WatchEvent;
use super::signals::Signals;
use super::sources::{Happened, Sources};
use super::{Event, Goal, Watch};
use crate::engine::backends::{BackendChoice, Backends, has_silent_store, read_unchanging};
use crate::engine::error::Error;
use crate::engine::network_namespace;
use crate::engine::reconcile::{self, Patience, Reconciled};
use crate::netfilter::backend::BackendError;
use crate::netfilter::nftables::Process;
use std::time::{Duration, Instant};

/// How often to look while there are no events.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);

impl Watch<'_> {
    /// Applies first, then listens, and works until it is told to end.
    pub(super) fn run(mut self, start: Instant) -> Result<(), Error> {
        self.warn();
        self.begin(start)?;
        let signals = Signals::block().map_err(|source| Error::Watch {
            doing: "blocking signals",
            source,
        })?;
        let mut sources = Sources::new(signals);
        // What was committed before there were events is found by a look.
        self.agenda.add(Task::Look);
        loop {
            self.listen(&mut sources);
            let now = Instant::now();
            let wakes = [self.agenda.next(now), self.service.due()];
            if let Err(e) = sources.wait(wakes.into_iter().flatten().min()) {
                self.complain(e);
                std::thread::sleep(Duration::from_millis(100));
            }
            if self.turn(&mut sources)? {
                self.service.stopping();
                self.say(WatchEvent::Stopping);
                return Ok(());
            }
        }
    }

    /// Applies for the first time. What may pass is retried until the rules are in place; signals end
    /// the process meanwhile.
    fn begin(&mut self, start: Instant) -> Result<(), Error> {
        let now = Instant::now();
        match self.reconcile(None) {
            Ok(done) => self.installed(done, start),
            Err(e) if is_lasting(&e) => return Err(e),
            Err(e) => {
                self.complain(e);
                self.agenda.end(Task::Look, Outcome::Failed, now);
            }
        }
        self.poll_what_is_silent(now);
        Ok(())
    }

    /// Opens what is closed of the sources of events.
    fn listen(&mut self, sources: &mut Sources) {
        if sources.is_missing_any() {
            let opened = sources.open_missing(self.goal.desired());
            if let Err(e) = opened {
                self.complain(e);
            }
            let every = sources.is_missing_any().then_some(WITHOUT_EVENTS);
            if every.is_some() {
                self.agenda.look_every(every, Instant::now());
            } else {
                self.poll_what_is_silent(Instant::now());
            }
        }
    }

    /// Takes in what has happened and does what is due. Returns whether to end.
    fn turn(&mut self, sources: &mut Sources) -> Result<bool, Error> {
        let woken = Instant::now();
        let mut happened = Happened::default();
        let signals = sources.take_in_signals(&mut happened);
        if happened.stop {
            return Ok(true);
        }
        if let Some(place) = self.place.as_ref().filter(|place| !place.is_there()) {
            let path = place.path.clone();
            return Err(Error::NamespaceGone { path });
        }
        let taken = sources.take_in(self.goal.desired(), self.known, &mut happened);
        if let Err(e) = signals.and(taken) {
            self.complain(e);
            self.agenda.add(Task::Look);
        }
        self.note(happened);
        if self.agenda.calms(woken) {
            self.say(WatchEvent::ContestEnds);
        }
        if let Some(task) = self.agenda.due(woken) {
            self.attend(task, woken, sources);
        }
        self.name.drain();
        self.service.is_alive(woken);
        Ok(false)
    }

    /// Makes tasks of what has happened.
    fn note(&mut self, happened: Happened) {
        // The kernel names this process too, for its own commits.
        let own = std::process::id();
        let new = |p: &Process| p.id != own && !self.suspects.contains(p);
        let new: Vec<Process> = happened.processes.into_iter().filter(new).collect();
        self.suspects.extend(new);
        if happened.reload {
            self.agenda.add(Task::Reload);
        }
        if happened.addresses {
            self.agenda.add(Task::Refresh);
        }
        if happened.rules || happened.routes {
            self.agenda.add(Task::Look);
        }
    }

    /// Does a task, and notes how that went.
    fn attend(&mut self, task: Task, woken: Instant, sources: &mut Sources) {
        if task == Task::Reload {
            self.service.reloading();
        }
        self.agenda.begin();
        let outcome = match self.perform(task, woken, sources) {
            Ok(outcome) => {
                if !self.suspects.is_empty() {
                    self.report_rules_ahead();
                }
                self.suspects.clear();
                if self.complaint.take().is_some() {
                    self.say(WatchEvent::Recovered);
                }
                outcome
            }
            Err(e) => {
                self.complain(e);
                Outcome::Failed
            }
        };
        let now = Instant::now();
        if self.agenda.end(task, outcome, now) {
            self.say(WatchEvent::ContestBegins);
        }
        if task == Task::Reload {
            self.service.ready();
        }
        if !sources.is_missing_any() {
            self.poll_what_is_silent(now);
        }
    }

    /// The desired state may change first. If it cannot be determined, the one before is restored.
    fn perform(
        &mut self,
        task: Task,
        woken: Instant,
        sources: &mut Sources,
    ) -> Result<Outcome, Error> {
        let goal = match task {
            Task::Look => Ok(None),
            Task::Refresh => self.goal.refreshed(self.request).map(Some),
            Task::Reload => self.reload(),
        };
        let (goal, failed) = match goal {
            Ok(goal) => (goal, None),
            Err(e) => (None, Some(e)),
        };
        let changed = goal.is_some_and(|goal| self.adopt(goal, sources));
        if changed {
            self.warn();
        }
        let done = self.reconcile(Some(sources))?;
        let outcome = match (changed, done.changed()) {
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

    /// Reads the configuration again. A bad one changes nothing.
    fn reload(&mut self) -> Result<Option<Goal>, Error> {
        match Goal::read(self.request) {
            Err(e @ Error::Config(_)) => {
                self.say(WatchEvent::Refused(e));
                Ok(None)
            }
            goal => {
                let goal = goal?;
                self.outdated = false;
                if goal.asks_for_the_same(&self.goal) {
                    self.say(WatchEvent::Unchanged);
                }
                Ok(Some(goal))
            }
        }
    }

    /// Returns whether something else is desired now.
    fn adopt(&mut self, goal: Goal, sources: &mut Sources) -> bool {
        let before = std::mem::replace(&mut self.goal, goal);
        if self.goal.desired().routing != before.desired().routing {
            sources.close_routes();
        }
        !self.goal.asks_for_the_same(&before)
    }

    /// Says what a person should know of the desired state.
    fn warn(&mut self) {
        let resolved = &self.goal.resolved;
        let warnings = resolved.warnings.iter().cloned().map(Event::Warning);
        let ssh = resolved.config.captures_ssh(&resolved.desired)
            && network_namespace::has_ssh(self.request);
        warnings
            .chain(ssh.then_some(Event::SshCaptured))
            .for_each(&mut *self.tell);
    }

    /// The rules are in place, for the first time or since they have changed.
    fn installed(&mut self, done: Reconciled, since: Instant) {
        if self.backend == BackendChoice::Auto {
            self.backend = BackendChoice::named(done.backend).unwrap_or_default();
        }
        if !self.outdated {
            self.last_good.save(&self.goal.facts);
        }
        self.report_rules_ahead();
        self.say(WatchEvent::Installed {
            resolved: Box::new(self.goal.resolved.clone()),
            done,
            took: since.elapsed(),
        });
        self.service.ready();
    }

    fn repaired(&mut self, done: &Reconciled, woken: Instant) {
        self.repairs += 1;
        self.say(WatchEvent::Repaired {
            by: self.suspects.clone(),
            missing: done.missing,
            took: woken.elapsed(),
            count: self.repairs,
            contest: self.agenda.is_contest(),
        });
        self.service.ready();
    }

    /// Does what an apply does, and notes the commit after which the rules are in place: events of
    /// those up to it, its own among them, are no news.
    fn reconcile(&mut self, mut sources: Option<&mut Sources>) -> Result<Reconciled, Error> {
        let mut generation = || match &mut sources {
            Some(sources) => sources.generation(),
            None => Ok(None),
        };
        let before = generation()?;
        let done = reconcile::apply(self.goal.desired(), self.backend, Patience::WATCH)?;
        let after = generation()?;
        let commits = u32::try_from(done.changes.len()).unwrap_or(u32::MAX);
        let alone = before.map(|before| before.wrapping_add(commits)) == after;
        self.known = if alone { after } else { before };
        Ok(done)
    }

    /// Reports foreign rules that have come to precede managed ones since the last time.
    fn report_rules_ahead(&mut self) {
        let mut backends = Backends::default();
        let candidates = self.backend.candidates(&mut backends).unwrap_or_default();
        let live = candidates.first().map(|candidate| {
            let mut backend = backends.open(candidate.store)?;
            read_unchanging(&mut *backend)
        });
        let ahead = match live {
            Some(Ok(live)) => rules_ahead(&live),
            Some(Err(e)) => return log::debug!("cannot list preceding rules: {e}"),
            None => return,
        };
        let new: Vec<String> = ahead.difference(&self.ahead).cloned().collect();
        for rule in new {
            self.say(WatchEvent::Ahead {
                rule,
                by: self.suspects.clone(),
            });
        }
        self.ahead = ahead;
    }

    /// Reports once what cannot be done, until it can, or something else cannot.
    fn complain(&mut self, error: Error) {
        let words = error.to_string();
        if self.complaint.as_ref() == Some(&words) {
            log::debug!("{words}");
            return;
        }
        self.complaint = Some(words);
        self.say(WatchEvent::Failed(error));
    }

    /// Looks every so often at what raises no events.
    fn poll_what_is_silent(&mut self, now: Instant) {
        let legacy = has_silent_store();
        let interval = (legacy || self.place.is_some()).then_some(self.options.interval);
        if self.agenda.look_every(interval, now) && legacy {
            self.say(WatchEvent::Polling(self.options.interval));
        }
    }

    fn say(&mut self, event: WatchEvent) {
        (self.tell)(Event::Watch(event));
    }
}

/// Whether waiting will not help: bad input, a missing capability or kernel feature.
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
