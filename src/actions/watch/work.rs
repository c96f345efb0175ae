//! The work of a watch: waiting, and what is done about what has happened.

use super::super::{warn, warn_of_ssh};
use super::ahead::rules_ahead;
use super::*;
use crate::engine::backends::{Backends, read_unchanging};
use std::path::Path;

/// The configuration is read so often until the files that it comes from are followed; links that
/// somebody turns around meanwhile are followed later.
const MOST_READINGS: u32 = 10;

impl Watch<'_> {
    /// Applies for the first time, and says that the rules stand.
    pub(super) fn begin(&mut self, start: Instant) -> Result<(), Error> {
        for _ in 0..MOST_READINGS {
            if !self.follow()? {
                break;
            }
            self.goal = Goal::read(self.invocation, self.host, Memory::default())?;
        }
        self.addresses = self.read_addresses();
        self.caution();
        let done = self.put()?;
        if self.backend == Choice::Auto {
            self.backend = Choice::from_str(done.backend, false).unwrap_or_default();
        }
        self.tell_who_is_ahead();
        self.summary = self.summarize(&done, start);
        log::info!("{}; watching", self.summary);
        self.service.ready(&self.status());
        self.look_by_the_clock(start);
        Ok(())
    }

    /// Works until it is told to end.
    pub(super) fn stay(mut self) -> Result<Exit, Error> {
        loop {
            let now = Instant::now();
            let wakes = [self.agenda.next(now), self.service.due()];
            self.sources.wait(wakes.into_iter().flatten().min())?;
            let woken = Instant::now();
            let happened = self.sources.take_in(&self.goal.wanted, self.known)?;
            if happened.stop {
                self.service.stopping();
                log::info!("told to end: the rules stay (prepare-proxy clean removes them)");
                return Ok(Exit::Done);
            }
            if let Some(place) = self.place.as_ref().filter(|place| !place.is_there()) {
                let path = place.path.clone();
                return Err(Error::NamespaceGone { path });
            }
            self.note(happened, woken);
            if self.agenda.calms(woken) {
                log::info!(
                    "nobody has taken rules of ours away for {} s",
                    CALM.as_secs()
                );
            }
            if let Some(task) = self.agenda.due(woken) {
                self.attend(task, woken);
            }
            self.service.is_alive(woken);
        }
    }

    /// Makes tasks of what has happened.
    fn note(&mut self, happened: Happened, now: Instant) {
        let new = |p: &Process| !self.suspects.contains(p);
        let new: Vec<Process> = happened.processes.into_iter().filter(new).collect();
        self.suspects.extend(new);
        let mut events = Vec::new();
        if happened.reload {
            events.push(Event::Now(Task::Reload));
        }
        if happened.addresses && self.are_addresses_others() {
            events.push(Event::Now(Task::Ask));
        }
        if happened.rules || happened.routes {
            events.push(Event::Now(Task::Look));
        }
        let place = self.place.as_ref().map(|place| &place.path);
        for (path, change) in happened
            .files
            .iter()
            .filter(|(path, _)| Some(*path) != place)
        {
            let task = match self.goal.is_configured_by(path) {
                true => Task::Reload,
                false => Task::Ask,
            };
            events.push(match (task, change) {
                (Task::Ask, Change::Whole) => Event::Now(task),
                _ => Event::Settling(task),
            });
        }
        for event in events {
            log::debug!("{event:?}");
            self.agenda.add(event, now);
        }
    }

    /// Whether IPv6 addresses have come or gone. A router that prolongs their lives tells of each every
    /// few minutes.
    fn are_addresses_others(&mut self) -> bool {
        let now = self.read_addresses();
        let before = std::mem::replace(&mut self.addresses, now);
        self.addresses.is_none() || self.addresses != before
    }

    /// The addresses with their interfaces, as the kernel lists them; `None` if that cannot be told.
    fn read_addresses(&self) -> Option<BTreeSet<String>> {
        let list = self.host.file(Path::new("/proc/net/if_inet6")).ok()?;
        let who = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Some(list.lines().map(who).collect())
    }

    /// Does a task, and takes note of how that went.
    fn attend(&mut self, task: Task, woken: Instant) {
        if task == Task::Reload {
            self.service.reloading();
        }
        self.agenda.begin(task);
        let outcome = match self.bring_about(task, woken) {
            Ok(outcome) => {
                if !self.suspects.is_empty() {
                    self.tell_who_is_ahead();
                }
                self.suspects.clear();
                if self.complaint.take().is_some() {
                    log::info!("all is well again");
                }
                outcome
            }
            Err(e) => {
                self.complain(e);
                Outcome::Failed
            }
        };
        let now = Instant::now();
        let course = self.agenda.end(task, outcome, now);
        if course == Course::ContestBegins {
            log::error!(
                "somebody keeps taking rules of ours away: they are put back after pauses of up to {} s from now \
                 on, until nobody has for {} s",
                LONGEST_PAUSE.as_secs(),
                CALM.as_secs()
            );
        }
        if task == Task::Reload {
            self.service.ready(&self.status());
        }
        self.look_by_the_clock(now);
    }

    /// What is wanted may change first. If that cannot be told, what was wanted is put back anyway.
    fn bring_about(&mut self, task: Task, woken: Instant) -> Result<Outcome, Error> {
        let news = match task {
            Task::Look => Ok(false),
            Task::Ask => self.read(task, self.goal.memory.clone()),
            Task::Reload => self.reload(),
        };
        match news {
            Ok(true) => self.install(woken),
            Ok(false) => self.look(woken),
            Err(e) => self.look(woken).and(Err(e)),
        }
    }

    /// Reads the configuration anew. One that is no good changes nothing.
    fn reload(&mut self) -> Result<bool, Error> {
        match self.read(Task::Reload, Memory::default()) {
            Err(e @ Error::Config(_)) => {
                log::error!("the configuration is refused, and the one before stays: {e}");
                Ok(false)
            }
            Ok(false) => {
                log::info!("the configuration was read, and asks for what it did before");
                Ok(false)
            }
            read => read,
        }
    }

    /// Finds out what is wanted now. Returns whether that is anything else than before.
    fn read(&mut self, task: Task, memory: Memory) -> Result<bool, Error> {
        let goal = Goal::read(self.invocation, self.host, memory)?;
        let before = std::mem::replace(&mut self.goal, goal);
        if self.follow()? {
            // What is followed since now may have changed since it was read.
            self.agenda.add(Event::Now(task), Instant::now());
        }
        if self.goal.wanted.routing != before.wanted.routing {
            self.sources.listen_to(&self.goal.wanted)?;
        }
        Ok((&self.goal.config, &self.goal.wanted) != (&before.config, &before.wanted))
    }

    /// Follows the files that the configuration comes from, and the path of the namespace.
    fn follow(&mut self) -> Result<bool, Error> {
        let mut files = self.goal.files(self.options.reload_on_change);
        files.extend(self.place.as_ref().map(|place| place.path.clone()));
        self.sources.follow(files)
    }

    /// Says what a person should know of what is wanted.
    fn caution(&self) {
        let Goal {
            mesh,
            config,
            wanted,
            ..
        } = &self.goal;
        warn(caution::cautions(mesh, config, wanted));
        warn_of_ssh(config, wanted, self.host);
    }

    /// Brings the kernel to what is wanted since now.
    fn install(&mut self, woken: Instant) -> Result<Outcome, Error> {
        self.caution();
        let done = self.put()?;
        self.summary = self.summarize(&done, woken);
        log::info!("{}", self.summary);
        self.service.status(&self.status());
        Ok(Outcome::Fine)
    }

    /// Puts back what is missing.
    fn look(&mut self, woken: Instant) -> Result<Outcome, Error> {
        let done = self.put()?;
        if !done.changed() {
            return Ok(Outcome::Fine);
        }
        self.repairs += 1;
        let level = match self.agenda.is_contest() {
            true => log::Level::Debug,
            false => log::Level::Warn,
        };
        log::log!(
            level,
            "{}",
            report::repair(&self.suspects, done.missing, woken.elapsed())
        );
        self.service.status(&self.status());
        Ok(Outcome::Repaired)
    }

    /// Does what an apply does, and notes the commit after which all is well: what is told of those
    /// up to it, our own among them, is no news.
    fn put(&mut self) -> Result<Applied, Error> {
        let before = self.sources.generation()?;
        let done = apply::apply(
            NamespaceLock::take_in_passing(),
            &self.goal.wanted,
            self.backend,
        )
        .map_err(|e| {
            let unmapped = user_namespace::explain(&self.goal.wanted, self.host);
            with_remedy(e, &unmapped)
        })?;
        let after = self.sources.generation()?;
        let ours = u32::try_from(done.changes.len()).unwrap_or(u32::MAX);
        let alone = before.map(|before| before.wrapping_add(ours)) == after;
        self.known = if alone { after } else { before };
        Ok(done)
    }

    /// Names foreign rules that have come to stand before ours since the last time.
    fn tell_who_is_ahead(&mut self) {
        let mut backends = Backends::default();
        let candidates = self.backend.candidates(&mut backends).unwrap_or_default();
        let live = candidates.first().map(|candidate| {
            let mut backend = backends.open(candidate.store)?;
            read_unchanging(&mut *backend)
        });
        let ahead = match live {
            Some(Ok(live)) => rules_ahead(&live),
            Some(Err(e)) => return log::debug!("who is asked before us cannot be told: {e}"),
            None => return,
        };
        for rule in ahead.difference(&self.ahead) {
            let by = match self.suspects.as_slice() {
                [] => String::new(),
                by => format!(", since {} was at work", report::names(by)),
            };
            log::warn!(
                "a foreign rule stands before ours and is asked first{by}; it is not ours to move: {}",
                rule.escape_debug()
            );
        }
        self.ahead = ahead;
    }

    /// Says once what cannot be done, until it can, or is something else.
    fn complain(&mut self, error: Error) {
        let words = error.to_string();
        if self.complaint.as_ref() == Some(&words) {
            log::debug!("{words}");
            return;
        }
        log::error!("{words}; trying again");
        self.service.status(&format!("failing: {words}"));
        self.complaint = Some(words);
    }

    /// Looks every so often where nobody tells of changes.
    fn look_by_the_clock(&mut self, now: Instant) {
        let silent = self.place.as_ref().is_some_and(Place::goes_silently);
        let legacy = has_silent_store();
        let interval = (legacy || silent).then_some(self.options.interval);
        if self.agenda.look_every(interval, now) && legacy {
            log::info!(
                "iptables-legacy's tables are in use, which tell nobody of changes: they are looked at every {} s",
                self.options.interval.as_secs()
            );
        }
    }

    fn summarize(&self, done: &Applied, since: Instant) -> String {
        let Goal { config, wanted, .. } = &self.goal;
        summary::applied(config, wanted, done, since.elapsed())
    }

    /// For systemctl status.
    fn status(&self) -> String {
        match self.repairs {
            0 => self.summary.clone(),
            n => format!("{}; put back {n} times since the start", self.summary),
        }
    }
}
