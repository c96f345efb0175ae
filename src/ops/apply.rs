//! `apply` and `clean`: read, compare, and commit only what differs, until nothing does.

use super::choose::{Choice, is_absence, is_out_of_reach, stores_besides};
use super::plan::plan;
use super::turn::{self, Patience, Turn};
use crate::backend::{Backend, BackendError, Feature, Store};
use crate::error::Error;
use crate::mesh;
use crate::routing;
use crate::ruleset::{PolicyRoute, Routing, Ruleset};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a run tries again because others change the rules at the same time.
const LONGEST_CONTEST: Duration = Duration::from_secs(30);

/// How an apply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The backend that wrote, or would have written.
    pub backend: &'static str,
    /// Whether anything had to be written.
    pub changed: bool,
}

/// Brings the kernel to `wanted` with the first backend that can, then removes what is ours from
/// every other place: never the other way round, so that no connection meets a gap. Routes are
/// there before the rules that need them, and go after those that did.
pub fn apply(wanted: &Ruleset, choice: Choice) -> Result<Applied, Error> {
    let _turn = Turn::take();
    let found = routing::find()?;
    let mut run = Run::new();
    let routed = routing::apply(&wanted.routing)?;
    let written = match run.write(wanted, choice) {
        Ok(written) => written,
        Err(e) => {
            // No rule needs what we made for them.
            if let Err(left) = routing::remove(&wanted.routing.without(&found)) {
                log::warn!("{left}");
            }
            return Err(e);
        }
    };
    let backend = run.settle(written)?;
    let leftovers = leftovers(&found, &run.marks).without(&wanted.routing);
    Ok(Applied {
        backend,
        changed: routing::remove(&leftovers)? || run.changed || routed,
    })
}

/// Removes all that is ours from every store. Returns whether there was anything.
pub fn clean() -> Result<bool, Error> {
    let _turn = Turn::take();
    let found = routing::find()?;
    let mut run = Run::new();
    let swept = run.sweep_until_clean();
    let unneeded = match swept {
        Ok(()) => leftovers(&found, &run.marks),
        // Some rules may be left, and what every mesh uses be theirs. But nobody will know the marks
        // of those that have gone.
        Err(_) => with_marks(&found, &run.marks),
    };
    let removed = routing::remove(&unneeded);
    swept?;
    Ok(removed? || run.changed)
}

/// The policy routes for these marks.
fn with_marks(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let routes = found.policy_routes.iter().copied();
    Routing {
        policy_routes: routes.filter(|p| marks.contains(&p.mark)).collect(),
        ..Routing::default()
    }
}

/// What of the routing found is ours: policy routes for a mark that rules of ours used, or that
/// every mesh uses unless told otherwise; and the address.
pub fn leftovers(found: &Routing, marks: &BTreeSet<u32>) -> Routing {
    let mut ours = found.clone();
    let usual = |p: &PolicyRoute| (p.mark, p.table) == mesh::TPROXY_MARK_AND_TABLE;
    ours.policy_routes
        .retain(|p| marks.contains(&p.mark) || usual(p));
    ours
}

/// What one run has met and done so far.
struct Run {
    /// Whether anything had to be written.
    changed: bool,
    /// TPROXY's marks in the rules that were there, but for such as could not be changed.
    marks: BTreeSet<u32>,
    /// With others who are at work too.
    patience: Patience,
}

impl Run {
    fn new() -> Self {
        Run {
            changed: false,
            marks: BTreeSet::new(),
            patience: Patience::of(LONGEST_CONTEST),
        }
    }

    /// Lets others go on for a moment.
    fn wait(&mut self) -> Result<(), Error> {
        match self.patience.wait() {
            true => Ok(()),
            false => Err(Error::Contended(LONGEST_CONTEST.as_secs())),
        }
    }

