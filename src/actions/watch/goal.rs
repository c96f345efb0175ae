//! The desired state, and what it was made from.

use super::last_good::LastGood;
use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::request::Request;
use crate::mesh::Resolved;
use crate::mesh::config::{Facts, resolv_conf};
use crate::netfilter::model::Ruleset;
use std::path::Path;

/// A good configuration, and the facts that it was made from.
#[derive(Debug)]
pub(super) struct Goal {
    pub resolved: Resolved,
    pub facts: Facts,
}

impl Goal {
    /// Reads the configuration.
    pub(super) fn read(request: &Request) -> Result<Self, Error> {
        let (resolved, facts) = request.resolve()?;
        Ok(Goal { resolved, facts })
    }

    /// The same from the last good configuration; the error again if there is none.
    pub(super) fn read_last_good(
        request: &Request,
        last_good: &LastGood,
        error: Error,
    ) -> Result<(Self, Error), Error> {
        let mut facts = request.facts.clone();
        if !last_good.restore(&mut facts) {
            return Err(error);
        }
        facts.ipv6 = Some(host::ipv6()?);
        let resolved = request.resolve_on_host(&mut facts)?;
        Ok((Goal { resolved, facts }, error))
    }

    /// The same configuration with what the host is like now: its addresses and nameservers.
    pub(super) fn refreshed(&self, request: &Request) -> Result<Self, Error> {
        let mut facts = self.facts.clone();
        facts.ipv6 = Some(host::ipv6()?);
        facts.forget(Path::new(resolv_conf::PATH));
        let resolved = request.resolve_on_host(&mut facts)?;
        Ok(Goal { resolved, facts })
    }

    pub(super) fn desired(&self) -> &Ruleset {
        &self.resolved.desired
    }

    /// Whether both ask for the same.
    pub(super) fn asks_for_the_same(&self, other: &Goal) -> bool {
        let (one, two) = (&self.resolved, &other.resolved);
        (&one.config, &one.desired) == (&two.config, &two.desired)
    }
}
