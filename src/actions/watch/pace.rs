//! How fast others are answered: at once, unless they never stop.

use std::time::{Duration, Instant};

/// So many repairs are done at once, however close they come.
const BURST: u32 = 100;

/// And for as many in a second as these, it stays so for ever.
const PER_SECOND: u32 = 50;

/// The first pause before a repair in a contest; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: so long do connections pass the proxy by, at worst, while somebody insists.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A contest is over when nobody has taken anything away for so long.
pub(super) const CALM: Duration = Duration::from_secs(10);

/// What a repair was, seen beside those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// One of few.
    Usual,
    /// The first one that makes it a contest.
    ContestBegins,
    /// One more in a contest.
    Contest,
}

/// Counts repairs, and says when the next one may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many repairs may follow at once.
    left: u32,
    /// Since when `left` has not grown.
    counted: Instant,
    /// The pause before the next repair, in a contest.
    pause: Option<Duration>,
    last: Option<Instant>,
}

impl Pace {
    /// Nothing was repaired yet.
    pub(super) fn new(now: Instant) -> Self {
        Pace {
            left: BURST,
            counted: now,
            pause: None,
            last: None,
        }
    }

    /// When the next repair may be: in the past, but in a contest.
    pub(super) fn earliest(&self, now: Instant) -> Instant {
        match (self.pause, self.last) {
            (Some(pause), Some(last)) => last + pause,
            _ => now,
        }
    }

    /// Whether somebody keeps taking away what is put back.
    pub(super) fn is_contest(&self) -> bool {
        self.pause.is_some()
    }

    /// When the contest is over if nothing happens until then.
    pub(super) fn calm_at(&self) -> Option<Instant> {
        self.pause.and(self.last).map(|last| last + CALM)
    }

    /// Ends a contest whose time has come; says whether there was one.
    pub(super) fn calms(&mut self, now: Instant) -> bool {
        let calms = self.calm_at().is_some_and(|at| at <= now);
        if calms {
            *self = Pace::new(now);
        }
        calms
    }

    /// Something had to be put back.
    pub(super) fn repaired(&mut self, now: Instant) -> Course {
        self.calms(now);
        self.last = Some(now);
        if let Some(pause) = self.pause {
            self.pause = Some((pause * 2).min(LONGEST_PAUSE));
            return Course::Contest;
        }
        self.refill(now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Course::Usual
            }
            None => {
                self.pause = Some(FIRST_PAUSE);
                Course::ContestBegins
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let one = Duration::from_secs(1) / PER_SECOND;
        let passed = now.saturating_duration_since(self.counted);
        let more = (passed.as_micros() / one.as_micros()).min(u128::from(BURST)) as u32;
        if more > 0 {
            self.left = (self.left + more).min(BURST);
            self.counted = match self.left {
                BURST => now,
                _ => self.counted + one * more,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn many_takings_away_in_a_row_are_answered_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for n in 0..10_000 {
            let now = start + n * 20 * MILLI;
            assert!(pace.earliest(now) <= now);
            assert_eq!(pace.repaired(now), Course::Usual, "{n}");
        }
    }

    #[test]
    fn who_never_stops_is_answered_ever_slower_and_said_once() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let (mut begun, mut pauses) = (0, Vec::new());
        for _ in 0..BURST + 40 {
            let at = pace.earliest(now).max(now);
            pauses.push(at - now);
            now = at;
            begun += u32::from(pace.repaired(now) == Course::ContestBegins);
            // Taken away again in no time.
            now += MILLI;
        }
        assert_eq!(begun, 1);
        let at_once = pauses.iter().take_while(|p| p.is_zero()).count();
        assert!(at_once > BURST as usize);
        let slow = &pauses[at_once..];
        assert!(slow.windows(2).all(|w| w[0] <= w[1]), "{slow:?}");
        assert_eq!(slow[0], FIRST_PAUSE - MILLI);
        assert_eq!(slow.last(), Some(&(LONGEST_PAUSE - MILLI)));
    }

    #[test]
    fn after_a_while_of_peace_all_is_as_before() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        while pace.repaired(start) != Course::ContestBegins {}
        let at = pace.calm_at().unwrap();
        assert!(!pace.calms(at - MILLI));
        assert!(pace.calms(at));
        assert!(!pace.calms(at));
        assert_eq!(pace.repaired(at), Course::Usual);
        assert_eq!(pace.earliest(at), at);
    }

    proptest! {
        /// Nobody waits longer than is documented, and nobody can make it more than so many a second.
        #[test]
        fn pauses_and_rates_stay_in_their_bounds(gaps in prop::collection::vec(0u64..200, 0..400)) {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            let (mut now, mut repairs) = (start, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let at = pace.earliest(now).max(now);
                prop_assert!(at - now <= LONGEST_PAUSE);
                now = at;
                pace.repaired(now);
                repairs += 1;
                let seconds = (now - start).as_secs_f64();
                prop_assert!(f64::from(repairs) <= f64::from(BURST) + f64::from(PER_SECOND) * seconds + 2.0);
            }
        }
    }
}
