//! What one run has committed, and what it leaves if it fails.

use super::plan::{missing, plan};
use crate::engine::backends::is_absence;
use crate::engine::error::Left;
use crate::mesh::managed::{self, tproxy_marks};
use crate::netfilter::backend::{Backend, BackendError};
use crate::netfilter::model::{Change, Observed, Ruleset};
use std::collections::BTreeSet;

/// The commits of one run so far.
#[derive(Default)]
pub(crate) struct Record {
    /// Commits in their order.
    pub changes: Vec<Change>,
    /// How many desired rules were missing.
    pub missing: usize,
    /// TPROXY marks of the rules found, except of those that could not be changed.
    pub marks: BTreeSet<u32>,
    /// How many foreign rules were read, at the last pass.
    pub foreign_rules: usize,
    /// The state left by a failed commit.
    left: Option<Left>,
}

impl Record {
    /// The state that a failed run leaves, if it changed differs.
    pub(super) fn left(&self) -> Option<Left> {
        match self.left {
            None if self.changes.is_empty() => None,
            None => Some(Left::SomeTablesChanged),
            left => left,
        }
    }

    /// Reconciles the tables of one backend with `desired`. Returns whether a commit was necessary.
    pub(crate) fn reconcile_tables(
        &mut self,
        backend: &mut dyn Backend,
        desired: &Ruleset,
    ) -> Result<bool, BackendError> {
        let observed = backend.read()?;
        let desired = backend.normalised(desired);
        let change = plan(&observed, &desired);
        let differs = !change.is_empty();
        if differs {
            if let Err(e) = backend.commit(&change) {
                self.check_failed_commit(backend, &desired, &observed, e)?;
            }
            self.missing += missing(&observed, &desired);
            self.changes.push(change);
        }
        self.marks.extend(tproxy_marks(&observed));
        self.foreign_rules += managed::count_foreign_rules([&observed]);
        Ok(differs)
    }

    /// Reads again after a failed commit: the acknowledgement may be lost although everything was
    /// committed, or some tables changed before another was refused. `desired` is normalised.
    fn check_failed_commit(
        &mut self,
        backend: &mut dyn Backend,
        desired: &Ruleset,
        before: &Observed,
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
            Ok(now) if plan(&now, desired).is_empty() => {
                log::warn!("{error}; but the rules are in place");
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
