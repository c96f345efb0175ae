//! A laboratory for tests against the real kernel: network namespaces that look
//! like a pod and its neighbour, programs that run in them, servers that end
//! with the test.
//!
//! A namespace is held by nothing but an open file of the test process, and
//! whatever has to run inside is started from a thread that has entered it. So
//! there is no process to clean up, and a test that panics or is killed leaves
//! nothing: its namespaces go with it, and its servers end when their stdin, a
//! pipe from the test, is closed.
//!
//! All of this needs root and iproute2. Where they are missing a test fails and
//! says so; it is never skipped.

mod net;
mod process;

pub use net::{Lab, Namespace};
pub use process::{APP, PROXY, ROOT, Server, User, lab, product};

use prepare_proxy::ruleset::Family;
use std::fmt;
use std::process::Command;

/// Which of the two implementations of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Nft,
    Legacy,
}

impl Variant {
    /// `iptables-legacy`, `ip6tables-nft-save`…
    pub fn tool(self, family: Family, suffix: &str) -> String {
        let stem = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{stem}-{self}{suffix}")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
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
    pub fn iptables_restore(&self, family: Family, variant: Variant, rules: &str) {
        let mut restore = Command::new(variant.tool(family, "-restore"));
        let done = self.run_with_input(restore.arg("--noflush"), rules);
        assert!(
            done.status.success(),
            "{restore:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}
