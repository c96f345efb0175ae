//! What systemd is told, where it listens (sd_notify(3)).
//!
//! The protocol is a few lines of text; what the crate `sd-notify` knows besides, at 20 KB of source
//! and no further dependency, is the address of the socket in both its forms, the clock that a reload
//! is told by, and whose WATCHDOG_PID it is.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Service {
    /// How often it wants to hear that we are alive, and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl Service {
    /// Reads what the environment says of it. Twice as often as it asks for it hears from us.
    pub(super) fn new(now: Instant) -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Service {
            watchdog: every.map(|every| (every, now)),
        }
    }

    /// The rules stand; `status` is for systemctl status.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is being read anew; [`Service::ready`] says that this is over.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(e) => log::debug!("no clock to tell the service manager of a reload by: {e}"),
        }
    }

    /// What to show until something else is said.
    pub(super) fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// We are about to end.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// When it wants to hear from us next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Says that we are alive, if it is time to.
    pub(super) fn is_alive(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.watchdog
            && *at <= now
        {
            *at = now + *every;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Nobody listening is not our failure.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(what) {
        log::debug!("the service manager cannot be told: {e}");
    }
}
