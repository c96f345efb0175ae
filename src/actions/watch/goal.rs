//! What is wanted, and what that was made from.

use super::memory::{Memory, Remembering};
use crate::actions::{Invocation, resolve};
use crate::engine::error::Error;
use crate::mesh::Mesh;
use crate::mesh::config::{Config, Host};
use crate::netfilter::model::Ruleset;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A good configuration.
#[derive(Debug)]
pub(super) struct Goal {
    pub mesh: &'static Mesh,
    pub config: Config,
    pub wanted: Ruleset,
    pub memory: Memory,
    /// The files that said what the host is like.
    facts: BTreeSet<PathBuf>,
}

impl Goal {
    /// Reads the configuration: what `memory` does not know, and all that the host says of itself.
    pub(super) fn read(
        invocation: &Invocation,
        host: &dyn Host,
        memory: Memory,
    ) -> Result<Self, Error> {
        let host = Remembering::new(host, memory);
        let (mesh, config) = resolve(invocation, &host)?;
        let (memory, facts) = host.finish();
        Ok(Goal {
            mesh,
            wanted: mesh.ruleset(&config),
            config,
            memory,
            facts,
        })
    }

    /// The files whose change may change what is wanted; those of the configuration if asked for.
    /// What the kernel shows as files tells nobody of changes.
    pub(super) fn files(&self, configuration: bool) -> BTreeSet<PathBuf> {
        let configured = self.memory.files().filter(|_| configuration);
        let files = self.facts.iter().map(PathBuf::as_path).chain(configured);
        let told = files.filter(|path| !path.starts_with("/proc"));
        told.map(absolute).collect()
    }

    /// Whether a file is one of the configuration, as opposed to one that says what the host is like.
    pub(super) fn is_configured_by(&self, file: &Path) -> bool {
        self.memory.files().any(|path| absolute(path) == file)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
