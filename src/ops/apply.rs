//! `apply`: read, compare, and commit only what differs.

use super::choose::{Choice, is_absence};
use super::plan::plan;
use crate::backend::{Backend, BackendError, Feature};
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

/// Brings the kernel to `wanted` with the first backend that can.
pub fn apply(wanted: &Ruleset, choice: Choice) -> Result<Applied, Error> {
    let mut candidates = choice.candidates().into_iter().peekable();
    loop {
        let Some(candidate) = candidates.next() else {
            return Err(Error::NoBackend);
        };
        let result = (candidate.open)()
            .map_err(Error::from)
            .and_then(|mut backend| {
                log::debug!("backend {}: {}", backend.name(), candidate.reason);
                install(&mut *backend, wanted)
            });
        match result {
            Err(Error::Backend(e)) if is_absence(&e) && candidates.peek().is_some() => {
                log::debug!("{e}");
            }
            result => return result,
        }
    }
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
