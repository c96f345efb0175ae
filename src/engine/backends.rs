//! Selection of the backend, and what the backends of one run share.

use crate::engine::reconcile::plan::plan;
use crate::engine::retry::Attempts;
use crate::mesh::managed::{is_managed_chain, is_managed_inet_table};
use crate::netfilter::backend::{Backend, BackendError, Feature, TableKind};
use crate::netfilter::model::{Observed, Ruleset, TableName};
use crate::netfilter::nftables::{Managed, NfTables};
use std::io::ErrorKind;
use std::time::Duration;

#[cfg(feature = "iptables")]
use crate::netfilter::iptables::{Iptables, legacy_tables_in_use};
#[cfg(feature = "iptables")]
use crate::netfilter::model::Family;
#[cfg(feature = "iptables")]
use caps::{CapSet, Capability};

/// What is managed in nf_tables.
pub const MANAGED: Managed = Managed {
    chain: is_managed_chain,
    inet_table: is_managed_inet_table,
};

/// The values of `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    #[default]
    Auto,
    Netlink,
    Nftables,
    #[cfg(feature = "iptables")]
    IptablesLegacy,
}

/// A backend to try, and why.
pub struct Candidate {
    pub reason: &'static str,
    pub kind: TableKind,
}

impl BackendChoice {
    /// Every choice with the name that `--backend` takes; `iptables-nft` is another name for netlink,
    /// which writes the same tables.
    pub const NAMES: &[(&str, BackendChoice)] = &[
        ("auto", BackendChoice::Auto),
        ("netlink", BackendChoice::Netlink),
        ("nftables", BackendChoice::Nftables),
        ("iptables-nft", BackendChoice::Netlink),
        #[cfg(feature = "iptables")]
        ("iptables-legacy", BackendChoice::IptablesLegacy),
    ];

    pub fn named(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(n, _)| *n == name).map(|(_, choice)| *choice)
    }

    /// The backends to try, in order of preference. The next one is tried only if the kernel or the
    /// machine lacks what the previous one needs. Fails if it cannot be determined where managed
    /// rules are.
    pub(crate) fn candidates(
        self,
        backends: &mut Backends,
    ) -> Result<Vec<Candidate>, BackendError> {
        let chosen = |kind| {
            let reason = "chosen with --backend";
            Ok(vec![Candidate { reason, kind }])
        };
        match self {
            BackendChoice::Auto => automatic(backends),
            BackendChoice::Netlink => chosen(TableKind::Xt),
            BackendChoice::Nftables => chosen(TableKind::Native),
            #[cfg(feature = "iptables")]
            BackendChoice::IptablesLegacy => chosen(TableKind::Legacy),
        }
    }
}

fn automatic(backends: &mut Backends) -> Result<Vec<Candidate>, BackendError> {
    if legacy_nat_has_rules(backends)? {
        return Ok(vec![Candidate {
            reason: "this namespace has iptables-legacy NAT rules",
            kind: TableKind::Legacy,
        }]);
    }
    let stays = has_managed_rules(TableKind::Native, backends)
        && !has_managed_rules(TableKind::Xt, backends);
    let current = stays.then_some(Candidate {
        reason: "managed rules are there already",
        kind: TableKind::Native,
    });
    let others = [
        Candidate {
            reason: "it writes all in one transaction and needs no other program",
            kind: TableKind::Xt,
        },
        Candidate {
            reason: "the kernel lacks an xt extension, or the rules exceed one transaction",
            kind: TableKind::Native,
        },
        #[cfg(feature = "iptables")]
        Candidate {
            reason: "this kernel has no nf_tables",
            kind: TableKind::Legacy,
        },
    ];
    Ok(current.into_iter().chain(others).collect())
}

/// Whether a backend has managed rules: then it stays in use, so that diff and apply agree. Tables
/// of the tools replaced do not count.
fn has_managed_rules(kind: TableKind, backends: &mut Backends) -> bool {
    let backend = backends.open(kind);
    let observed = backend.and_then(|mut backend| read_tables(&mut *backend));
    observed.is_ok_and(|observed| !plan(&observed, &Ruleset::default()).tables.is_empty())
}

/// The foreign rules beside managed ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// How many rules that packets may meet are in the tables of backends; a policy that drops is one.
    pub rules: usize,
    /// Whether there are tables of nf_tables that no backend writes to.
    pub tables: bool,
}

/// State shared by the backends of one run: each is opened on first use, and facts are read once.
#[derive(Default)]
pub(crate) struct Backends {
    nf_tables: Option<NfTables>,
    /// Whether iptables-legacy's tables are in use.
    #[cfg(feature = "iptables")]
    legacy_in_use: Option<bool>,
}

impl Backends {
    /// nf_tables, through the one socket of this run.
    pub(crate) fn nf_tables(&mut self) -> Result<&NfTables, BackendError> {
        match self.nf_tables.take() {
            Some(open) => Ok(self.nf_tables.insert(open)),
            None => Ok(self.nf_tables.insert(NfTables::open(MANAGED)?)),
        }
    }

    /// Opens the backend of these tables.
    pub(crate) fn open(&mut self, kind: TableKind) -> Result<Box<dyn Backend>, BackendError> {
        match kind {
            TableKind::Xt | TableKind::Native => Ok(Box::new(self.nf_tables()?.backend(kind))),
            TableKind::Legacy => iptables_legacy(),
        }
    }

