//! `apply`: read, compare, and commit only what differs.

use super::choose::{Choice, every_store, is_absence};
use super::plan::plan;
use crate::backend::{Backend, BackendError, Feature, Store};
use crate::error::Error;
use crate::ruleset::Ruleset;

/// How often a commit is tried again because somebody else was faster.
const ATTEMPTS: usize = 100;

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
pub fn apply(wanted: &Ruleset, choice: Choice) -> Result<Applied, Error> {
    let (applied, store) = write(wanted, choice)?;
    let swept = sweep(Some(store))?;
    Ok(Applied {
        changed: applied.changed || swept,
        ..applied
    })
}

/// Removes all that is ours from every store but `keep`. Returns whether there was anything.
pub fn sweep(keep: Option<Store>) -> Result<bool, Error> {
    let mut changed = false;
    for open in every_store() {
        let mut backend = match open() {
            Err(e) if is_absence(&e) => {
                log::debug!("not looked into: {e}");
                continue;
            }
            opened => opened?,
        };
        if Some(backend.store()) != keep {
            changed |= converge(&mut *backend, &Ruleset::default())?.changed;
        }
    }
    Ok(changed)
}

fn write(wanted: &Ruleset, choice: Choice) -> Result<(Applied, Store), Error> {
    let mut last = Error::NoBackend;
    for candidate in choice.candidates() {
        let installed = (candidate.open)()
            .map_err(Error::from)
            .and_then(|mut backend| {
                log::debug!("backend {}: {}", backend.name(), candidate.reason);
                Ok((install(&mut *backend, wanted)?, backend.store()))
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

fn install(backend: &mut dyn Backend, wanted: &Ruleset) -> Result<Applied, Error> {
    match converge(backend, wanted) {
        Err(Error::Backend(BackendError::Missing {
            feature: Feature::Xt(name),
            ..
        })) if name == "comment" => {
            log::warn!("this kernel has no xt comment match: the rules go in without comments");
            converge(backend, &wanted.clone().without_comments())
        }
        result => result,
    }
}

/// Reads and commits until what is there is what is wanted.
fn converge(backend: &mut dyn Backend, wanted: &Ruleset) -> Result<Applied, Error> {
    for _ in 0..ATTEMPTS {
        let change = plan(&backend.read()?, wanted);
        let changed = !change.is_empty();
        match changed.then(|| backend.commit(&change)) {
            Some(Err(BackendError::Interrupted { doing })) => log::debug!("{doing}: once more"),
            Some(Err(e)) => return Err(e.into()),
            Some(Ok(())) | None => {
                return Ok(Applied {
                    backend: backend.name(),
                    changed,
                });
            }
        }
    }
    Err(Error::Contended(ATTEMPTS))
}
