//! Rules, in all stores together: new rules first, then what is left elsewhere, and again until
//! nothing changes.

use super::plan::plan;
use super::record::Record;
use crate::engine::backends::{
    BackendChoice, Backends, Candidate, is_absence, is_out_of_reach, is_reason_to_go_on,
    read_unchanging, stores_besides,
};
use crate::engine::error::Error;
use crate::engine::retry::Attempts;
use crate::engine::user_namespace;
use crate::netfilter::backend::{Backend, BackendError, Feature, Store};
use crate::netfilter::model::{Live, Ruleset};
use log::Level;
use nix::unistd::geteuid;
use std::borrow::Cow;
use std::time::Duration;

/// The new rules, and the stores in which nothing else of ours is to stay.
pub(crate) struct Reconciliation<'w> {
    goal: Option<Goal<'w>>,
    /// All stores but the goal's, from the first look into them on.
    others: Option<Others>,
    backends: Backends,
    pub record: Record,
}

impl<'w> Reconciliation<'w> {
    /// All of `wanted` in one store, nothing in the others.
    ///
    /// # Errors
    /// Where it cannot be told which backends there are, see [`BackendChoice::candidates`].
    pub(crate) fn to(wanted: &'w Ruleset, choice: BackendChoice) -> Result<Self, Error> {
        let mut backends = Backends::default();
        let goal = Goal {
            wanted: Cow::Borrowed(wanted),
            candidates: choice.candidates(&mut backends)?,
            backend: None,
        };
        Ok(Reconciliation {
            goal: Some(goal),
            backends,
            ..Reconciliation::to_nothing()
        })
    }

    /// Nothing in any store.
    pub(crate) fn to_nothing() -> Self {
        Reconciliation {
            goal: None,
            others: None,
            backends: Backends::default(),
            record: Record::default(),
        }
    }

