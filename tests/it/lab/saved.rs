//! What iptables-save prints, read apart.

use super::{Namespace, Variant};
use prepare_proxy::netfilter::model::Family;
use std::process::Command;

/// A chain as iptables-save prints it.
#[derive(Debug)]
pub struct SavedChain {
    pub table: String,
    pub name: String,
    /// Whether somebody made it: base chains have a policy.
    pub is_custom: bool,
    /// Each with its `-A CHAIN`.
    pub rules: Vec<String>,
}

impl SavedChain {
    /// All chains in the output of iptables-save, in its order.
    pub fn all(text: &str) -> Vec<Self> {
        let tables = text.split('*').filter_map(|table| table.split_once('\n'));
        tables
            .flat_map(|(table, body)| {
                let heads = body.lines().filter_map(|l| l.strip_prefix(':'));
                heads.filter_map(move |head| Self::read(table, head, body))
            })
            .collect()
    }

    fn read(table: &str, head: &str, body: &str) -> Option<Self> {
        let (name, policy) = head.split_once(' ')?;
        let start = format!("-A {name} ");
        let rules = body.lines().filter(|l| l.starts_with(&start));
        Some(SavedChain {
            table: table.to_owned(),
            name: name.to_owned(),
            is_custom: policy.starts_with('-'),
            rules: rules.map(str::to_owned).collect(),
        })
    }
}

/// Rules without their comments, which have no quotes in them.
pub fn without_comments(rules: &str) -> String {
    let mut parts = rules.split(" -m comment --comment \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('"').expect("a comment ends");
        text + rest
    })
}

impl Namespace {
    /// What `iptables-save` and its kin print, without the comment lines that
    /// carry the time, and with the packet counters of chains set to zero.
    pub fn iptables_save(&self, family: Family, variant: Variant) -> String {
        let text = self.output(&mut Command::new(variant.tool(family, "-save")));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n")
            .collect()
    }

    /// Feeds `iptables-restore --noflush`.
    #[track_caller]
    pub fn iptables_restore(&self, family: Family, variant: Variant, rules: &str) {
        let mut restore = Command::new(variant.tool(family, "-restore"));
        self.run_with_input(restore.arg("--noflush"), rules)
            .must("iptables-restore");
    }

    /// Feeds `nft -f`.
    #[track_caller]
    pub fn nft_load(&self, text: &str) {
        self.run_with_input(Command::new("nft").args(["-f", "-"]), text)
            .must(text);
    }
}