    /// Like [`Backends::open`], but opens iptables-legacy only if this namespace uses its tables.
    pub(crate) fn open_used(&mut self, kind: TableKind) -> Result<Box<dyn Backend>, BackendError> {
        if kind == TableKind::Legacy && !self.legacy_in_use()? {
            return Err(no_legacy_tables());
        }
        self.open(kind)
    }

    /// What is foreign, with so many rules in the tables that were read.
    pub(crate) fn foreign(&self, rules: usize) -> Foreign {
        let nf_tables = self.nf_tables.as_ref();
        Foreign {
            rules,
            tables: nf_tables.is_some_and(NfTables::has_foreign_tables),
        }
    }

    #[cfg(feature = "iptables")]
    fn legacy_in_use(&mut self) -> Result<bool, BackendError> {
        if let Some(known) = self.legacy_in_use {
            return Ok(known);
        }
        let [v4, v6] = Family::ALL;
        let in_use = legacy_tables_in_use(v4)? || legacy_tables_in_use(v6)?;
        self.legacy_in_use = Some(in_use);
        Ok(in_use)
    }

    #[cfg(not(feature = "iptables"))]
    fn legacy_in_use(&mut self) -> Result<bool, BackendError> {
        Ok(false)
    }
}

/// Reads the tables of a backend, see [`read_until_unchanged`].
pub(crate) fn read_tables(backend: &mut dyn Backend) -> Result<Observed, BackendError> {
    read_until_unchanged(|| backend.read())
}

/// Retries a read for up to ten seconds while other programs commit; then fails with
/// [`BackendError::Interrupted`].
pub(crate) fn read_until_unchanged<R>(
    mut read: impl FnMut() -> Result<R, BackendError>,
) -> Result<R, BackendError> {
    let mut attempts = Attempts::within(Duration::from_secs(10));
    loop {
        match read() {
            Err(BackendError::Interrupted { .. }) if attempts.wait() => {}
            result => return result,
        }
    }
}

/// All tables except `keep` that may hold managed rules.
pub(crate) fn table_kinds_besides(keep: Option<TableKind>) -> impl Iterator<Item = TableKind> {
    let all = [TableKind::Xt, TableKind::Native, TableKind::Legacy];
    all.into_iter().filter(move |kind| Some(*kind) != keep)
}

/// Whether the next candidate may succeed: something is absent or in use by another program, as
/// opposed to not permitted or refused.
pub(crate) fn is_absence(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Missing { .. } | BackendError::NoProgram(_) | BackendError::Taken { .. }
    )
}

/// Like [`is_absence`], or the rules exceed one transaction and sets would take less room.
pub(crate) fn allows_next_candidate(error: &BackendError, kind: TableKind) -> bool {
    let too_large = matches!(error, BackendError::TooLarge { .. });
    is_absence(error) || (too_large && kind == TableKind::Xt)
}

/// Whether the legacy tables cannot be inspected for lack of a capability or of /proc. Another
/// attempt may succeed.
pub(crate) fn is_uninspectable(error: &BackendError) -> bool {
    match error {
        BackendError::NoRawSocket => true,
        BackendError::LegacyUnknown { source, .. } => matches!(
            source.kind(),
            ErrorKind::PermissionDenied | ErrorKind::NotFound
        ),
        _ => false,
    }
}

#[cfg(feature = "iptables")]
fn iptables_legacy() -> Result<Box<dyn Backend>, BackendError> {
    // Checked here because the tool does not name the missing capability.
    let raw = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW);
    if matches!(raw, Ok(false)) {
        return Err(BackendError::NoRawSocket);
    }
    Ok(Box::new(Iptables::find()?))
}

#[cfg(not(feature = "iptables"))]
fn iptables_legacy() -> Result<Box<dyn Backend>, BackendError> {
    Err(no_legacy_tables())
}

fn no_legacy_tables() -> BackendError {
    BackendError::Missing {
        doing: "iptables-legacy".to_owned(),
        feature: Feature::LegacyTables,
    }
}

/// Whether tables of iptables-legacy, which raise no events, are in use. False where they cannot be
/// inspected.
pub(crate) fn has_tables_without_events() -> Result<bool, BackendError> {
    #[cfg(feature = "iptables")]
    for family in Family::ALL {
        match legacy_tables_in_use(family) {
            Ok(false) => {}
            Err(e) if is_uninspectable(&e) => {}
            in_use => return in_use,
        }
    }
    Ok(false)
}

/// Rules in two NAT implementations would both be evaluated, so new rules go where legacy NAT rules
/// are. If those cannot be read, the search for leftovers reports it.
fn legacy_nat_has_rules(backends: &mut Backends) -> Result<bool, BackendError> {
    let observed = match backends.open_used(TableKind::Legacy) {
        Err(e) if is_absence(&e) || is_uninspectable(&e) => return Ok(false),
        legacy => legacy?.read()?,
    };
    let nat = observed.tables.iter().filter(|t| t.name == TableName::Nat);
    Ok(nat.flat_map(|t| &t.chains).any(|c| !c.rules.is_empty()))
}
