//! Reconciles the rules of all backends: new rules first, then leftovers, repeated until a pass
//! changes nothing.

use super::plan::plan;
use super::record::Record;
use crate::engine::backends::{
    BackendChoice, Backends, Candidate, Foreign, allows_next_candidate, is_absence,
    is_uninspectable, read_tables, table_kinds_besides,
};
use crate::engine::error::Error;
use crate::engine::retry::Attempts;
use crate::engine::user_namespace;
use crate::netfilter::backend::{Backend, BackendError, Feature, TableKind};
use crate::netfilter::model::{Observed, Ruleset};
use log::Level;
use nix::unistd::geteuid;
use std::borrow::Cow;
use std::time::Duration;

/// The desired rules in the tables of one backend, and no managed rules in the others.
pub(crate) struct Reconciliation<'a> {
    desired: Option<DesiredRules<'a>>,
    /// The other backends, opened by the first pass.
    others: Option<OtherBackends>,
    backends: Backends,
    pub record: Record,
}

impl<'a> Reconciliation<'a> {
    /// Starts a reconciliation with `rules`.
    ///
    /// # Errors
    /// See [`BackendChoice::candidates`].
    pub(crate) fn to(rules: &'a Ruleset, choice: BackendChoice) -> Result<Self, Error> {
        let mut backends = Backends::default();
        let desired = DesiredRules {
            rules: Cow::Borrowed(rules),
            candidates: choice.candidates(&mut backends)?,
            backend: None,
        };
        Ok(Reconciliation {
            desired: Some(desired),
            backends,
            ..Reconciliation::to_nothing()
        })
    }

    /// Starts a removal of everything managed.
    pub(crate) fn to_nothing() -> Self {
        Reconciliation {
            desired: None,
            others: None,
            backends: Backends::default(),
            record: Record::default(),
        }
    }

