//! Schedules tasks: events in, tasks out. Everything that the watch knows of time is here.

use crate::engine::retry::{Backoff, RateLimit};
use std::time::{Duration, Instant};

/// Tasks; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Compare the observed state with the desired one, and restore what is missing.
    Check,
    /// First read addresses and nameservers again.
    Refresh,
    /// First read the configuration again, in case it changed while it was read.
    Reread,
    /// Like `Reread`, on request (SIGHUP).
    Reload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was missing, or the desired state changed.
    Fine,
    /// Missing rules were restored.
    Repaired,
    /// The task failed and is retried.
    Failed,
}

#[derive(Debug)]
pub(super) struct Agenda {
    pending: Option<Task>,
    /// When to read the configuration again.
    reread: Option<Instant>,
    limit: RateLimit,
    /// The polling interval, and when it is next due.
    interval: Option<(Duration, Instant)>,
    /// After a failure: the back-off, and when to retry.
    retry: Option<(Backoff, Instant)>,
}

impl Agenda {
    const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    pub(super) fn new(now: Instant) -> Self {
        Agenda {
            pending: None,
            reread: None,
            limit: RateLimit::new(now),
            interval: None,
            retry: None,
        }
    }

    /// Sets the polling interval. Returns whether polling begins.
    pub(super) fn check_every(&mut self, interval: Option<Duration>, now: Instant) -> bool {
        let before = self.interval.map(|(every, _)| every);
        if interval != before {
            self.interval = interval.map(|every| (every, now + every));
        }
        before.is_none() && interval.is_some()
    }

    pub(super) fn add(&mut self, task: Task) {
        self.pending = self.pending.max(Some(task));
    }

    pub(super) fn reread_at(&mut self, at: Instant) {
        self.reread = Some(at);
    }

    /// When a task may be due next; `None` if only events matter.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let task = self.pending.map(|_| now);
        let first = [task, self.reread, self.interval.map(|(_, at)| at)];
        let first = first.into_iter().flatten().min();
        let first = first.map(|at| at.max(self.earliest(now)));
        [first, self.limit.ends_at()].into_iter().flatten().min()
    }

    /// The due task, if any.
    pub(super) fn due(&self, now: Instant) -> Option<Task> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let reread = due(self.reread).then_some(Task::Reread);
        let polled = due(self.interval.map(|(_, at)| at)).then_some(Task::Check);
        let task = self.pending.max(reread).max(polled);
        task.filter(|_| self.earliest(now) <= now)
    }

    /// The earliest time for a task under the rate limit or after a failure.
    fn earliest(&self, now: Instant) -> Instant {
        let retry = self.retry.map(|(_, at)| at);
        [self.limit.earliest(), retry]
            .into_iter()
            .flatten()
            .fold(now, Instant::max)
    }

    /// Marks all pending tasks as covered by this one.
    pub(super) fn begin(&mut self, task: Task) {
        self.pending = None;
        self.reread = self.reread.filter(|_| task < Task::Reread);
    }

    /// Records the outcome; a failed task is due again after a pause. Returns whether the rate
    /// limit begins.
    pub(super) fn end(&mut self, task: Task, outcome: Outcome, now: Instant) -> bool {
        if let Some((every, at)) = &mut self.interval {
            *at = now + *every;
        }
        if outcome == Outcome::Failed {
            let (mut backoff, _) = self.retry.unwrap_or((Self::RETRY, now));
            let at = now + backoff.pause();
            self.retry = Some((backoff, at));
            self.add(task);
            return false;
        }
        self.retry = None;
        outcome == Outcome::Repaired && self.limit.repaired(now)
    }

    /// Whether repairs are rate limited.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.earliest().is_some()
    }

    /// Whether the rate limit has just ended.
    pub(super) fn limit_ends(&mut self, now: Instant) -> bool {
        self.limit.ends(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(agenda: &mut Agenda, now: Instant, outcome: Outcome) -> Option<Task> {
        let task = agenda.due(now)?;
        agenda.begin(task);
        agenda.end(task, outcome, now);
        Some(task)
    }

    #[test]
    fn without_events_nothing_is_due() {
        let now = Instant::now();
        let agenda = Agenda::new(now);
        assert_eq!(agenda.next(now), None);
        assert_eq!(agenda.due(now + Duration::from_secs(1 << 20)), None);
    }

    #[test]
    fn many_events_are_one_task_the_greatest() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        for task in [Task::Check, Task::Reload, Task::Refresh, Task::Check] {
            agenda.add(task);
        }
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Reload));
        assert_eq!(agenda.due(now), None);
    }

    #[test]
    fn the_configuration_is_read_once_more_at_its_time() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        let later = now + Duration::from_secs(1);
        agenda.reread_at(later);
        agenda.add(Task::Check);
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Check));
        assert_eq!(agenda.next(now), Some(later));
        assert_eq!(run(&mut agenda, later, Outcome::Fine), Some(Task::Reread));
        assert_eq!(agenda.next(later), None);
    }

    #[test]
    fn tables_without_events_are_checked_every_interval() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        let every = Duration::from_secs(5);
        assert!(agenda.check_every(Some(every), now));
        assert_eq!(agenda.next(now), Some(now + every));
        assert_eq!(agenda.due(now + every), Some(Task::Check));
        // Any check restarts the interval.
        let later = now + every / 2;
        agenda.add(Task::Check);
        run(&mut agenda, later, Outcome::Fine);
        assert_eq!(agenda.due(now + every), None);
        assert_eq!(agenda.due(later + every), Some(Task::Check));
        agenda.check_every(None, now);
        assert_eq!(agenda.next(now), None);
    }

    #[test]
    fn a_failed_task_is_retried_with_growing_pauses_whatever_happens() {
        let mut now = Instant::now();
        let mut agenda = Agenda::new(now);
        agenda.add(Task::Refresh);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let at = agenda.next(now).unwrap();
            pauses.push((at - now).as_millis());
            now = at;
            assert_eq!(run(&mut agenda, now, Outcome::Failed), Some(Task::Refresh));
            agenda.add(Task::Check);
            assert_eq!(agenda.due(now), None);
        }
        assert_eq!(pauses[..4], [0, 100, 200, 400]);
        assert_eq!(pauses.last(), Some(&5000));
        now = agenda.next(now).unwrap();
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Refresh));
        assert_eq!(agenda.next(now), None);
    }

    #[test]
    fn in_a_contest_a_repair_waits() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        while !agenda.is_limited() {
            agenda.add(Task::Check);
            assert_eq!(run(&mut agenda, now, Outcome::Repaired), Some(Task::Check));
        }
        agenda.add(Task::Check);
        assert_eq!(agenda.due(now), None);
        assert!(agenda.next(now).is_some_and(|at| at > now));
    }
}
