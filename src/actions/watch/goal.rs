//! What is wanted, and what that was made from.

use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::request::Request;
use crate::mesh::Resolved;
use crate::mesh::config::{Facts, resolv_conf};
use crate::netfilter::model::Ruleset;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A good configuration, and the facts that it was made from.
#[derive(Debug)]
pub(super) struct Goal {
    pub resolved: Resolved,
    pub facts: Facts,
}

impl Goal {
    /// Reads the configuration anew.
    pub(super) fn read(request: &Request) -> Result<Self, Error> {
        let (resolved, facts) = request.resolve()?;
        Ok(Goal { resolved, facts })
    }

    /// The same configuration with what the host says now: addresses and nameservers.
    pub(super) fn refreshed(&self, request: &Request) -> Result<Self, Error> {
        let mut facts = self.facts.clone();
        facts.ipv6 = Some(host::ipv6()?);
        facts.forget(Path::new(resolv_conf::PATH));
        let resolved = request.resolve_with(&mut facts, host::file)?;
        Ok(Goal { resolved, facts })
    }

    pub(super) fn wanted(&self) -> &Ruleset {
        &self.resolved.desired
    }

    /// The files whose change may change what is wanted; those of the configuration if asked for.
    /// What the kernel shows as files tells nobody of changes.
    pub(super) fn files(&self, configuration: bool) -> BTreeSet<PathBuf> {
        let files = self.facts.files();
        let watched = files.filter(|path| configuration || is_fact(path));
        watched.map(absolute).collect()
    }

    /// Whether a file is one of the configuration, as opposed to one that says what the host is like.
    pub(super) fn is_configured_by(&self, file: &Path) -> bool {
        self.facts
            .files()
            .any(|path| !is_fact(path) && absolute(path) == file)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether a file says what the host is like, and not what is desired.
fn is_fact(path: &Path) -> bool {
    path == Path::new(resolv_conf::PATH)
}