    /// The observed rules of every available backend.
    pub(crate) fn observe(&mut self) -> Result<Vec<Observed>, BackendError> {
        let mut found = Vec::new();
        for kind in table_kinds_besides(None) {
            let backend = self.backends.open_used(kind);
            match backend.and_then(|mut backend| read_tables(&mut *backend)) {
                Ok(observed) => found.push(observed),
                Err(e) if is_absence(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// The backend that has the desired rules, once written.
    pub(crate) fn backend(&self) -> Option<&dyn Backend> {
        self.desired.as_ref()?.backend.as_deref()
    }

    /// The foreign rules found.
    pub(crate) fn foreign(&self) -> Foreign {
        self.backends.foreign(self.record.foreign_rules)
    }

    /// Repeats passes until one changes nothing.
    ///
    /// Tables are read again after each write: not every backend detects a commit between its read
    /// and its write, and none detects one to other tables. So the last of several concurrent runs
    /// ends with its own rules, complete.
    ///
    /// # Errors
    /// [`Error::Contended`] if other programs interfere until `limit` is over.
    pub(crate) fn converge(&mut self, limit: Duration) -> Result<(), Error> {
        let mut attempts = None;
        loop {
            match self.pass() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::Backend(BackendError::Interrupted { doing })) => {
                    log::debug!("{doing}: once more");
                }
                Err(e) => return Err(e),
            }
            // The time limit starts after the first pass, which may take long for large rulesets.
            let attempts = attempts.get_or_insert_with(|| Attempts::within(limit));
            if !attempts.wait() {
                return Err(Error::Contended(limit));
            }
        }
    }

    /// One pass: new rules first, then leftovers. Returns true when converged.
    fn pass(&mut self) -> Result<bool, Error> {
        self.record.foreign_rules = 0;
        let written = match &mut self.desired {
            Some(desired) => desired.write(&mut self.backends, &mut self.record)?,
            None => false,
        };
        let removed = self.remove_leftovers()?;
        Ok(!removed && (!written || self.is_in_place()?))
    }

    fn is_in_place(&mut self) -> Result<bool, BackendError> {
        match &mut self.desired {
            Some(desired) => desired.is_in_place(),
            None => Ok(true),
        }
    }

    /// Removes everything managed from the other backends. Returns whether there was anything.
    ///
    /// # Errors
    /// If one cannot be opened, after all others were cleaned.
    fn remove_leftovers(&mut self) -> Result<bool, BackendError> {
        let keep = self.backend().map(Backend::kind);
        let backends = &mut self.backends;
        let others = self
            .others
            .get_or_insert_with(|| OtherBackends::besides(keep, backends));
        let mut removed = false;
        for backend in &mut others.opened {
            removed |= match self
                .record
                .reconcile_tables(&mut **backend, &Ruleset::default())
            {
                // Its tables are unchanged, and the new rules are in place.
                Err(e @ BackendError::Refused { .. }) if self.desired.is_some() => {
                    log::warn!("older managed rules are left beside the new ones: {e}");
                    false
                }
                removed => removed?,
            };
        }
        match others.failure.take() {
            Some(error) => Err(error),
            None => Ok(removed),
        }
    }
}

/// The backends that are to have no managed rules.
struct OtherBackends {
    opened: Vec<Box<dyn Backend>>,
    /// Why one that may be in use cannot be opened.
    failure: Option<BackendError>,
}

impl OtherBackends {
    /// Opens all available backends except `keep`.
    fn besides(keep: Option<TableKind>, backends: &mut Backends) -> Self {
        let (mut opened, mut failure) = (Vec::new(), None);
        for kind in table_kinds_besides(keep) {
            match backends.open_used(kind) {
                Ok(backend) => opened.push(backend),
                Err(e @ BackendError::NoProgram(_)) => {
                    log::warn!("managed rules of iptables-legacy may be left: {e}")
                }
                // Sufficient for an apply, but clean must not report success.
                Err(e) if keep.is_some() && is_uninspectable(&e) => {
                    // Other users than root may never inspect them: that says nothing about this machine.
                    let level = match geteuid().is_root() {
                        true => Level::Warn,
                        false => Level::Debug,
                    };
                    log::log!(level, "managed rules of iptables-legacy may be left: {e}");
                }
                Err(e) if is_absence(&e) => log::debug!("not checked: {e}"),
                Err(e) => failure = Some(e),
            }
        }
        OtherBackends { opened, failure }
    }
}

/// The desired rules and their backend.
struct DesiredRules<'a> {
    /// Without comments if the kernel cannot store them.
    rules: Cow<'a, Ruleset>,
    candidates: Vec<Candidate>,
    backend: Option<Box<dyn Backend>>,
}

impl DesiredRules<'_> {
    /// Writes the rules with the first candidate that works, later with the same one. Returns
    /// whether a commit was necessary.
    fn write(&mut self, backends: &mut Backends, record: &mut Record) -> Result<bool, Error> {
        if let Some(backend) = &mut self.backend {
            return Ok(record.reconcile_tables(&mut **backend, &self.rules)?);
        }
        let mut last = Error::NoBackend;
        for candidate in &self.candidates {
            match candidate.write(&self.rules, backends, record) {
                Ok(first) => {
                    self.backend = Some(first.backend);
                    if let Some(plain) = first.without_comments {
                        self.rules = Cow::Owned(plain);
                    }
                    return Ok(first.written);
                }
                Err(e) if allows_next_candidate(&e, candidate.kind) => {
                    log::debug!("{e}");
                    last = e.into();
                }
                // The owners are mapped, so the network namespace belongs to another user
                // namespace: xt owner matches are refused there, native ones are not.
                Err(e @ BackendError::OwnerRefused { .. }) if self.owners_are_mapped() => {
                    log::debug!("{e}");
                    last = e.into();
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(last)
    }

    fn owners_are_mapped(&self) -> bool {
        user_namespace::unmapped(&self.rules).is_empty()
    }

    /// Whether the rules are still in place, read again if the backend does not detect concurrent
    /// commits.
    fn is_in_place(&mut self) -> Result<bool, BackendError> {
        match &mut self.backend {
            Some(backend) if !backend.detects_concurrent_commits() => {
                let observed = backend.read()?;
                Ok(plan(&observed, &backend.normalised(&self.rules)).is_empty())
            }
            _ => Ok(true),
        }
    }
}

/// The first write of a backend.
struct FirstWrite {
    backend: Box<dyn Backend>,
    written: bool,
    /// The rules that were written if the kernel cannot store comments.
    without_comments: Option<Ruleset>,
}

impl Candidate {
    fn write(
        &self,
        rules: &Ruleset,
        backends: &mut Backends,
        record: &mut Record,
    ) -> Result<FirstWrite, BackendError> {
        let mut backend = backends.open(self.kind)?;
        log::debug!("backend {} is tried: {}", backend.name(), self.reason);
        let (written, without_comments) = match record.reconcile_tables(&mut *backend, rules) {
            Err(e) if may_be_the_comments(&e, backend.kind()) => {
                let plain = rules.without_comments();
                let written = record
                    .reconcile_tables(&mut *backend, &plain)
                    .map_err(|again| match again {
                        BackendError::Interrupted { .. } => again,
                        // Comments were not the cause: report the first refusal.
                        _ => e,
                    })?;
                log::warn!(
                    "this kernel has no xt comment match: rules are written without comments"
                );
                (written, Some(plain))
            }
            result => (result?, None),
        };
        Ok(FirstWrite {
            backend,
            written,
            without_comments,
        })
    }
}

/// Whether the kernel may only lack the xt comment match (gVisor does). iptables-legacy reports no
/// more than the refused line.
fn may_be_the_comments(error: &BackendError, kind: TableKind) -> bool {
    match error {
        BackendError::Missing {
            feature: Feature::Xt(name),
            ..
        } => name == "comment",
        BackendError::Refused { .. } => kind == TableKind::Legacy,
        _ => false,
    }
}
