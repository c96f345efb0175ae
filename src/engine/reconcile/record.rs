//! What one run commits, and what is left where that fails.

use super::plan::{missing, plan};
use crate::engine::backends::is_absence;
use crate::engine::error::Left;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{Change, Live, Ruleset};
use std::collections::BTreeSet;

/// What one run has met and done so far.
#[derive(Default)]
pub(crate) struct Record {
    /// What was committed, in its order.
    pub changes: Vec<Change>,
    /// How many of the wanted rules were not there.
    pub missing: usize,
    /// TPROXY's marks in the rules that were there, but for such as could not be changed.
    pub marks: BTreeSet<u32>,
    /// Whether chains that hold managed rules hold foreign ones too.
    pub beside_others: bool,
    /// What a commit that failed has left.
    left: Option<Left>,
}

impl Record {
    /// What a run that failed has left behind, if anything.
    pub(super) fn left(&self) -> Option<Left> {
        match self.left {
            None if self.changes.is_empty() => None,
            None => Some(Left::SomeTablesChanged),
            left => left,
        }
    }

    /// Makes what is ours in a store into what is wanted there. Returns whether anything had to be
    /// committed.
    pub(crate) fn put(
        &mut self,
        backend: &mut dyn Backend,
        wanted: &Ruleset,
    ) -> Result<bool, BackendError> {
        let live = backend.read()?;
        let wanted = backend.canonical(wanted);
        let change = plan(&live, &wanted);
        let anything = !change.is_empty();
        if anything {
            if let Err(e) = backend.commit(&change) {
                self.look_again(backend, &wanted, &live, e)?;
            }
            self.missing += missing(&live, &wanted);
            self.changes.push(change);
        }
        self.marks.extend(tproxy_marks(&live));
        self.beside_others |= managed::holds_foreign_rules(&live);
        Ok(anything)
    }

    /// After a commit that failed: its answer may be lost and all be there, or some tables be changed
    /// before one that was refused. `wanted` is in the backend's form.
    fn look_again(
        &mut self,
        backend: &mut dyn Backend,
        wanted: &Ruleset,
        before: &Live,
        error: BackendError,
    ) -> Result<(), BackendError> {
        let nothing_done = matches!(
            error,
            BackendError::Interrupted { .. } | BackendError::TooLarge { .. }
        );
        if nothing_done || is_absence(&error) {
            return Err(error);
        }
        self.left = match backend.read() {
            Ok(now) if plan(&now, wanted).is_empty() => {
                log::warn!("{error}; yet all is there");
                return Ok(());
            }
            Ok(now) if now == *before => self.left,
            Ok(now) => {
                let (before, now) = (tproxy_marks(before), tproxy_marks(&now));
                self.marks.extend(before.difference(&now));
                Some(Left::SomeTablesChanged)
            }
            Err(_) => Some(Left::Undetermined),
        };
        Err(error)
    }
}
