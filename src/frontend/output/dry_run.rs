//! A dry run in every format.

use super::{Format, json};
use crate::actions::{CloseWait, DryRun};
use crate::engine::reconcile::plan::plan;
use crate::netfilter::model::{Family, Observed, Ruleset};
use crate::netfilter::{iptables, nftables};

/// The whole output, with the sysctl that would be set: a command, or a comment for a tool that reads
/// rules only.
pub(super) fn text(dry_run: &DryRun, format: Option<Format>) -> String {
    let format = format.unwrap_or(Format::Restore);
    let text = render(&dry_run.desired, format);
    match (dry_run.close_wait.map(CloseWait::command), format) {
        (None, _) | (_, Format::Json) => text,
        (Some(command), Format::Commands) => format!("{text}{command}\n"),
        (Some(command), _) => format!("{text}# {command}\n"),
    }
}

/// A ruleset with a newline at its end.
pub fn render(desired: &Ruleset, format: Format) -> String {
    match format {
        Format::Restore | Format::Text | Format::Mermaid => restore(desired),
        Format::Commands => commands(desired),
        Format::Nft => comments(desired) + &nftables::render(desired),
        Format::Json => json(desired),
    }
}

fn restore(desired: &Ruleset) -> String {
    let change = plan(&Observed::default(), desired);
    let mut text = comments(desired);
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

/// The routes, for a tool that reads rules only.
fn comments(desired: &Ruleset) -> String {
    let commands = desired.routing.commands();
    commands.iter().map(|c| format!("# {c}\n")).collect()
}

fn commands(desired: &Ruleset) -> String {
    let change = plan(&Observed::default(), desired);
    let mut text = String::from("#!/bin/sh\nset -e\n");
    for command in desired.routing.commands() {
        text += &format!("{command}\n");
    }
    for family in Family::ALL {
        text += &iptables::commands(&change, family);
    }
    text
}
