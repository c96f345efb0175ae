//! One run after the other: who writes in a network namespace, and how long to wait for it.
//!
//! Order among our own runs is a courtesy that keeps a state which two runs have mixed from ever
//! being in the kernel. Nothing relies on it: whoever writes looks again afterwards.

use crate::backend::{Backend, BackendError};
use crate::ruleset::Live;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// An abstract socket of this name stands for the turn: it belongs to the network namespace, just
/// as the rules do, needs no file, and ends with the processes that hold it.
const NAME: &str = "prepare-proxy";

/// Anybody in the namespace can hold the name, so that it must not hold us up for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// As long as this lives, other runs in this network namespace wait.
pub struct Turn(#[expect(dead_code, reason = "held, not used")] Option<UnixDatagram>);

impl Turn {
    /// Waits until it is our turn, at most ten seconds; then goes on without.
    pub fn take() -> Self {
        let mut patience = Patience::of(LONGEST_WAIT);
        loop {
            let bound =
                SocketAddr::from_abstract_name(NAME).and_then(|a| UnixDatagram::bind_addr(&a));
            match bound {
                Ok(socket) => {
                    outlive_us(&socket);
                    return Turn(Some(socket));
                }
                Err(e) if e.kind() != ErrorKind::AddrInUse => {
                    log::debug!("other runs cannot be told to wait: {e}");
                    return Turn(None);
                }
                Err(_) if patience.wait() => {}
                Err(_) => {
                    log::warn!(
                        "another run has been at work for {} s in this network namespace (or somebody holds the \
                         abstract socket @{NAME}): going on beside it",
                        LONGEST_WAIT.as_secs()
                    );
                    return Turn(None);
                }
            }
        }
    }
}

/// The tools that we start inherit the socket: when we are killed, the next run waits until they
/// have ended too, for they may still write what we made of an older state.
fn outlive_us(socket: &UnixDatagram) {
    if let Err(e) = fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())) {
        log::debug!("tools that outlive this run will not hold others up: {e}");
    }
}

/// Pauses that grow from a millisecond to a second, each a random part longer, so that those who met
/// once do not keep meeting; and an end to them.
pub struct Patience {
    pause: Duration,
    until: Instant,
}

impl Patience {
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// That lasts so long, counted from now.
    pub fn of(limit: Duration) -> Self {
        Patience {
            pause: Duration::from_millis(1),
            until: Instant::now() + limit,
        }
    }

    /// Sleeps, each time longer. Returns whether there is any patience left; without, it does not
    /// sleep.
    pub fn wait(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        sleep(self.pause.mul_f64(1.0 + fraction()).min(left));
        self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
        !left.is_zero()
    }
}

/// Reads what a backend sees, again where somebody else committed in between.
pub fn read(backend: &mut dyn Backend) -> Result<Live, BackendError> {
    let mut patience = Patience::of(LONGEST_WAIT);
    loop {
        match backend.read() {
            Err(BackendError::Interrupted { .. }) if patience.wait() => {}
            result => return result,
        }
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
