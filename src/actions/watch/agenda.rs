//! What is to be done, and when: events in, tasks out, nothing else. All that the watch knows of
//! time is here.

use super::pace::{Course, Pace};
use std::time::{Duration, Instant};

/// A file that has changed is left alone until it has not changed for so long: editors and scripts
/// remove it, make it again, and write it in pieces.
const SETTLES: Duration = Duration::from_millis(100);

/// But not longer than this.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);

/// The first pause after a failure; each one is twice as long, up to a limit.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What can be done; each one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Compare the kernel with what is wanted, and put back what is missing.
    Look,
    /// First ask anew what the host says: addresses, nameservers.
    Ask,
    /// First read the configuration anew.
    Reload,
}

impl Task {
    const ALL: [Task; 3] = [Task::Look, Task::Ask, Task::Reload];
}

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// This is to be done without delay.
    Now(Task),
    /// A file has changed, and may not be done changing.
    Settling(Task),
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All was as it should be, or was made so by a change of our own mind.
    Fine,
    /// Something had been taken away.
    Repaired,
    /// It could not be done.
    Failed,
}

/// When a task is due, and since when there is a reason for it.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    since: Instant,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Agenda {
    due: [Option<Due>; Task::ALL.len()],
    pace: Pace,
    /// How often to look at what has no notifications, and when next.
    interval: Option<(Duration, Instant)>,
    /// The last task failed: the pause behind it, and when that ends.
    retry: Option<(Duration, Instant)>,
}

impl Agenda {
    /// With nothing to do.
    pub(super) fn new(now: Instant) -> Self {
        Agenda {
            due: [None; Task::ALL.len()],
            pace: Pace::new(now),
            interval: None,
            retry: None,
        }
    }

    /// From now on looks every so often, or no more. Says whether that is something new to do.
    pub(super) fn look_every(&mut self, interval: Option<Duration>, now: Instant) -> bool {
        let before = self.interval.map(|(every, _)| every);
        if interval != before {
            self.interval = interval.map(|every| (every, now + every));
        }
        before.is_none() && interval.is_some()
    }

    /// Takes up what happened.
    pub(super) fn add(&mut self, event: Event, now: Instant) {
        let (task, wait) = match event {
            Event::Now(task) => (task, Duration::ZERO),
            Event::Settling(task) => (task, SETTLES),
        };
        let due = &mut self.due[task as usize];
        let since = due.map_or(now, |due| due.since);
        let at = match (event, *due) {
            // What is due is not put off by a further reason.
            (Event::Now(_), Some(due)) => due.at.min(now),
            _ => (now + wait).min(since + LONGEST_SETTLING),
        };
        *due = Some(Due { at, since });
    }

