//! `apply` and `clean`: routes are there before the rules that need them, and go after those that did.

use super::choose::Choice;
use super::namespace_lock::NamespaceLock;
use super::settle::Settlement;
use crate::backend::Backend;
use crate::error::Error;
use crate::ownership;
use crate::routing;
use crate::ruleset::{Change, Routing, Ruleset};
use std::collections::BTreeSet;

/// How an apply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The backend that wrote, or would have written.
    pub backend: &'static str,
    /// What was committed, in its order; nothing where all was in place.
    pub changes: Vec<Change>,
    /// How many of the wanted rules were not there.
    pub missing: usize,
    /// Whether a policy route or an address had to be made or removed.
    pub rerouted: bool,
}

impl Applied {
    /// Whether anything had to be written.
    pub fn changed(&self) -> bool {
        self.rerouted || !self.changes.is_empty()
    }
}

/// Brings the kernel to `wanted`: first the routes that the rules need, then the rules with the first
/// backend that can, then away with what is left elsewhere; so that no connection meets a gap.
pub fn apply(wanted: &Ruleset, choice: Choice) -> Result<Applied, Error> {
    let _lock = NamespaceLock::take();
    let found = routing::find()?;
    let mut rules = Settlement::of(wanted, choice)?;
    let routed = routing::apply(&wanted.routing)?;
    let settled = rules.settle();
    let Some(backend) = rules.backend().map(Backend::name) else {
        // No rule needs what we made for them.
        if let Err(left) = routing::remove(&wanted.routing.without(&found)) {
            log::warn!("{left}");
        }
        return Err(settled.err().unwrap_or(Error::NoBackend));
    };
    settled?;
    let unneeded = ownership::routing(&found, &rules.record.marks).without(&wanted.routing);
    let unrouted = routing::remove(&unneeded)?;
    Ok(Applied {
        backend,
        changes: rules.record.changes,
        missing: rules.record.missing,
        rerouted: routed || unrouted,
    })
}

/// Removes all that is ours from every store. Returns whether there was anything.
pub fn clean() -> Result<bool, Error> {
    let _lock = NamespaceLock::take();
    let found = routing::find()?;
    let mut rules = Settlement::of_nothing();
    let settled = rules.settle();
    let unneeded = match settled {
        Ok(()) => ownership::routing(&found, &rules.record.marks),
        // Some rules may be left, and what every mesh uses be theirs. But nobody will know the marks
        // of those that have gone.
        Err(_) => with_marks(&found, &rules.record.marks),
    };
    let removed = routing::remove(&unneeded);
    settled?;
    Ok(removed? || !rules.record.changes.is_empty())
}

/// The policy routes for these marks.
fn with_marks(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let routes = found.policy_routes.iter().copied();
    Routing {
        policy_routes: routes.filter(|p| marks.contains(&p.mark)).collect(),
        ..Routing::default()
    }
}
