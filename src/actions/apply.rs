//! `apply`: installs the rules in one transaction, and writes nothing where they are in place.

use super::close_wait::CloseWait;
use super::event::{Event, resolve};
use super::verify;
use crate::engine::error::Error;
use crate::engine::lock::Name;
use crate::engine::reconcile::{self, Patience, Reconciled};
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege, user_namespace};
use crate::mesh::Resolved;
use crate::netfilter::model::Ruleset;
use std::time::{Duration, Instant};

/// What an apply does besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A timeout of conntrack to be set with the rules.
    pub close_wait: Option<CloseWait>,
}

/// How an apply ended.
#[derive(Debug)]
pub struct Applied {
    pub resolved: Resolved,
    pub done: Reconciled,
    pub took: Duration,
}

pub(super) fn apply(
    request: &Request,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Applied, Error> {
    let start = Instant::now();
    let resolved = resolve(request, tell)?;
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    if resolved.config.captures_ssh(&resolved.desired) && network_namespace::has_ssh(request) {
        tell(Event::SshCaptured);
    }
    if let Some(timeout) = options.close_wait {
        timeout.check()?;
    }
    let done = reconcile::apply(&resolved.desired, request.backend, Patience::RUN)?;
    if done.backend == "nftables" {
        let owners = user_namespace::unmapped(&resolved.desired);
        if !owners.is_empty() {
            tell(Event::Unmapped(owners));
        }
    }
    if done.beside_others {
        ahead(&resolved.desired, tell);
    }
    if done.changed()
        && let Some(watch) = Name::Watch.holder()
    {
        tell(Event::WatchAtWork(watch.pid()));
    }
    options.close_wait.map_or(Ok(()), CloseWait::set)?;
    Ok(Applied {
        resolved,
        done,
        took: start.elapsed(),
    })
}

/// Warns of foreign rules that take precedence. That they cannot be read is no reason to fail.
fn ahead(desired: &Ruleset, tell: &mut dyn FnMut(Event)) {
    match verify::rules_ahead(desired) {
        Ok(rules) => rules.into_iter().map(Event::Ahead).for_each(tell),
        Err(e) => log::debug!("cannot look for foreign rules that take precedence: {e}"),
    }
}
