//! Brings the observed state of a network namespace to the desired one: policy routes and addresses
//! are added before the rules that need them, and removed after the rules that did.

pub mod plan;
mod record;
mod rules;

use crate::engine::backends::BackendChoice;
use crate::engine::error::{Error, Left};
use crate::engine::lock::NamespaceLock;
use crate::engine::user_namespace;
use crate::mesh::managed;
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{Change, Routing, Ruleset};
use crate::netfilter::rtnetlink::{self, Made};
use rules::Reconciliation;
use std::collections::BTreeSet;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The backend that wrote, or would have written.
    pub backend: &'static str,
    /// What was committed, in its order; nothing where all was in place.
    pub changes: Vec<Change>,
    /// How many of the desired rules were not there.
    pub missing: usize,
    /// Whether a policy route or an address had to be made or removed.
    pub rerouted: bool,
}

impl Reconciled {
    /// Whether anything had to be written.
    pub fn changed(&self) -> bool {
        self.rerouted || !self.changes.is_empty()
    }
}

/// Brings the kernel to `desired`: first the routes that the rules need, then the rules with the first
/// backend that can, then away with what is left elsewhere; so that no connection meets a gap. The
/// lock is held meanwhile.
///
/// # Errors
/// Whatever a route, a backend or a store says; [`Error::After`] where something is changed by then.
pub(crate) fn apply(
    lock: NamespaceLock,
    desired: &Ruleset,
    choice: BackendChoice,
) -> Result<Reconciled, Error> {
    let reconciled = reconcile(desired, choice);
    drop(lock);
    reconciled.map_err(|e| with_unmapped(e, desired))
}

fn reconcile(desired: &Ruleset, choice: BackendChoice) -> Result<Reconciled, Error> {
    let found = rtnetlink::look(&desired.routing)?.candidates();
    let mut rules = Reconciliation::to(desired, choice)?;
    let made = rtnetlink::make(&desired.routing)?;
    let routed = made.changed();
    let settled = rules.settle();
    let Some(backend) = rules.backend().map(Backend::name) else {
        take_back(made, desired);
        let error = settled.err().unwrap_or(Error::NoBackend);
        return Err(error.after(rules.record.left()));
    };
    settled.map_err(|e| e.after(Some(Left::NewRulesInPlace { backend })))?;
    let unneeded = managed::routing(&found, &rules.record.marks).without(&desired.routing);
    // What nobody uses any more does no harm: not worth a failure when all that is desired is there.
    let unrouted = rtnetlink::remove(&unneeded, &desired.routing).unwrap_or_else(|e| {
        log::warn!("a route that no rule needs stays: {e}");
        false
    });
    Ok(Reconciled {
        backend,
        changes: rules.record.changes,
        missing: rules.record.missing,
        rerouted: routed || unrouted,
    })
}

/// Adds to a refusal the owners that the user namespace does not map, which the kernel does not name.
fn with_unmapped(error: Error, desired: &Ruleset) -> Error {
    if !matches!(error.root(), Error::Backend(BackendError::Refused { .. })) {
        return error;
    }
    match user_namespace::unmapped(desired) {
        owners if owners.is_empty() => error,
        owners => Error::Unmapped {
            source: Box::new(error),
            owners,
        },
    }
}

/// Takes back the routes that were made for rules which could not be written, unless rules rely on
/// them all the same: the answer to a commit can be lost, and some tables be there without others.
fn take_back(made: Made, desired: &Ruleset) {
    if !made.changed() {
        return;
    }
    let needed = match rules::observe_all() {
        Ok(live) => live
            .iter()
            .map(|live| managed::relied_on(&desired.routing, live))
            .reduce(Routing::with)
            .unwrap_or_default(),
        Err(e) => {
            log::warn!("policy routes stay, as it cannot be told whether rules need them: {e}");
            desired.routing.clone()
        }
    };
    if let Err(left) = rtnetlink::undo(made, &needed) {
        log::warn!("{left}");
    }
}

/// Removes all that is ours from every store. Returns whether there was anything.
///
/// # Errors
/// As [`apply`]; whatever could be removed is.
pub(crate) fn clean() -> Result<bool, Error> {
    let _lock = NamespaceLock::take();
    let found = rtnetlink::look(&Routing::default())?.candidates();
    let mut rules = Reconciliation::to_nothing();
    let settled = rules.settle();
    let record = rules.record;
    let ours = managed::routing(&found, &record.marks);
    let unneeded = match settled {
        Ok(()) => ours.clone(),
        // Some rules may be left, and what every mesh uses be theirs. But nobody will know the marks
        // of those that have gone.
        Err(_) => with_marks(&found, &record.marks),
    };
    let removed = rtnetlink::remove(&unneeded, &ours.without(&unneeded));
    settled.map_err(|e| e.after(record.left()))?;
    let removed = removed.map_err(|e| Error::from(e).after(Some(Left::AllRulesRemoved)))?;
    Ok(removed || !record.changes.is_empty())
}

/// The policy routes for these marks.
fn with_marks(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let routes = found.policy_routes.iter().copied();
    Routing {
        policy_routes: routes.filter(|p| marks.contains(&p.mark)).collect(),
        ..Routing::default()
    }
}
