//! The work of a watch: waiting, and what is done about what has happened.

use super::agenda::{Outcome, Task};
use super::ahead::rules_ahead;
use super::event::WatchEvent;
use super::sources::{Happened, Sources};
use super::{Event, Goal, Part, Watch};
use crate::engine::backends::{BackendChoice, Backends, has_silent_tables};
use crate::engine::error::Error;
use crate::engine::network_namespace;
use crate::engine::reconcile::{self, Patience, Reconciled};
use crate::netfilter::backend::BackendError;
use crate::netfilter::nftables::Process;
use std::time::{Duration, Instant};

/// How often to look while there are no events.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// A configuration that was read is read again after so long, and after pauses that double up to the
/// longest while it stays the same: a file may be written in pieces, and change between the read and the
/// moment from which systemd notices changes again, which is late on a busy machine.
pub(super) const SETTLES: Duration = Duration::from_secs(1);
const LONGEST_SETTLING: Duration = Duration::from_secs(64);

impl Watch<'_> {
    /// Applies first, then listens, and works until it is told to end.
    pub(super) fn run(mut self, start: Instant) -> Result<(), Error> {
        self.warn();
        let first = self.begin()?;
        let mut sources = Sources::default();
        self.listen(&mut sources);
        if let Some(done) = first {
            self.installed(done, start);
        }
        loop {
            let now = Instant::now();
            let wakes = [self.agenda.next(now), self.service.due()];
            match sources.wait(wakes.into_iter().flatten().min()) {
                Ok(()) => self.works(Part::Waiting),
                Err(e) => {
                    self.complain(Part::Waiting, e);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            if self.turn(&mut sources)? {
                self.service.stopping();
                self.say(WatchEvent::Stopping);
                return Ok(());
            }
            self.listen(&mut sources);
        }
    }

    /// Applies for the first time; what may pass is retried.
    fn begin(&mut self) -> Result<Option<Reconciled>, Error> {
        match self.reconcile(&mut Sources::default()) {
            Err(e) if is_lasting(&e) => Err(e),
            Err(e) => {
                self.complain(Part::Rules, e);
                self.agenda.end(Task::Look, Outcome::Failed, Instant::now());
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Opens what is closed of the sources of events. A look finds what was committed before.
    fn listen(&mut self, sources: &mut Sources) {
        if !sources.is_missing_any() {
            return;
        }
        match sources.open_missing(self.goal.desired()) {
            Ok(()) => {
                self.works(Part::Events);
                self.agenda.add(Task::Look);
            }
            Err(e) => self.complain(Part::Events, e),
        }
        self.poll_what_is_silent(sources);
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
            self.complain(Part::Events, e);
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
        self.agenda.begin(task);
        let outcome = match self.perform(task, woken, sources) {
            Ok(outcome) => {
                if !self.suspects.is_empty() {
                    self.report_rules_ahead();
                }
                self.suspects.clear();
                self.works(Part::Rules);
                outcome
            }
            Err(e) => {
                self.complain(Part::Rules, e);
                Outcome::Failed
            }
        };
        if self.agenda.end(task, outcome, Instant::now()) {
            self.say(WatchEvent::ContestBegins);
        }
        if task == Task::Reload && self.installed {
            self.service.ready();
        }
        self.poll_what_is_silent(sources);
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
            Task::Reread | Task::Reload => self.reload(task, woken),
        };
        let (goal, failed) = match goal {
            Ok(goal) => (goal, None),
            Err(e) => (None, Some(e)),
        };
        let changed = goal.is_some_and(|goal| self.adopt(goal, sources));
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

    /// Reads the configuration again, and later once more. A bad one changes nothing.
    fn reload(&mut self, task: Task, now: Instant) -> Result<Option<Goal>, Error> {
        let asked = task == Task::Reload;
        let (goal, refused) = match Goal::read(self.request) {
            Err(e) if e.is_refusal() => (None, Some(e)),
            goal => (Some(goal?), None),
        };
        let words = refused.as_ref().map(Error::to_string);
        let refused_anew = words != std::mem::replace(&mut self.refused, words.clone());
        let changed = goal
            .as_ref()
            .is_some_and(|goal| goal.facts != self.goal.facts);
        self.settling = match asked || refused_anew || changed {
            true => SETTLES,
            false => self.settling * 2,
        };
        if self.settling <= LONGEST_SETTLING {
            self.agenda.reread_at(now + self.settling);
        }
        match (refused, &goal) {
            (Some(e), _) if asked || refused_anew => self.say(WatchEvent::Refused(e)),
            (_, Some(goal)) if asked && goal.asks_for_the_same(&self.goal) => {
                self.say(WatchEvent::Unchanged);
            }
            _ => {}
        }
        Ok(goal)
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
        self.installed = true;
        if self.refused.is_none() {
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
    fn reconcile(&mut self, sources: &mut Sources) -> Result<Reconciled, Error> {
        let before = sources.generation();
        let done = reconcile::apply(self.goal.desired(), self.backend, Patience::WATCH)?;
        let after = sources.generation();
        let commits = u32::try_from(done.changes.len()).unwrap_or(u32::MAX);
        let alone = before.map(|before| before.wrapping_add(commits)) == after;
        self.known = if alone { after } else { before };
        Ok(done)
    }

    /// Reports foreign rules that have come to precede managed ones since the last time.
    fn report_rules_ahead(&mut self) {
        let mut backends = Backends::default();
        let candidates = self.backend.candidates(&mut backends).unwrap_or_default();
        // If others commit meanwhile, there will be another look.
        let live = candidates
            .first()
            .map(|candidate| backends.open(candidate.store)?.read());
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

    /// Reports once what does not work, until it does, or fails in another way.
    fn complain(&mut self, part: Part, error: Error) {
        let words = error.to_string();
        if self.complaints.get(&part) == Some(&words) {
            log::debug!("{words}");
            return;
        }
        self.complaints.insert(part, words);
        self.say(WatchEvent::Failed(error));
    }

    fn works(&mut self, part: Part) {
        if self.complaints.remove(&part).is_some() && self.complaints.is_empty() {
            self.say(WatchEvent::Recovered);
        }
    }

    /// Looks every so often at what raises no events.
    fn poll_what_is_silent(&mut self, sources: &Sources) {
        let legacy = has_silent_tables();
        let silent = !matches!(legacy, Ok(false)) || self.place.is_some();
        let interval = match sources.is_missing_any() {
            true => Some(WITHOUT_EVENTS),
            false => silent.then_some(self.options.interval),
        };
        let begins = self.agenda.look_every(interval, Instant::now());
        if begins && matches!(legacy, Ok(true)) {
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
