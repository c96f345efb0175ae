//! Brings the observed state of a network namespace to the desired one: policy routes and addresses
//! are added before the rules that need them, and removed after the rules that did.

pub mod plan;
mod record;
mod rules;

use crate::engine::backends::{BackendChoice, Foreign};
use crate::engine::error::{Error, Left};
use crate::engine::lock::LockName;
use crate::engine::user_namespace;
use crate::mesh::managed;
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{Change, Routing, Ruleset};
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::{Made, Router};
use rules::Reconciliation;
use std::collections::BTreeSet;
use std::time::Duration;

/// The result of a reconciliation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The backend in use.
    pub backend: &'static str,
    /// Commits in their order; empty if everything was in place.
    pub changes: Vec<Change>,
    /// How many desired rules were missing.
    pub missing: usize,
    /// Whether a policy route or address was added or removed, or lo brought up.
    pub rerouted: bool,
    /// The foreign rules beside them.
    pub foreign: Foreign,
}

impl Reconciled {
    pub fn changed(&self) -> bool {
        self.rerouted || !self.changes.is_empty()
    }
}

/// How long a run waits for other programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// For the lock of another run.
    lock: Duration,
    /// For a commit without interference.
    commit: Duration,
}

impl TimeLimits {
    /// A run by hand or at pod start.
    pub(crate) const RUN: TimeLimits = TimeLimits {
        lock: Duration::from_secs(10),
        commit: Duration::from_secs(30),
    };

    /// A watch, which retries later and must handle signals meanwhile.
    pub(crate) const WATCH: TimeLimits = TimeLimits {
        lock: Duration::from_millis(20),
        commit: Duration::from_millis(500),
    };
}

/// Reconciles with `desired`: adds the routes that the rules need, writes the rules with the first
/// backend that works, then removes leftovers of other backends. Connections stay captured
/// throughout.
///
/// # Errors
/// Errors of routes and backends; [`Error::After`] if something was changed before.
pub(crate) fn apply(
    desired: &Ruleset,
    choice: BackendChoice,
    limits: TimeLimits,
    router: &mut Router<Socket>,
) -> Result<Reconciled, Error> {
    let lock = LockName::Run.take_within(limits.lock);
    let reconciled = reconcile(desired, choice, limits, router);
    drop(lock);
    reconciled.map_err(|e| with_unmapped(e, desired))
}

fn reconcile(
    desired: &Ruleset,
    choice: BackendChoice,
    limits: TimeLimits,
    router: &mut Router<Socket>,
) -> Result<Reconciled, Error> {
    let brought_up = router.bring_loopback_up()?;
    let state = router.look(&desired.routing)?;
    let found = state.candidates();
    let mut rules = Reconciliation::to(desired, choice)?;
    let made = router.make(&desired.routing, state)?;
    let added = made.changed();
    let converged = rules.converge(limits.commit);
    let Some(backend) = rules.backend().map(Backend::name) else {
        undo_routes(made, || still_needed(desired, &found, &mut rules), router);
        let error = converged.err().unwrap_or(Error::NoBackend);
        return Err(error.after(rules.record.left()));
    };
    converged.map_err(|e| e.after(Some(Left::NewRulesInPlace { backend })))?;
    let unneeded = managed::unneeded_routing(&found, &rules.record.marks, &desired.routing);
    // A route that no rule needs is harmless: not a failure once the desired rules are in place.
    let removed = router
        .remove(&unneeded, &desired.routing)
        .unwrap_or_else(|e| {
            log::warn!("a policy route that no rule needs could not be removed: {e}");
            false
        });
    Ok(Reconciled {
        backend,
        foreign: rules.foreign(),
        changes: rules.record.changes,
        missing: rules.record.missing,
        rerouted: brought_up || added || removed,
    })
}

/// Adds the owners that the user namespace does not map, which the kernel does not name.
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

/// Removes the routes added for rules that could not be written, except those still needed.
fn undo_routes(made: Made, needed: impl FnOnce() -> Routing, router: &mut Router<Socket>) {
    if !made.changed() {
        return;
    }
    if let Err(left) = router.undo(made, &needed()) {
        log::warn!("{left}");
    }
}

/// The routes that rules in the kernel need after a failed write: an acknowledgement can be lost,
/// or only some tables be written.
fn still_needed(desired: &Ruleset, found: &Routing, rules: &mut Reconciliation) -> Routing {
    match rules.observe() {
        Ok(observed) => observed
            .iter()
            .map(|observed| managed::relied_on(&desired.routing, found, observed))
            .reduce(Routing::with)
            .unwrap_or_default(),
        Err(e) => {
            log::warn!(
                "policy routes are left in place, because it cannot be determined whether rules need them: {e}"
            );
            desired.routing.clone()
        }
    }
}

/// Removes everything managed from all tables. Returns whether there was anything.
///
/// # Errors
/// As [`apply`]; everything that can be removed is.
pub(crate) fn clean() -> Result<bool, Error> {
    let limits = TimeLimits::RUN;
    let _lock = LockName::Run.take_within(limits.lock);
    let mut router = Router::open()?;
    let found = router.look(&Routing::default())?.candidates();
    let mut rules = Reconciliation::to_nothing();
    let converged = rules.converge(limits.commit);
    let record = rules.record;
    let managed_routes = managed::routing(&found, &record.marks);
    let unneeded = match converged {
        Ok(()) => managed_routes.clone(),
        // Leftover rules may need the default route; the marks of deleted rules are lost after
        // this.
        Err(_) => with_marks(&found, &record.marks),
    };
    let removed = router.remove(&unneeded, &managed_routes.without(&unneeded));
    converged.map_err(|e| e.after(record.left()))?;
    let removed = removed.map_err(|e| Error::from(e).after(Some(Left::AllRulesRemoved)))?;
    Ok(removed || !record.changes.is_empty())
}

fn with_marks(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let routes = found.policy_routes.iter().copied();
    Routing {
        policy_routes: routes.filter(|p| marks.contains(&p.mark)).collect(),
        ..Routing::default()
    }
}
