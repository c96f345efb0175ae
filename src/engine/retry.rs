//! How long to wait for others, and how often to look again.

use std::hash::{BuildHasher, RandomState};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pauses for one who has to try again: none at first, then from a millisecond to a second, each a
/// random part longer, so that those who met once do not keep meeting; and an end to them.
pub(crate) struct Backoff {
    pause: Duration,
    until: Instant,
}

impl Backoff {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// Pauses that end `limit` after now.
    pub(crate) fn of(limit: Duration) -> Self {
        Backoff {
            pause: Duration::ZERO,
            until: Instant::now() + limit,
        }
    }

    /// Sleeps, each time longer. Returns whether the limit is still ahead; behind it, it does not
    /// sleep.
    pub(crate) fn wait(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        sleep(self.pause.mul_f64(1.0 + fraction()).min(left));
        self.pause = (self.pause * 2).clamp(Self::SHORTEST_PAUSE, Self::LONGEST_PAUSE);
        !left.is_zero()
    }
}

/// A random number from 0 to 1; the hasher's keys are random.
fn fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    random as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_lie_between_0_and_1_and_differ() {
        let some: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(some.iter().all(|f| (0.0..=1.0).contains(f)), "{some:?}");
        assert!(some.windows(2).any(|w| w[0] != w[1]));
    }
}
