//! Retry policy: exponential back-off, deadlines, and a rate limit for repairs.

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

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// Attempts until a deadline. The first pause is zero; later ones add a random part to the
/// back-off, so that concurrent runs do not stay in step.
pub(crate) struct Attempts {
    backoff: Option<Backoff>,
    until: Instant,
}

impl Attempts {
    pub(crate) fn within(limit: Duration) -> Self {
        Attempts {
            backoff: None,
            until: Instant::now() + limit,
        }
    }

    /// Sleeps, longer each time. Returns false once the deadline has passed.
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

/// Repairs are immediate unless there are more than [`RateLimit::MOST`] within
/// [`RateLimit::WINDOW`]. Then each is preceded by a pause, until none was necessary for
/// [`RateLimit::CALM`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    window: Instant,
    repairs: u32,
    /// While limited: the back-off, and when the next repair may be made.
    limited: Option<(Backoff, Instant)>,
    last: Instant,
}

impl RateLimit {
    const WINDOW: Duration = Duration::from_secs(2);
    const MOST: u32 = 100;
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    /// The longest pause, for which connections may bypass the proxy.
    pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    pub(crate) const CALM: Duration = Duration::from_secs(10);

    pub(crate) fn new(now: Instant) -> Self {
        RateLimit {
            window: now,
            repairs: 0,
            limited: None,
            last: now,
        }
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.limited.map(|(_, at)| at)
    }

    /// When the limit ends if no repair is necessary until then.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.limited.map(|_| self.last + Self::CALM)
    }

    /// Ends the limit if its time has come. Returns whether it did.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        let ends = self.ends_at().is_some_and(|at| at <= now);
        if ends {
            *self = RateLimit::new(now);
        }
        ends
    }

    /// Counts a repair. Returns whether the limit begins with it.
    pub(crate) fn repaired(&mut self, now: Instant) -> bool {
        self.ends(now);
        self.last = now;
        if let Some((backoff, at)) = &mut self.limited {
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
            self.limited = Some((backoff, now + backoff.pause()));
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
    fn the_limit_begins_once_and_ends_when_no_repair_is_necessary() {
        let mut now = Instant::now();
        let mut limit = RateLimit::new(now);
        let begun: Vec<bool> = (0..200).map(|_| limit.repaired(now)).collect();
        assert_eq!(begun.iter().filter(|b| **b).count(), 1);
        assert!(limit.earliest().is_some_and(|at| at > now));
        now += RateLimit::CALM;
        assert!(limit.ends(now) && !limit.ends(now));
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
