//! Notifications for the service manager (sd_notify(3)).
//!
//! The crate `sd-notify` handles both forms of socket address, the clock of a reload and
//! WATCHDOG_PID, in 20 KB of source without further dependencies.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Service {
    /// The interval of watchdog notifications, and when the next one is due.
    watchdog: Option<(Duration, Instant)>,
}

impl Service {
    /// Reads the environment. The watchdog is notified at half its interval.
    pub(super) fn new(now: Instant) -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Service {
            watchdog: every.map(|every| (every, now)),
        }
    }

    pub(super) fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// Announces a reload, which [`Service::ready`] ends.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(e) => log::debug!("no clock for the notification of a reload: {e}"),
        }
    }

    pub(super) fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Notifies the watchdog if that is due.
    pub(super) fn notify_watchdog(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.watchdog
            && *at <= now
        {
            *at = now + *every;
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// A failed notification is not an error.
fn notify(what: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(what) {
        log::debug!("cannot notify the service manager: {e}");
    }
}