    /// Every rule there is now, in whatever store this machine can have.
    pub(crate) fn look(&mut self) -> Result<Vec<Live>, BackendError> {
        let mut found = Vec::new();
        for store in stores_besides(None) {
            let backend = self.backends.open_used(store);
            match backend.and_then(|mut backend| read_unchanging(&mut *backend)) {
                Ok(live) => found.push(live),
                Err(e) if is_absence(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// The backend that has written the new rules, or found them in place.
    pub(crate) fn backend(&self) -> Option<&dyn Backend> {
        self.goal.as_ref()?.backend.as_deref()
    }

    /// Whether other programs have rules here, as far as a look into the tables has shown.
    pub(crate) fn are_beside_others(&mut self) -> bool {
        self.record.beside_others || self.backends.has_foreign_tables()
    }

    /// Goes round until nothing changes any more.
    ///
    /// Whoever writes looks again: not every backend notices that somebody else was at work between
    /// its read and its commit, and none of them for another's store. So the last of several runs
    /// finds what it wants in the end, whole.
    ///
    /// # Errors
    /// [`Error::Contended`] if other programs change the rules each time until `patience` is over.
    pub(crate) fn settle(&mut self, patience: Duration) -> Result<(), Error> {
        let mut attempts = None;
        loop {
            match self.round() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::Backend(BackendError::Interrupted { doing })) => {
                    log::debug!("{doing}: once more");
                }
                Err(e) => return Err(e),
            }
            // To read and write much is no contest, however long the first round takes.
            let attempts = attempts.get_or_insert_with(|| Attempts::within(patience));
            if !attempts.wait() {
                return Err(Error::Contended(patience));
            }
        }
    }

    /// New rules first, then what is left elsewhere. Returns whether nothing has to be looked at
    /// again.
    fn round(&mut self) -> Result<bool, Error> {
        let written = match &mut self.goal {
            Some(goal) => goal.write(&mut self.backends, &mut self.record)?,
            None => false,
        };
        let swept = self.sweep()?;
        Ok(!swept && (!written || self.goal_stands()?))
    }

    /// Whether what was written is still there. A backend that does not notice others is asked at
    /// once, so that of several who are at work one finds it so.
    fn goal_stands(&mut self) -> Result<bool, BackendError> {
        match &mut self.goal {
            Some(goal) => goal.stands(),
            None => Ok(true),
        }
    }

    /// Removes all that is ours from the other stores. Returns whether there was anything.
    ///
    /// # Errors
    /// Where one cannot be opened, after all others were swept.
    fn sweep(&mut self) -> Result<bool, BackendError> {
        let keep = self.backend().map(Backend::store);
        let backends = &mut self.backends;
        let others = self
            .others
            .get_or_insert_with(|| Others::besides(keep, backends));
        let mut swept = false;
        for backend in &mut others.open {
            swept |= match self.record.put(&mut **backend, &Ruleset::default()) {
                // Nothing of that store was changed, and the new rules are in place.
                Err(e @ BackendError::Refused { .. }) if self.goal.is_some() => {
                    log::warn!("rules of ours are left beside the new ones: {e}");
                    false
                }
                swept => swept?,
            };
        }
        match others.shut.take() {
            Some(error) => Err(error),
            None => Ok(swept),
        }
    }
}

/// The stores in which nothing of ours is to stay.
struct Others {
    open: Vec<Box<dyn Backend>>,
    /// Why one of them cannot be opened, though it may be in use.
    shut: Option<BackendError>,
}

impl Others {
    /// Opens all stores but `keep`, as far as this machine can have them.
    fn besides(keep: Option<Store>, backends: &mut Backends) -> Self {
        let (mut open, mut shut) = (Vec::new(), None);
        for store in stores_besides(keep) {
            match backends.open_used(store) {
                Ok(backend) => open.push(backend),
                Err(e @ BackendError::NoProgram(_)) => log::warn!("rules there may be left: {e}"),
                // Enough for an apply, but not to say that everything is clean.
                Err(e) if keep.is_some() && is_out_of_reach(&e) => {
                    // Users other than root may never look, so it says nothing about this machine.
                    let level = match geteuid().is_root() {
                        true => Level::Warn,
                        false => Level::Debug,
                    };
                    log::log!(level, "rules there may be left: {e}");
                }
                Err(e) if is_absence(&e) => log::debug!("skipped: {e}"),
                Err(e) => shut = Some(e),
            }
        }
        Others { open, shut }
    }
}

/// Rules that are wanted, and who writes them.
struct Goal<'w> {
    /// As far as the kernel can have it, once a backend is chosen.
    wanted: Cow<'w, Ruleset>,
    candidates: Vec<Candidate>,
    /// The first candidate that could.
    backend: Option<Box<dyn Backend>>,
}

impl Goal<'_> {
    /// Writes the rules, with the first backend that can and from then on with that one. Returns
    /// whether anything had to be committed.
    fn write(&mut self, backends: &mut Backends, record: &mut Record) -> Result<bool, Error> {
        if let Some(backend) = &mut self.backend {
            return Ok(record.put(&mut **backend, &self.wanted)?);
        }
        let mut last = Error::NoBackend;
        for candidate in &self.candidates {
            match candidate.write(&self.wanted, backends, record) {
                Ok(first) => {
                    self.backend = Some(first.backend);
                    if let Some(plain) = first.without_comments {
                        self.wanted = Cow::Owned(plain);
                    }
                    return Ok(first.written);
                }
                Err(e) if is_reason_to_go_on(&e, candidate.store) => {
                    log::debug!("{e}");
                    last = e.into();
                }
                // The user namespace has them all, so the network namespace is another one's: xt rules
                // can only be written from there, native ones from anywhere.
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
        user_namespace::unmapped(&self.wanted).is_empty()
    }

    /// Whether the rules that were written are there, as far as that needs a look.
    fn stands(&mut self) -> Result<bool, BackendError> {
        match &mut self.backend {
            Some(backend) if !backend.notices_others() => {
                let live = backend.read()?;
                Ok(plan(&live, &backend.canonical(&self.wanted)).is_empty())
            }
            _ => Ok(true),
        }
    }
}

/// How the first write of a backend went.
struct FirstWrite {
    backend: Box<dyn Backend>,
    /// Whether anything had to be committed.
    written: bool,
    /// What was written instead of what is wanted, where the kernel has no comments.
    without_comments: Option<Ruleset>,
}

impl Candidate {
    fn write(
        &self,
        wanted: &Ruleset,
        backends: &mut Backends,
        record: &mut Record,
    ) -> Result<FirstWrite, BackendError> {
        let mut backend = backends.open(self.store)?;
        log::debug!("backend {} is tried: {}", backend.name(), self.reason);
        let (written, without_comments) = match record.put(&mut *backend, wanted) {
            Err(e) if may_be_the_comments(&e, backend.store()) => {
                let plain = wanted.without_comments();
                let written = record
                    .put(&mut *backend, &plain)
                    .map_err(|again| match again {
                        BackendError::Interrupted { .. } => again,
                        // If they were not what was wrong, the first refusal says what is.
                        _ => e,
                    })?;
                log::warn!(
                    "this kernel has no xt comment match: the rules are there without comments"
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
