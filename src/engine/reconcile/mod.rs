//! Brings the observed state of a network namespace to the desired one: policy routes and addresses
//! are added before the rules that need them, and removed after the rules that did.

pub mod plan;
mod record;
mod rules;

use crate::engine::backends::BackendChoice;
use crate::engine::error::{Error, Left};
use crate::engine::lock::Name;
use crate::engine::user_namespace;
use crate::mesh::managed;
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{Change, Routing, Ruleset};
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::{Made, Router};
use rules::Reconciliation;
use std::collections::BTreeSet;
use std::time::Duration;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The backend that wrote, or would have written.
    pub backend: &'static str,
    /// What was committed, in its order; nothing where all was in place.
    pub changes: Vec<Change>,
    /// How many of the desired rules were not there.
    pub missing: usize,
    /// Whether a policy route or an address had to be made or removed, or lo brought up.
    pub rerouted: bool,
    /// Whether there are rules of others.
    pub beside_others: bool,
}

impl Reconciled {
    /// Whether anything had to be written.
    pub fn changed(&self) -> bool {
        self.rerouted || !self.changes.is_empty()
    }
}

/// How long a run waits for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For another run of ours to end.
    lock: Duration,
    /// For a moment in which nobody else commits.
    commit: Duration,
}

impl Patience {
    /// A run by hand, or at the start of a pod.
    pub(crate) const RUN: Patience = Patience {
        lock: Duration::from_secs(10),
        commit: Duration::from_secs(30),
    };

    /// A watch, which comes back anyway, and must notice signals meanwhile.
    pub(crate) const WATCH: Patience = Patience {
        lock: Duration::from_millis(20),
        commit: Duration::from_millis(500),
    };
}

/// Brings the kernel to `desired`: first the routes that the rules need, then the rules with the first
/// backend that can, then removes what is left elsewhere; no connection meets a gap.
///
/// # Errors
/// Whatever a route or a backend reports; [`Error::After`] where something is changed by then.
pub(crate) fn apply(
    desired: &Ruleset,
    choice: BackendChoice,
    patience: Patience,
) -> Result<Reconciled, Error> {
    let lock = Name::Run.take_within(patience.lock);
    let reconciled = reconcile(desired, choice, patience);
    drop(lock);
    reconciled.map_err(|e| with_unmapped(e, desired))
}

fn reconcile(
    desired: &Ruleset,
    choice: BackendChoice,
    patience: Patience,
) -> Result<Reconciled, Error> {
    let mut router = Router::open()?;
    let raised = router.bring_loopback_up()?;
    let state = router.look(&desired.routing)?;
    let found = state.candidates();
    let mut rules = Reconciliation::to(desired, choice)?;
    let made = router.make(&desired.routing, state)?;
    let routed = made.changed();
    let settled = rules.settle(patience.commit);
    let Some(backend) = rules.backend().map(Backend::name) else {
        take_back(
            made,
            || still_needed(desired, &found, &mut rules),
            &mut router,
        );
        let error = settled.err().unwrap_or(Error::NoBackend);
        return Err(error.after(rules.record.left()));
    };
    settled.map_err(|e| e.after(Some(Left::NewRulesInPlace { backend })))?;
    let unneeded = managed::unneeded_routing(&found, &rules.record.marks, &desired.routing);
    // A route that no rule needs does no harm: no failure when all that is desired is there.
    let unrouted = router
        .remove(&unneeded, &desired.routing)
        .unwrap_or_else(|e| {
            log::warn!("a route that no rule needs is left: {e}");
            false
        });
    Ok(Reconciled {
        backend,
        beside_others: rules.are_beside_others(),
        changes: rules.record.changes,
        missing: rules.record.missing,
        rerouted: raised || routed || unrouted,
    })
}

/// Adds to a refusal the owners that the user namespace does not map, which the kernel does not name.
fn with_unmapped(error: Error, desired: &Ruleset) -> Error {
    let refusals = matches!(
        error.root(),
        Error::Backend(BackendError::Refused { .. } | BackendError::OwnerRefused { .. })
    );
    if !refusals {
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

/// Takes back the routes that were made for rules which could not be written, except what is needed.
fn take_back(made: Made, needed: impl FnOnce() -> Routing, router: &mut Router<Socket>) {
    if !made.changed() {
        return;
    }
    if let Err(left) = router.undo(made, &needed()) {
        log::warn!("{left}");
    }
}

/// What rules rely on though they could not be written: the answer to a commit can be lost, and some
/// tables be there without others.
fn still_needed(desired: &Ruleset, found: &Routing, rules: &mut Reconciliation) -> Routing {
    match rules.look() {
        Ok(live) => live
            .iter()
            .map(|live| managed::relied_on(&desired.routing, found, live))
            .reduce(Routing::with)
            .unwrap_or_default(),
        Err(e) => {
            log::warn!(
                "policy routes are left, as it cannot be determined whether rules need them: {e}"
            );
            desired.routing.clone()
        }
    }
}

/// Removes all that is ours from every store. Returns whether there was anything.
///
/// # Errors
/// As [`apply`]; whatever could be removed is.
pub(crate) fn clean() -> Result<bool, Error> {
    let patience = Patience::RUN;
    let _lock = Name::Run.take_within(patience.lock);
    let mut router = Router::open()?;
    let found = router.look(&Routing::default())?.candidates();
    let mut rules = Reconciliation::to_nothing();
    let settled = rules.settle(patience.commit);
    let record = rules.record;
    let ours = managed::routing(&found, &record.marks);
    let unneeded = match settled {
        Ok(()) => ours.clone(),
        // Some rules may be left, and what every mesh uses be theirs. But nobody will know the marks
        // of those that have gone.
        Err(_) => with_marks(&found, &record.marks),
    };
    let removed = router.remove(&unneeded, &ours.without(&unneeded));
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
