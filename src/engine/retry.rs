//! The one retry policy: exponential back-off, a deadline, and a limit for those who never stop.

use std::hash::{BuildHasher, RandomState};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pauses that double from `first` to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            next: first,
            longest,
        }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// Attempts until a deadline. The first pause is zero, the others are a random part longer than the
/// back-off says, so that those who collided once do not keep colliding.
pub(crate) struct Attempts {
    backoff: Option<Backoff>,
    until: Instant,
}

impl Attempts {
    /// Attempts that end `limit` after now.
    pub(crate) fn within(limit: Duration) -> Self {
        Attempts {
            backoff: None,
            until: Instant::now() + limit,
        }
    }

    /// Sleeps, each time longer. Returns whether the deadline is still ahead.
    pub(crate) fn wait(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        match &mut self.backoff {
            Some(backoff) => sleep(backoff.pause().mul_f64(1.0 + fraction()).min(left)),
            none => {
                *none = Some(Backoff::new(
                    Duration::from_millis(1),
                    Duration::from_secs(1),
                ))
            }
        }
        !left.is_zero()
    }
}

/// A random number from 0 to 1; the hasher's keys are random.
fn fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    random as f64 / u64::MAX as f64
}

/// Repairs are made at once, unless another program never stops: more than [`RateLimit::MOST`] within
/// [`RateLimit::WINDOW`]. Then each is made after a pause, until there was none for
/// [`RateLimit::CALM`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    window: Instant,
    repairs: u32,
    /// The pauses of a contest, and when the next repair may be made.
    contest: Option<(Backoff, Instant)>,
    last: Instant,
}

impl RateLimit {
    const WINDOW: Duration = Duration::from_secs(2);
    const MOST: u32 = 100;
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    /// The longest pause: for so long connections bypass the proxy, at worst.
    pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    pub(crate) const CALM: Duration = Duration::from_secs(10);

    pub(crate) fn new(now: Instant) -> Self {
        RateLimit {
            window: now,
            repairs: 0,
            contest: None,
            last: now,
        }
    }

    /// When the next repair may be made, if that is limited.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.contest.map(|(_, at)| at)
    }

    /// When a contest is over if nothing happens until then.
    pub(crate) fn calm_at(&self) -> Option<Instant> {
        self.contest.map(|_| self.last + Self::CALM)
    }

    /// Ends a contest whose time has come. Returns whether there was one.
    pub(crate) fn calms(&mut self, now: Instant) -> bool {
        let calms = self.calm_at().is_some_and(|at| at <= now);
        if calms {
            *self = RateLimit::new(now);
        }
        calms
    }

    /// Something was repaired. Returns whether a contest begins with it.
    pub(crate) fn repaired(&mut self, now: Instant) -> bool {
        self.calms(now);
        self.last = now;
        if let Some((backoff, at)) = &mut self.contest {
            *at = now + backoff.pause();
            return false;
        }
        if now.saturating_duration_since(self.window) > Self::WINDOW {
            self.window = now;
            self.repairs = 0;
        }
        self.repairs += 1;
        let begins = self.repairs > Self::MOST;
        if begins {
            let mut backoff = Backoff::new(Self::FIRST_PAUSE, Self::LONGEST_PAUSE);
            self.contest = Some((backoff, now + backoff.pause()));
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fractions_are_between_0_and_1_and_differ() {
        let some: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(some.iter().all(|f| (0.0..=1.0).contains(f)), "{some:?}");
        assert!(some.windows(2).any(|w| w[0] != w[1]));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let pauses: Vec<u128> = (0..4).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 300, 300]);
    }

    #[test]
    fn a_contest_begins_once_is_limited_and_ends_when_calm() {
        let mut now = Instant::now();
        let mut limit = RateLimit::new(now);
        let begun: Vec<bool> = (0..200).map(|_| limit.repaired(now)).collect();
        assert_eq!(begun.iter().filter(|b| **b).count(), 1);
        assert!(limit.earliest().is_some_and(|at| at > now));
        now += RateLimit::CALM;
        assert!(limit.calms(now) && !limit.calms(now));
        assert_eq!(limit.earliest(), None);
    }

    proptest! {
        #[test]
        fn fifty_repairs_a_second_are_never_limited(gaps in proptest::collection::vec(20u64..500, 1..500)) {
            let mut now = Instant::now();
            let mut limit = RateLimit::new(now);
            for gap in gaps {
                now += Duration::from_millis(gap);
                prop_assert!(!limit.repaired(now));
            }
        }

        #[test]
        fn no_pause_is_longer_than_the_longest(gaps in proptest::collection::vec(0u64..100, 200..500)) {
            let mut now = Instant::now();
            let mut limit = RateLimit::new(now);
            for gap in gaps {
                now += Duration::from_millis(gap);
                limit.repaired(now);
                let at = limit.earliest().unwrap_or(now);
                prop_assert!(at <= now + RateLimit::LONGEST_PAUSE);
            }
        }
    }
}
