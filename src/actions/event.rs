//! Events that an action reports while it runs.

use super::verify::ahead::Ahead;
use super::verify::report::Check;
use super::watch::event::WatchEvent;
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::mesh::{Resolved, Warning};
use crate::netfilter::model::Owner;
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::Router;

/// An event of an action.
#[derive(Debug)]
pub enum Event {
    Warning(Warning),
    /// Owners that the user namespace does not map: rules about them never match.
    Unmapped(Vec<Owner>),
    /// New SSH connections will be redirected.
    SshCaptured,
    /// A foreign rule precedes managed ones and decides on connections that are to be captured.
    Ahead(Ahead),
    /// A watch is running in this network namespace and restores its own desired state.
    WatchRunning(i32),
    Watch(WatchEvent),
    /// A connection checked by `verify`.
    Checked(Check),
}

/// Resolves the request and reports its warnings.
pub(super) fn resolve(
    request: &Request,
    router: &mut Router<Socket>,
    report: &mut dyn FnMut(Event),
) -> Result<Resolved, Error> {
    let (mut resolved, _) = request.resolve(router)?;
    let warnings = std::mem::take(&mut resolved.warnings);
    warnings.into_iter().map(Event::Warning).for_each(report);
    Ok(resolved)
}
