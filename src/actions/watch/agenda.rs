//! What is to be done, and when: events in, tasks out, nothing else. All that the watch knows of time
//! is here.

use crate::engine::retry::{Backoff, RateLimit};
use std::time::{Duration, Instant};

/// What can be done; each task includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Compare the kernel with the desired state, and restore what is missing.
    Look,
    /// First read again what the host is like: addresses, nameservers.
    Refresh,
    /// First read the configuration again, which may have changed while it was read.
    Reread,
    /// The same because somebody has asked for it.
    Reload,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was missing, or the desired state itself has changed.
    Fine,
    /// Something had been removed.
    Repaired,
    /// It could not be done.
    Failed,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Agenda {
    pending: Option<Task>,
    /// When the configuration is read once more.
    reread: Option<Instant>,
    limit: RateLimit,
    /// How often to look at what raises no events, and when next.
    interval: Option<(Duration, Instant)>,
    /// The last task failed: the pauses of its retries, and when the next one is due.
    retry: Option<(Backoff, Instant)>,
}

impl Agenda {
    const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    /// With nothing to do.
    pub(super) fn new(now: Instant) -> Self {
        Agenda {
            pending: None,
            reread: None,
            limit: RateLimit::new(now),
            interval: None,
            retry: None,
        }
    }

    /// Looks every so often from now on, or no more. Returns whether that is new.
    pub(super) fn look_every(&mut self, interval: Option<Duration>, now: Instant) -> bool {
        let before = self.interval.map(|(every, _)| every);
        if interval != before {
            self.interval = interval.map(|every| (every, now + every));
        }
        before.is_none() && interval.is_some()
    }

    /// Adds a task.
    pub(super) fn add(&mut self, task: Task) {
        self.pending = self.pending.max(Some(task));
    }

    /// Reads the configuration once more at that time.
    pub(super) fn reread_at(&mut self, at: Instant) {
        self.reread = Some(at);
    }

    /// The next moment at which something may be due; `None` if there is only to wait for events.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let task = self.pending.map(|_| now);
        let first = [task, self.reread, self.interval.map(|(_, at)| at)];
        let first = first.into_iter().flatten().min();
        let first = first.map(|at| at.max(self.earliest(now)));
        [first, self.limit.calm_at()].into_iter().flatten().min()
    }

    /// The task that is due, if one is.
    pub(super) fn due(&self, now: Instant) -> Option<Task> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let reread = due(self.reread).then_some(Task::Reread);
        let polled = due(self.interval.map(|(_, at)| at)).then_some(Task::Look);
        let task = self.pending.max(reread).max(polled);
        task.filter(|_| self.earliest(now) <= now)
    }

    /// In a contest, and after a failure, nothing is done before this.
    fn earliest(&self, now: Instant) -> Instant {
        let retry = self.retry.map(|(_, at)| at);
        [self.limit.earliest(), retry]
            .into_iter()
            .flatten()
            .fold(now, Instant::max)
    }

    /// A task has begun: it includes all that is pending.
    pub(super) fn begin(&mut self, task: Task) {
        self.pending = None;
        self.reread = self.reread.filter(|_| task < Task::Reread);
    }

    /// A task has ended so. A failed one is due again after a pause. Returns whether a contest
    /// begins.
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

    /// Whether another program keeps removing what is restored.
    pub(super) fn is_contest(&self) -> bool {
        self.limit.earliest().is_some()
    }

    /// Whether a contest has just ended.
    pub(super) fn calms(&mut self, now: Instant) -> bool {
        self.limit.calms(now)
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
        for task in [Task::Look, Task::Reload, Task::Refresh, Task::Look] {
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
        agenda.add(Task::Look);
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Look));
        assert_eq!(agenda.next(now), Some(later));
        assert_eq!(run(&mut agenda, later, Outcome::Fine), Some(Task::Reread));
        assert_eq!(agenda.next(later), None);
    }

    #[test]
    fn what_raises_no_events_is_looked_at_every_interval() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        let every = Duration::from_secs(5);
        assert!(agenda.look_every(Some(every), now));
        assert_eq!(agenda.next(now), Some(now + every));
        assert_eq!(agenda.due(now + every), Some(Task::Look));
        // A look for another reason will do.
        let later = now + every / 2;
        agenda.add(Task::Look);
        run(&mut agenda, later, Outcome::Fine);
        assert_eq!(agenda.due(now + every), None);
        assert_eq!(agenda.due(later + every), Some(Task::Look));
        agenda.look_every(None, now);
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
            agenda.add(Task::Look);
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
        while !agenda.is_contest() {
            agenda.add(Task::Look);
            assert_eq!(run(&mut agenda, now, Outcome::Repaired), Some(Task::Look));
        }
        agenda.add(Task::Look);
        assert_eq!(agenda.due(now), None);
        assert!(agenda.next(now).is_some_and(|at| at > now));
    }
}
