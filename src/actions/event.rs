//! What an action has to say before it has ended.

use super::verify::ahead::Ahead;
use super::verify::report::Check;
use super::watch::event::WatchEvent;
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::mesh::{Resolved, Warning};
use crate::netfilter::model::Owner;

/// What is worth saying before an action has ended.
#[derive(Debug)]
pub enum Event {
    Warning(Warning),
    /// Owners that the user namespace does not map: rules about them never match.
    Unmapped(Vec<Owner>),
    /// New SSH connections will be redirected.
    SshCaptured,
    /// A foreign rule decides on connections that are to be captured.
    Ahead(Ahead),
    /// A watch is at work in this network namespace, and restores what its own options ask for.
    WatchAtWork(i32),
    /// Of a watch.
    Watch(WatchEvent),
    /// One connection that `verify` has settled.
    Checked(Check),
}

/// Resolves the request, and tells its warnings.
pub(super) fn resolve(request: &Request, tell: &mut dyn FnMut(Event)) -> Result<Resolved, Error> {
    let (mut resolved, _) = request.resolve()?;
    let warnings = std::mem::take(&mut resolved.warnings);
    warnings.into_iter().map(Event::Warning).for_each(tell);
    Ok(resolved)
}
