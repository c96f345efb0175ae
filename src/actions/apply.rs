//! `apply`: installs the rules in one transaction, and writes nothing where they are in place.

use super::close_wait::CloseWait;
use super::event::{Event, resolve};
use super::verify;
use crate::engine::backends::Foreign;
use crate::engine::error::Error;
use crate::engine::lock::LockName;
use crate::engine::reconcile::{self, Reconciled, TimeLimits};
use crate::engine::request::Request;
use crate::engine::{network_namespace, privilege, user_namespace};
use crate::mesh::Resolved;
use crate::netfilter::model::Ruleset;
use crate::netfilter::rtnetlink::Router;
use std::time::{Duration, Instant};

/// Options of an apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The conntrack timeout to set with the rules.
    pub close_wait: Option<CloseWait>,
}

/// The report of an apply.
#[derive(Debug)]
pub struct Applied {
    pub resolved: Resolved,
    pub done: Reconciled,
    pub took: Duration,
}

pub(super) fn apply(
    request: &Request,
    options: &Options,
    report: &mut dyn FnMut(Event),
) -> Result<Applied, Error> {
    let start = Instant::now();
    let mut router = Router::open()?;
    let resolved = resolve(request, &mut router, report)?;
    network_namespace::check_not_a_node(request)?;
    privilege::require_net_admin()?;
    if resolved.config.captures_ssh(&resolved.desired) && network_namespace::has_ssh(request) {
        report(Event::SshCaptured);
    }
    if let Some(timeout) = options.close_wait {
        timeout.check()?;
    }
    let (desired, limits) = (&resolved.desired, TimeLimits::RUN);
    let done = reconcile::apply(desired, request.backend, limits, &mut router)?;
    if done.backend == "nftables" {
        let owners = user_namespace::unmapped(&resolved.desired);
        if !owners.is_empty() {
            report(Event::Unmapped(owners));
        }
    }
    ahead(&resolved.desired, done.foreign, report);
    if done.changed()
        && let Some(watch) = LockName::Watch.holder()
    {
        report(Event::WatchRunning(watch.pid()));
    }
    options.close_wait.map_or(Ok(()), CloseWait::set)?;
    Ok(Applied {
        resolved,
        done,
        took: start.elapsed(),
    })
}

/// Warns of foreign rules that take precedence. That they cannot be read is no reason to fail.
fn ahead(desired: &Ruleset, foreign: Foreign, report: &mut dyn FnMut(Event)) {
    match verify::rules_ahead(desired, foreign) {
        Ok(rules) => rules.into_iter().map(Event::Ahead).for_each(report),
        Err(e) => log::debug!("cannot look for foreign rules that take precedence: {e}"),
    }
}
