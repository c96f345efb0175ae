//! The text and the JSON of every report, and the messages of the log.

mod connections;
mod diff;
mod differences;
mod dry_run;
pub mod errors;
pub(crate) mod escape;
mod explanation;
pub mod log;
mod mermaid;
mod status;
pub(crate) mod summary;
mod verification;
mod warnings;
mod watch;

pub use dry_run::render;

use crate::actions::verify::Verdict;
use crate::actions::{Event, Report};
use serde::Serialize;
use std::io::Write;

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For `iptables-restore --noflush`, and a part for `ip6tables-restore` behind it.
    Restore,
    /// One command a line, a script for a shell.
    Commands,
    /// For `nft -f`: what the backend `nftables` writes.
    Nft,
    /// For a program, see docs/json.md.
    Json,
    /// A flow chart of the rules.
    Mermaid,
}

impl Format {
    /// Every format with the name that `--format` takes.
    pub const NAMES: &[(&str, Format)] = &[
        ("text", Format::Text),
        ("restore", Format::Restore),
        ("commands", Format::Commands),
        ("nft", Format::Nft),
        ("json", Format::Json),
        ("mermaid", Format::Mermaid),
    ];
}

/// How much of a result is printed as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The answer alone.
    Answer,
    Usual,
    Everything,
}

/// What is printed of a report, with a newline at its end; empty if nothing is.
pub(super) fn text(report: &Report, format: Option<Format>, detail: Detail) -> String {
    let verbose = detail == Detail::Everything;
    let json_wanted = format == Some(Format::Json);
    match report {
        Report::DryRun(dry_run) => dry_run::text(dry_run, format),
        Report::Diff(diff) | Report::CleanDryRun(diff) if json_wanted => json(diff),
        Report::Diff(diff) | Report::CleanDryRun(diff) => diff::text(diff),
        Report::Differences(differences) if json_wanted => json(differences),
        Report::Differences(differences) => differences::text(differences, verbose),
        Report::Explanation(explanation) if json_wanted => json(explanation),
        Report::Explanation(explanation) => explanation::text(explanation, detail),
        Report::Connections(connections) => match format {
            Some(Format::Json) => json(connections),
            Some(Format::Mermaid) => mermaid::text(&connections.charts()),
            _ => connections::text(connections, verbose, width()),
        },
        Report::Status(status) if json_wanted => json(status),
        Report::Status(status) => status::text(status, verbose),
        Report::Verified(report) if json_wanted => json(report),
        Report::Verified(report) => verification::summary(report),
        Report::Applied(_) | Report::Checked | Report::Cleaned(_) | Report::Watched => {
            String::new()
        }
    }
}

/// How wide lines may be: as wide as the terminal, where standard output is one.
fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(std::io::stdout());
    terminal.map_or(100, |(width, _)| usize::from(width.0).max(60))
}

/// A result as indented JSON with a newline at its end.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("keys are strings and nothing else can fail") + "\n"
}

/// The one line that a run logs of its result.
pub(super) fn log_report(report: &Report) {
    match report {
        Report::Applied(applied) => {
            let kind = if applied.done.changed() {
                "installed"
            } else {
                "in-place"
            };
            ::log::info!(kind = kind; "{}", summary::applied(applied));
        }
        Report::Cleaned(cleaned) => {
            let kind = if cleaned.changed {
                "removed"
            } else {
                "nothing-to-remove"
            };
            ::log::info!(kind = kind; "{}", summary::cleaned(cleaned));
        }
        Report::Checked => {
            ::log::info!(kind = "checked"; "the options are valid; no rule was written")
        }
        Report::CleanDryRun(diff) if !diff.differs => {
            ::log::info!(kind = "nothing-to-remove"; "no managed rules to remove");
        }
        Report::Verified(report) => match report.verdict {
            Verdict::Holds => ::log::info!(kind = "holds"; "{}", verification::sentence(report)),
            Verdict::Fails => ::log::error!(kind = "fails"; "{}", verification::sentence(report)),
            Verdict::Inconclusive => {
                ::log::error!(kind = "inconclusive"; "{}", verification::sentence(report));
            }
        },
        _ => {}
    }
}

/// What an action has to say before it has ended: results of `verify` to `out`, unless they are to be
/// JSON, and everything else to the log.
pub(super) fn tell(event: &Event, format: Option<Format>, out: &mut dyn Write) {
    match event {
        Event::Checked(_) if format == Some(Format::Json) => {}
        // Whether the result can be written is found out with the summary.
        Event::Checked(check) => {
            drop(writeln!(out, "{}", verification::line(check)).and_then(|()| out.flush()))
        }
        event => log_event(event),
    }
}

/// The same, all of it to the log.
pub(super) fn log_event(event: &Event) {
    match event {
        Event::Watch(event) => watch::log(event),
        event => ::log::warn!(kind = warnings::kind(event); "{}", warnings::words(event)),
    }
}
