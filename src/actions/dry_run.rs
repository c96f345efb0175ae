//! `--dry-run`: shows everything an apply to an empty namespace would do, and touches nothing.

use super::CloseWait;
use crate::engine::error::Error;
use crate::engine::plan::plan;
use crate::netfilter::model::{Family, Live, Ruleset};
use crate::netfilter::{iptables, nftables};
use clap::ValueEnum;

/// How a dry run is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For `iptables-restore --noflush`, and a part for `ip6tables-restore` behind it.
    #[default]
    Restore,
    /// One command a line, a script for a shell.
    Commands,
    /// For `nft -f`: what the backend `nftables` leaves.
    Nft,
    /// The ruleset as JSON, see docs/json.md.
    Json,
}

/// The whole output for `wanted`, with a newline at its end. [`Error::Unprintable`] when a format
/// has no way to say something.
pub fn render(wanted: &Ruleset, format: Format) -> Result<String, Error> {
    Ok(match format {
        Format::Restore => restore(wanted),
        Format::Commands => commands(wanted),
        Format::Nft => nft(wanted)?,
        Format::Json => super::json(wanted),
    })
}

fn restore(wanted: &Ruleset) -> String {
    let change = plan(&Live::default(), wanted);
    let mut text = comments(wanted);
    for family in Family::ALL {
        let part = iptables::restore(&change, family);
        if !part.is_empty() {
            let program = match family {
                Family::V4 => "iptables-restore",
                Family::V6 => "ip6tables-restore",
            };
            text += &format!("# {family}: {program} --noflush\n{part}");
        }
    }
    text
}

fn nft(wanted: &Ruleset) -> Result<String, Error> {
    Ok(comments(wanted) + &nftables::render(wanted)?)
}

/// The sysctl that would be set: a command, or a comment for a tool that reads rules only.
pub(super) fn sysctl(timeout: Option<CloseWait>, format: Format) -> String {
    match (timeout.map(CloseWait::command), format) {
        (None, _) | (_, Format::Json) => String::new(),
        (Some(command), Format::Commands) => command + "\n",
        (Some(command), Format::Restore | Format::Nft) => format!("# {command}\n"),
    }
}

/// The routes, for a tool that reads rules only.
fn comments(wanted: &Ruleset) -> String {
    let commands = wanted.routing.commands();
    commands.iter().map(|c| format!("# {c}\n")).collect()
}

fn commands(wanted: &Ruleset) -> String {
    let change = plan(&Live::default(), wanted);
    let mut text = String::from("#!/bin/sh\nset -e\n");
    for command in wanted.routing.commands() {
        text += &format!("{command}\n");
    }
    for family in Family::ALL {
        text += &iptables::commands(&change, family);
    }
    text
}
