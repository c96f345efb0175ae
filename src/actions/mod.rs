//! The actions: one file or folder each. An action takes a [`Request`], returns its report as a value
//! and prints nothing.

pub mod apply;
mod clean;
mod close_wait;
pub mod diff;
pub mod differences;
mod dry_run;
mod event;
pub mod explain;
mod installed;
pub mod status;
pub mod verify;
pub mod watch;

pub use apply::Applied;
pub use clean::Cleaned;
pub use close_wait::CloseWait;
pub use diff::Diff;
pub use dry_run::DryRun;
pub use event::Event;
pub use status::Status;

use crate::engine::error::Error;
use crate::engine::network_namespace;
use crate::engine::request::Request;
use crate::netfilter::rtnetlink::Router;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Install the rules.
    Apply(apply::Options),
    /// Show everything that an apply to an empty namespace would do.
    DryRun(apply::Options),
    /// Check the options and leave the rules as they are.
    Check,
    /// Remove all that is managed.
    Clean,
    /// Compare the observed state with the desired one.
    Diff(diff::Options),
    /// Compare what happens to connections.
    Differences(differences::Options),
    /// Compare the observed state with an empty one: what a clean would remove.
    CleanDryRun,
    /// Say what happens to one connection.
    Explain(explain::Question),
    /// Say what happens to every connection.
    Connections(explain::connections::Options),
    /// Show what is installed.
    Status(status::Options),
    /// Prove by real connections that the redirection holds.
    Verify(verify::Options),
    /// Apply, stay, and restore what other programs remove.
    Watch(watch::Options),
}

/// The report of an action.
#[derive(Debug)]
pub enum Report {
    Applied(Box<Applied>),
    DryRun(DryRun),
    Checked,
    Cleaned(Cleaned),
    Diff(Diff),
    Differences(differences::Differences),
    CleanDryRun(Diff),
    Explanation(Box<explain::view::Explanation>),
    Connections(explain::connections::Connections),
    Status(Box<Status>),
    Verified(verify::Report),
    /// A watch has ended on a signal.
    Watched,
}

/// Runs an action. `report` receives events while it runs.
///
/// # Errors
/// Every kind of [`Error`]; what an action has changed by then is part of it.
pub fn run(
    action: &Action,
    request: &Request,
    report: &mut dyn FnMut(Event),
) -> Result<Report, Error> {
    if let Some(path) = &request.network_namespace {
        network_namespace::enter(path)?;
    }
    Ok(match action {
        Action::Apply(options) => {
            Report::Applied(Box::new(apply::apply(request, options, report)?))
        }
        Action::DryRun(options) => Report::DryRun(dry_run::dry_run(request, options, report)?),
        Action::Check => {
            event::resolve(request, &mut Router::open()?, report)?;
            Report::Checked
        }
        Action::Clean => Report::Cleaned(clean::clean(request, report)?),
        Action::Diff(options) => Report::Diff(diff::diff(*options, request)?),
        Action::Differences(options) => {
            Report::Differences(differences::differences(options, request)?)
        }
        Action::CleanDryRun => Report::CleanDryRun(diff::of_clean(request)?),
        Action::Explain(question) => {
            Report::Explanation(Box::new(explain::explain(question, request)?))
        }
        Action::Connections(options) => {
            Report::Connections(explain::connections::connections(options, request)?)
        }
        Action::Status(options) => Report::Status(Box::new(status::status(*options)?)),
        Action::Verify(options) => Report::Verified(verify::verify(request, options, report)?),
        Action::Watch(options) => {
            watch::watch(request, options, report)?;
            Report::Watched
        }
    })
}
