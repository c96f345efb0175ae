//! `clean`: removes all that is managed, from every backend; no options are needed.

use super::event::Event;
use crate::engine::error::Error;
use crate::engine::lock::Name;
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege, reconcile};
use std::time::{Duration, Instant};

/// How a clean ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether there was anything to remove.
    pub changed: bool,
    pub took: Duration,
}

pub(super) fn clean(request: &Request, tell: &mut dyn FnMut(Event)) -> Result<Cleaned, Error> {
    let start = Instant::now();
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    let changed = reconcile::clean()?;
    if changed && let Some(watch) = Name::Watch.holder() {
        tell(Event::WatchAtWork(watch.pid()));
    }
    Ok(Cleaned {
        changed,
        took: start.elapsed(),
    })
}
