//! `apply` and `clean`: routes are there before the rules that need them, and go after those that did.

use crate::engine::backends::Choice;
use crate::engine::error::Error;
use crate::engine::lock::NamespaceLock;
use crate::engine::reconcile::Settlement;
use crate::mesh::managed;
use crate::netfilter::backend::Backend;
use crate::netfilter::model::{Change, Routing, Ruleset};
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::{Made, Router};
use std::collections::BTreeSet;

/// How an apply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
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
    pub(super) fn changed(&self) -> bool {
        self.rerouted || !self.changes.is_empty()
    }
}

/// Brings the kernel to `wanted`: first the routes that the rules need, then the rules with the first
/// backend that can, then away with what is left elsewhere; so that no connection meets a gap. The
/// lock is held meanwhile.
///
/// # Errors
/// Whatever a route, a backend or a store says; [`Error::Standing`] where something is changed by then.
pub(super) fn apply(
    _lock: NamespaceLock,
    wanted: &Ruleset,
    choice: Choice,
) -> Result<Applied, Error> {
    let mut router = Router::open()?;
    let state = router.look(&wanted.routing)?;
    let found = state.candidates();
    let mut rules = Settlement::of(wanted, choice)?;
    let made = router.make(&wanted.routing, state)?;
    let routed = made.changed();
    let settled = rules.settle();
    let Some(backend) = rules.backend().map(Backend::name) else {
        let needed = || still_needed(wanted, &found, &mut rules);
        take_back(made, needed, &mut router);
        let error = settled.err().unwrap_or(Error::NoBackend);
        return Err(error.standing(rules.record.what_stands()));
    };
    settled.map_err(|e| {
        let stands = format!(
            "the new rules are in place ({backend}), and older ones may be too; the next apply or clean that succeeds puts them right"
        );
        e.standing(Some(&stands))
    })?;
    let unneeded = managed::unneeded_routing(&found, &rules.record.marks, &wanted.routing);
    // What nobody uses any more does no harm: not worth a failure when all that is wanted is there.
    let unrouted = router
        .remove(&unneeded, &wanted.routing)
        .unwrap_or_else(|e| {
            log::warn!("a route that no rule needs stays: {e}");
            false
        });
    Ok(Applied {
        backend,
        changes: rules.record.changes,
        missing: rules.record.missing,
        rerouted: routed || unrouted,
    })
}

/// Takes back the routes that were made for rules which could not be written, but for what is needed.
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
fn still_needed(wanted: &Ruleset, found: &Routing, rules: &mut Settlement) -> Routing {
    match rules.look() {
        Ok(live) => live
            .iter()
            .map(|live| managed::relied_on(&wanted.routing, found, live))
            .reduce(Routing::with)
            .unwrap_or_default(),
        Err(e) => {
            log::warn!("policy routes stay, as it cannot be told whether rules need them: {e}");
            wanted.routing.clone()
        }
    }
}

/// Removes all that is ours from every store. Returns whether there was anything.
///
/// # Errors
/// As [`apply`]; whatever could be removed is.
pub(super) fn clean() -> Result<bool, Error> {
    let _lock = NamespaceLock::take();
    let mut router = Router::open()?;
    let found = router.look(&Routing::default())?.candidates();
    let mut rules = Settlement::of_nothing();
    let settled = rules.settle();
    let record = rules.record;
    let ours = managed::routing(&found, &record.marks);
    let unneeded = match settled {
        Ok(()) => ours.clone(),
        // Some rules may be left, and what every mesh uses be theirs. But nobody will know the marks
        // of those that have gone.
        Err(_) => with_marks(&found, &record.marks),
    };
    let removed = router.remove(&unneeded, &ours.without(&unneeded));
    settled.map_err(|e| e.standing(record.what_stands()))?;
    let stands = "all rules are removed";
    let removed = removed.map_err(|e| Error::from(e).standing(Some(stands)))?;
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