    /// Removes the rules from all stores but the one they were written to. Returns the backend's
    /// name.
    ///
    /// Whoever writes looks again, until there is nothing left to write: not every backend notices
    /// that somebody else was at work between its read and its commit, and none of them for
    /// another's store. So the last of several runs finds what it wants in the end, whole.
    fn settle(&mut self, mut written: Written) -> Result<&'static str, Error> {
        loop {
            let swept = self.sweep(Some(written.backend.store()))?;
            if !swept && self.holds(&mut written)? {
                return Ok(written.backend.name());
            }
            self.wait()?;
            written.anything = self.converge(&mut *written.backend, &written.wanted)?;
        }
    }

    /// Whether what was written is still there: looked at without delay, so that of several who are
    /// at work one finds it so.
    fn holds(&mut self, written: &mut Written) -> Result<bool, Error> {
        if !written.anything || written.backend.notices_others() {
            return Ok(true);
        }
        let live = turn::read(&mut *written.backend)?;
        Ok(plan(&live, &written.backend.shape(&written.wanted)).is_empty())
    }

    fn sweep_until_clean(&mut self) -> Result<(), Error> {
        while self.sweep(None)? {
            self.wait()?;
        }
        Ok(())
    }

    /// Removes all that is ours from every store but `keep`. Returns whether there was anything.
    fn sweep(&mut self, keep: Option<Store>) -> Result<bool, Error> {
        let mut anything = false;
        for open in stores_besides(keep) {
            let mut backend = match open() {
                Err(e @ BackendError::NoProgram(_)) => {
                    log::warn!("rules there may be left: {e}");
                    continue;
                }
                // Enough for an apply, but not to say that everything is clean.
                Err(e) if keep.is_some() && is_out_of_reach(&e) => {
                    log::warn!("rules there may be left: {e}");
                    continue;
                }
                Err(e) if is_absence(&e) => {
                    log::debug!("not looked into: {e}");
                    continue;
                }
                opened => opened?,
            };
            anything |= self.converge(&mut *backend, &Ruleset::default())?;
        }
        Ok(anything)
    }

    /// Writes the rules with the first backend that can.
    fn write<'w>(&mut self, wanted: &'w Ruleset, choice: Choice) -> Result<Written<'w>, Error> {
        let mut last = Error::NoBackend;
        for candidate in choice.candidates()? {
            let installed = (candidate.open)().map_err(Error::from).and_then(|backend| {
                log::debug!("backend {}: {}", backend.name(), candidate.reason);
                self.install(backend, wanted)
            });
            match installed {
                Err(Error::Backend(e)) if is_absence(&e) => {
                    log::debug!("{e}");
                    last = e.into();
                }
                installed => return installed,
            }
        }
        Err(last)
    }

    fn install<'w>(
        &mut self,
        mut backend: Box<dyn Backend>,
        wanted: &'w Ruleset,
    ) -> Result<Written<'w>, Error> {
        let mut wanted = Cow::Borrowed(wanted);
        let anything = match self.converge(&mut *backend, &wanted) {
            Err(Error::Backend(e)) if may_be_the_comments(&e, backend.store()) => {
                let plain = wanted.without_comments();
                // If they were not what was wrong, the first refusal says what is.
                let anything = self.converge(&mut *backend, &plain).map_err(|_| e)?;
                log::warn!(
                    "this kernel has no xt comment match: the rules are there without comments"
                );
                wanted = Cow::Owned(plain);
                anything
            }
            result => result?,
        };
        Ok(Written {
            backend,
            wanted,
            anything,
        })
    }

    /// Reads and commits until what is there is what is wanted, as far as the backend can tell.
    /// Returns whether anything had to be committed.
    fn converge(&mut self, backend: &mut dyn Backend, wanted: &Ruleset) -> Result<bool, Error> {
        let wanted = backend.shape(wanted);
        loop {
            match self.attempt(backend, &wanted) {
                Err(BackendError::Interrupted { doing }) => log::debug!("{doing}: once more"),
                result => return Ok(result?),
            }
            self.wait()?;
        }
    }

    fn attempt(
        &mut self,
        backend: &mut dyn Backend,
        wanted: &Ruleset,
    ) -> Result<bool, BackendError> {
        let live = backend.read()?;
        let change = plan(&live, wanted);
        let anything = !change.is_empty();
        if anything {
            backend.commit(&change)?;
            self.changed = true;
        }
        self.marks.extend(live.tproxy_marks());
        Ok(anything)
    }
}

/// Whether the kernel may only lack the xt comment match (gVisor does). netlink knows;
/// iptables-legacy is told no more than that a line was refused.
fn may_be_the_comments(error: &BackendError, store: Store) -> bool {
    match error {
        BackendError::Missing {
            feature: Feature::Xt(name),
            ..
        } => name == "comment",
        BackendError::Refused { .. } => store == Store::Legacy,
        _ => false,
    }
}

/// The backend that can, what is wanted as far as the kernel can have it, and whether there was
/// anything to write.
struct Written<'w> {
    backend: Box<dyn Backend>,
    wanted: Cow<'w, Ruleset>,
    anything: bool,
}
