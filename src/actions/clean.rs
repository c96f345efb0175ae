//! `clean`: removes all that is managed, from every backend; no options are needed.

use super::event::Event;
use crate::engine::error::Error;
use crate::engine::lock::LockName;
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege, reconcile};
use std::time::{Duration, Instant};

/// The report of a clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether there was anything to remove.
    pub changed: bool,
    pub took: Duration,
}

pub(super) fn clean(request: &Request, report: &mut dyn FnMut(Event)) -> Result<Cleaned, Error> {
    let start = Instant::now();
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    let changed = reconcile::clean()?;
    if changed && let Some(watch) = LockName::Watch.holder() {
        report(Event::WatchRunning(watch.pid()));
    }
    Ok(Cleaned {
        changed,
        took: start.elapsed(),
    })
}
