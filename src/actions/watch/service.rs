//! What the service manager is notified of (sd_notify(3)).
//!
//! The crate `sd-notify` adds to the protocol the two forms of the socket's address, the clock of a
//! reload and the check of WATCHDOG_PID, at 20 KB of source and no further dependency.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Service {
    /// How often the watchdog is notified, and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl Service {
    /// Reads the environment. Notifies at half the interval of the watchdog.
    pub(super) fn new(now: Instant) -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Service {
            watchdog: every.map(|every| (every, now)),
        }
    }

    /// The rules are in place.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; [`Service::ready`] ends that.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(e) => log::debug!("no clock for the notification of a reload: {e}"),
        }
    }

    /// The watch ends.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// When the watchdog is notified next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Notifies the watchdog, if it is time to.
    pub(super) fn is_alive(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.watchdog
            && *at <= now
        {
            *at = now + *every;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// A notification that does not arrive is no failure.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(what) {
        log::debug!("cannot notify the service manager: {e}");
    }
}