    /// The next moment at which something may be due; `None` if all there is to do is to wait for
    /// others.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let tasks = self.due.iter().flatten().map(|due| due.at);
        let first = tasks.chain(self.interval.map(|(_, at)| at)).min();
        let first = first.map(|at| at.max(self.earliest(now)));
        [first, self.pace.calm_at()].into_iter().flatten().min()
    }

    /// The greatest task that is due, if any is.
    pub(super) fn due(&self, now: Instant) -> Option<Task> {
        let is_due = |task: &Task| self.due[*task as usize].is_some_and(|due| due.at <= now);
        let polled = self.interval.is_some_and(|(_, at)| at <= now);
        let task = Task::ALL.into_iter().rev().find(is_due);
        task.or(polled.then_some(Task::Look))
            .filter(|_| self.earliest(now) <= now)
    }

    /// In a contest, and after a failure, nothing is done before this.
    fn earliest(&self, now: Instant) -> Instant {
        let paced = self.pace.earliest(now);
        self.retry.map_or(paced, |(_, at)| at.max(paced))
    }

    /// A task was begun: everything that it includes is done with it.
    pub(super) fn begin(&mut self, task: Task) {
        self.due[..=task as usize].fill(None);
    }

    /// A task has ended so. A failed one is due again after a pause.
    pub(super) fn end(&mut self, task: Task, outcome: Outcome, now: Instant) -> Course {
        if let Some((every, at)) = &mut self.interval {
            *at = now + *every;
        }
        if outcome == Outcome::Failed {
            let longer = |(pause, _): (Duration, _)| (pause * 2).min(LONGEST_RETRY);
            let pause = self.retry.map_or(FIRST_RETRY, longer);
            self.retry = Some((pause, now + pause));
            self.add(Event::Now(task), now);
            return Course::Usual;
        }
        self.retry = None;
        match outcome {
            Outcome::Repaired => self.pace.repaired(now),
            _ => Course::Usual,
        }
    }

    /// Whether somebody keeps taking away what is put back.
    pub(super) fn is_contest(&self) -> bool {
        self.pace.is_contest()
    }

    /// Whether nobody keeps taking away what is put back any more: said once, when it is so.
    pub(super) fn calms(&mut self, now: Instant) -> bool {
        self.pace.calms(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn agenda() -> (Agenda, Instant) {
        let now = Instant::now();
        (Agenda::new(now), now)
    }

    /// Does what is due, as the watch would.
    fn run(agenda: &mut Agenda, now: Instant, outcome: Outcome) -> Option<Task> {
        let task = agenda.due(now)?;
        agenda.begin(task);
        agenda.end(task, outcome, now);
        Some(task)
    }

    #[test]
    fn where_nothing_happens_nothing_is_due_ever() {
        let (agenda, now) = agenda();
        assert_eq!(agenda.next(now), None);
        assert_eq!(agenda.due(now + Duration::from_secs(1 << 20)), None);
    }

    #[test]
    fn a_storm_is_one_look() {
        let (mut agenda, now) = agenda();
        for _ in 0..500 {
            agenda.add(Event::Now(Task::Look), now);
        }
        assert_eq!(agenda.next(now), Some(now));
        assert_eq!(run(&mut agenda, now, Outcome::Repaired), Some(Task::Look));
        assert_eq!(agenda.due(now), None);
    }

    #[test]
    fn a_greater_task_includes_the_lesser_ones() {
        let (mut agenda, now) = agenda();
        for task in Task::ALL {
            agenda.add(Event::Now(task), now);
        }
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Reload));
        assert_eq!(agenda.due(now), None);
        agenda.add(Event::Settling(Task::Reload), now);
        agenda.add(Event::Now(Task::Look), now);
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Look));
        // What was not due yet is still to come.
        assert_eq!(agenda.next(now), Some(now + SETTLES));
    }

    #[test]
    fn a_file_is_read_when_it_has_settled_but_is_not_waited_for_for_ever() {
        let (mut agenda, start) = agenda();
        let mut now = start;
        while agenda.due(now).is_none() {
            agenda.add(Event::Settling(Task::Reload), now);
            now += SETTLES / 2;
        }
        assert_eq!(now - start, LONGEST_SETTLING);
        run(&mut agenda, now, Outcome::Fine);
        agenda.add(Event::Settling(Task::Reload), now);
        assert_eq!(agenda.due(now + SETTLES - MILLI), None);
        assert_eq!(agenda.due(now + SETTLES), Some(Task::Reload));
        // A signal does not wait for it.
        agenda.add(Event::Now(Task::Reload), now);
        assert_eq!(agenda.due(now), Some(Task::Reload));
    }

    #[test]
    fn what_has_no_notifications_is_looked_at_every_so_often_while_it_is_in_use() {
        let (mut agenda, now) = agenda();
        let every = Duration::from_secs(5);
        agenda.look_every(Some(every), now);
        assert_eq!(agenda.next(now), Some(now + every));
        assert_eq!(agenda.due(now + every - MILLI), None);
        // A look for another reason will do.
        agenda.add(Event::Now(Task::Look), now + 4000 * MILLI);
        run(&mut agenda, now + 4000 * MILLI, Outcome::Fine);
        assert_eq!(agenda.due(now + every), None);
        assert_eq!(agenda.due(now + 4000 * MILLI + every), Some(Task::Look));
        agenda.look_every(None, now);
        assert_eq!(agenda.next(now), None);
    }

    #[test]
    fn what_failed_is_tried_again_ever_slower_whatever_happens() {
        let (mut agenda, mut now) = agenda();
        agenda.add(Event::Now(Task::Ask), now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let at = agenda.next(now).unwrap().max(now);
            pauses.push(at - now);
            now = at;
            assert_eq!(run(&mut agenda, now, Outcome::Failed), Some(Task::Ask));
            agenda.add(Event::Now(Task::Look), now);
            assert_eq!(agenda.due(now), None);
        }
        assert_eq!(pauses[..3], [Duration::ZERO, FIRST_RETRY, FIRST_RETRY * 2]);
        assert_eq!(pauses.last(), Some(&LONGEST_RETRY));
        now = agenda.next(now).unwrap();
        assert_eq!(run(&mut agenda, now, Outcome::Fine), Some(Task::Ask));
        assert_eq!(agenda.next(now), None);
    }

    #[test]
    fn a_contest_is_paced_and_its_end_is_told_once() {
        let (mut agenda, mut now) = agenda();
        let mut begun = 0;
        for _ in 0..200 {
            agenda.add(Event::Now(Task::Look), now);
            now = agenda.next(now).unwrap().max(now);
            let task = agenda.due(now).unwrap();
            agenda.begin(task);
            let course = agenda.end(task, Outcome::Repaired, now);
            begun += u32::from(course == Course::ContestBegins);
        }
        assert_eq!(begun, 1);
        let calm = agenda.next(now).unwrap();
        assert_eq!(calm, now + super::super::pace::CALM);
        assert!(agenda.calms(calm) && !agenda.calms(calm));
        assert_eq!(agenda.next(calm), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Happens(Event),
        Passes(u64),
        Ends(Outcome),
    }

    fn step() -> impl Strategy<Value = Step> {
        let task = prop::sample::select(&Task::ALL[..]);
        let event = (task, any::<bool>()).prop_map(|(task, now)| match now {
            true => Event::Now(task),
            false => Event::Settling(task),
        });
        let outcome =
            prop::sample::select(&[Outcome::Fine, Outcome::Repaired, Outcome::Failed][..]);
        prop_oneof![
            event.prop_map(Step::Happens),
            (0u64..3000).prop_map(Step::Passes),
            outcome.prop_map(Step::Ends),
        ]
    }

    proptest! {
        /// Whatever happens, everything is done in the end, in bounded time, and then there is peace.
        #[test]
        fn everything_is_done_in_the_end(steps in prop::collection::vec(step(), 0..200)) {
            let (mut agenda, mut now) = agenda();
            let mut owed: Option<Task> = None;
            for step in steps {
                match step {
                    Step::Happens(event) => {
                        agenda.add(event, now);
                        let (Event::Now(task) | Event::Settling(task)) = event;
                        owed = owed.max(Some(task));
                    }
                    Step::Passes(millis) => now += Duration::from_millis(millis),
                    Step::Ends(outcome) => {
                        let done = run(&mut agenda, now, outcome);
                        if outcome != Outcome::Failed && done >= owed {
                            owed = None;
                        }
                    }
                }
            }
            let end = now + LONGEST_SETTLING + 4 * LONGEST_RETRY;
            while let Some(at) = agenda.next(now) {
                now = now.max(at);
                agenda.calms(now);
                if owed.is_some() {
                    prop_assert!(now <= end);
                }
                let done = run(&mut agenda, now, Outcome::Fine);
                if done >= owed {
                    owed = None;
                }
            }
            prop_assert_eq!(owed, None);
        }
    }
}
