//! One run after the other in a network namespace.
//!
//! Order among our own runs is a courtesy that keeps a state which two runs have mixed from ever
//! being in the kernel. Nothing relies on it: whoever writes looks again afterwards.

use crate::engine::retry::Backoff;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// An abstract socket of this name is the lock: it belongs to the network namespace, just
/// as the rules do, needs no file, and ends with the processes that hold it.
const NAME: &str = "prepare-proxy";

/// Anybody in the namespace can hold the name, so that it must not hold us up for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longer than a run takes that nobody else gets in the way of.
const USUAL_RUN: Duration = Duration::from_millis(20);

/// As long as this lives, other runs in this network namespace wait.
pub(crate) struct NamespaceLock(
    #[expect(dead_code, reason = "held, not used")] Option<UnixDatagram>,
);

impl NamespaceLock {
    /// Waits until no other run holds it, at most ten seconds; then goes on without.
    pub(crate) fn take() -> Self {
        Self::within(LONGEST_WAIT).unwrap_or_else(|| {
            log::warn!(
                "another run has been at work for {} s in this network namespace (or somebody holds the \
                 abstract socket @{NAME}): going on beside it",
                LONGEST_WAIT.as_secs()
            );
            NamespaceLock(None)
        })
    }

    /// Waits no longer than another run takes; then goes on without. For those who cannot be held
    /// up: somebody who holds the name must not keep rules away.
    pub(crate) fn take_in_passing() -> Self {
        Self::within(USUAL_RUN).unwrap_or_else(|| {
            log::debug!("somebody holds the abstract socket @{NAME}: going on beside them");
            NamespaceLock(None)
        })
    }

    /// Waits until no other run holds it; `None` if one still does after this time.
    fn within(limit: Duration) -> Option<Self> {
        let mut backoff = Backoff::of(limit);
        loop {
            let bound =
                SocketAddr::from_abstract_name(NAME).and_then(|a| UnixDatagram::bind_addr(&a));
            match bound {
                Ok(socket) => {
                    outlive_us(&socket);
                    return Some(NamespaceLock(Some(socket)));
                }
                Err(e) if e.kind() != ErrorKind::AddrInUse => {
                    log::debug!("other runs cannot be told to wait: {e}");
                    return Some(NamespaceLock(None));
                }
                Err(_) if backoff.wait() => {}
                Err(_) => return None,
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
