use super::last_good::LastGood;
use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::request::Request;
use crate::mesh::Resolved;
use crate::mesh::config::{Facts, resolv_conf};
use crate::netfilter::model::Ruleset;
use crate::netfilter::rtnetlink::Router;
use std::path::Path;

/// A valid configuration, its desired state, and the facts that they were made from.
#[derive(Debug)]
pub(super) struct DesiredState {
    pub resolved: Resolved,
    pub facts: Facts,
}

impl DesiredState {
    /// Reads the configuration.
    pub(super) fn read(request: &Request) -> Result<Self, Error> {
        let (resolved, facts) = request.resolve(&mut Router::open()?)?;
        Ok(DesiredState { resolved, facts })
    }

    /// Reads the last good configuration instead; returns `error` again if there is none.
    pub(super) fn read_last_good(
        request: &Request,
        last_good: &LastGood,
        error: Error,
    ) -> Result<(Self, Error), Error> {
        let mut facts = request.facts.clone();
        if !last_good.restore(&mut facts) {
            return Err(error);
        }
        let resolved = resolve(request, &mut facts)?;
        Ok((DesiredState { resolved, facts }, error))
    }

    /// Resolves again with the current addresses and nameservers.
    pub(super) fn refreshed(&self, request: &Request) -> Result<Self, Error> {
        let mut facts = self.facts.clone();
        facts.forget(Path::new(resolv_conf::PATH));
        let resolved = resolve(request, &mut facts)?;
        Ok(DesiredState { resolved, facts })
    }

    pub(super) fn desired(&self) -> &Ruleset {
        &self.resolved.desired
    }

    pub(super) fn is_equivalent(&self, other: &DesiredState) -> bool {
        let (one, two) = (&self.resolved, &other.resolved);
        (&one.config, &one.desired) == (&two.config, &two.desired)
    }
}

/// Resolves with the current addresses.
fn resolve(request: &Request, facts: &mut Facts) -> Result<Resolved, Error> {
    let mut router = Router::open()?;
    facts.ipv6 = Some(host::ipv6(&mut router)?);
    request.resolve_on_host(facts, &mut router)
}
