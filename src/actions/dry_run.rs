//! `--dry-run`: everything that an apply to an empty namespace would do, as a value. Nothing is
//! touched, and no privilege is needed.

use super::apply::Options;
use super::close_wait::CloseWait;
use super::event::{Event, resolve};
use crate::engine::error::Error;
use crate::engine::request::Request;
use crate::netfilter::model::Ruleset;
use crate::netfilter::rtnetlink::Router;

/// The report of a dry run.
#[derive(Debug)]
pub struct DryRun {
    pub desired: Ruleset,
    /// The sysctl that would be set.
    pub close_wait: Option<CloseWait>,
}

pub(super) fn dry_run(
    request: &Request,
    options: &Options,
    report: &mut dyn FnMut(Event),
) -> Result<DryRun, Error> {
    Ok(DryRun {
        desired: resolve(request, &mut Router::open()?, report)?.desired,
        close_wait: options.close_wait,
    })
}
