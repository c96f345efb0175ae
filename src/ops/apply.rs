//! `apply` and `clean`: read, compare, and commit only what differs, until nothing does.

use super::choose::{Choice, every_store, is_absence};
use super::plan::plan;
use super::turn::{Turn, pauses};
use crate::backend::{Backend, BackendError, Feature, Store};
use crate::error::Error;
use crate::ruleset::Ruleset;

/// How often a commit is tried again because somebody else was faster.
const ATTEMPTS: usize = 100;

/// How often everything is looked at again because something had to be written.
const ROUNDS: usize = 20;

/// How an apply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The backend that wrote, or would have written.
    pub backend: &'static str,
    /// Whether anything had to be written.
    pub changed: bool,
}

/// Brings the kernel to `wanted` with the first backend that can, then removes what is ours from
/// every other place: never the other way round, so that no connection meets a gap.
///
/// Whoever writes looks again, until there is nothing left to write: not every backend notices
/// that somebody else was at work between its read and its commit, and none of them for another's
/// store. So the last of several runs finds what it wants in the end, whole.
pub fn apply(wanted: &Ruleset, choice: Choice) -> Result<Applied, Error> {
    let _turn = Turn::take();
    let mut written = write(wanted, choice)?;
    let mut changed = false;
    for _ in 0..ROUNDS {
        written.anything |= sweep(Some(written.backend.store()))?;
        if !written.anything {
            return Ok(Applied {
                backend: written.backend.name(),
                changed,
            });
        }
        changed = true;
        written.anything = converge(&mut *written.backend, &written.wanted)?;
    }
    Err(Error::Contended(ROUNDS))
}

/// Removes all that is ours from every store. Returns whether there was anything.
pub fn clean() -> Result<bool, Error> {
    let _turn = Turn::take();
    for round in 0..ROUNDS {
        if !sweep(None)? {
            return Ok(round > 0);
        }
    }
    Err(Error::Contended(ROUNDS))
}

/// Removes all that is ours from every store but `keep`. Returns whether there was anything.
fn sweep(keep: Option<Store>) -> Result<bool, Error> {
    let mut anything = false;
    for open in every_store() {
        let mut backend = match open() {
            Err(e @ BackendError::Program { .. }) => {
                log::warn!("rules there may be left: {e}");
                continue;
            }
            Err(e) if is_absence(&e) => {
                log::debug!("not looked into: {e}");
                continue;
            }
            opened => opened?,
        };
        if Some(backend.store()) != keep {
            anything |= converge(&mut *backend, &Ruleset::default())?;
        }
    }
    Ok(anything)
}

/// The backend that can, what is wanted as far as the kernel can have it, and whether there was
/// anything to write.
struct Written {
    backend: Box<dyn Backend>,
    wanted: Ruleset,
    anything: bool,
}

fn write(wanted: &Ruleset, choice: Choice) -> Result<Written, Error> {
    let mut last = Error::NoBackend;
    for candidate in choice.candidates() {
        let installed = (candidate.open)().map_err(Error::from).and_then(|backend| {
            log::debug!("backend {}: {}", backend.name(), candidate.reason);
            install(backend, wanted.clone())
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

fn install(mut backend: Box<dyn Backend>, mut wanted: Ruleset) -> Result<Written, Error> {
    let anything = match converge(&mut *backend, &wanted) {
        Err(Error::Backend(BackendError::Missing {
            feature: Feature::Xt(name),
            ..
        })) if name == "comment" => {
            log::warn!("this kernel has no xt comment match: the rules go in without comments");
            wanted = wanted.without_comments();
            converge(&mut *backend, &wanted)?
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
fn converge(backend: &mut dyn Backend, wanted: &Ruleset) -> Result<bool, Error> {
    let mut pauses = pauses();
    for _ in 0..ATTEMPTS {
        let change = plan(&backend.read()?, wanted);
        if change.is_empty() {
            return Ok(false);
        }
        match backend.commit(&change) {
            Err(BackendError::Interrupted { doing }) => log::debug!("{doing}: once more"),
            result => {
                result?;
                return Ok(true);
            }
        }
        pauses.pause();
    }
    Err(Error::Contended(ATTEMPTS))
}
