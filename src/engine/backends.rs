//! Which backend writes.

use crate::engine::reconcile::plan::plan;
use crate::engine::retry::Attempts;
use crate::netfilter::backend::{Backend, BackendError, Store};
use crate::netfilter::model::{Live, Ruleset};
use crate::netfilter::nftables;
use std::io::ErrorKind;
use std::time::Duration;

#[cfg(feature = "iptables")]
use crate::netfilter::backend::Feature;
#[cfg(feature = "iptables")]
use crate::netfilter::iptables::{Iptables, Variant, legacy_tables_in_use};
#[cfg(feature = "iptables")]
use crate::netfilter::model::{Family, TableName};
#[cfg(feature = "iptables")]
use caps::{CapSet, Capability};

/// What `--backend` can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    #[default]
    Auto,
    Netlink,
    Nftables,
    #[cfg(feature = "iptables")]
    IptablesNft,
    #[cfg(feature = "iptables")]
    IptablesLegacy,
}

/// Opens a backend; what it needs may be absent.
pub(crate) type Open = fn() -> Result<Box<dyn Backend>, BackendError>;

/// A backend that may be tried, and why.
pub struct Candidate {
    pub reason: &'static str,
    pub open: Open,
}

impl BackendChoice {
    /// Every choice with the name that `--backend` takes.
    pub const NAMES: &[(&str, BackendChoice)] = &[
        ("auto", BackendChoice::Auto),
        ("netlink", BackendChoice::Netlink),
        ("nftables", BackendChoice::Nftables),
        #[cfg(feature = "iptables")]
        ("iptables-nft", BackendChoice::IptablesNft),
        #[cfg(feature = "iptables")]
        ("iptables-legacy", BackendChoice::IptablesLegacy),
    ];

    /// The choice of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(n, _)| *n == name).map(|(_, choice)| *choice)
    }

    /// The backends to try, the best first; the next one only counts if the kernel or the machine
    /// lacks what the one before it needs. An error when it cannot be told where rules are.
    pub fn candidates(self) -> Result<Vec<Candidate>, BackendError> {
        let chosen = |open| {
            let reason = "chosen with --backend";
            Ok(vec![Candidate { reason, open }])
        };
        match self {
            BackendChoice::Auto => automatic(),
            BackendChoice::Netlink => chosen(xt),
            BackendChoice::Nftables => chosen(native),
            #[cfg(feature = "iptables")]
            BackendChoice::IptablesNft => chosen(iptables_nft),
            #[cfg(feature = "iptables")]
            BackendChoice::IptablesLegacy => chosen(iptables_legacy),
        }
    }
}

fn automatic() -> Result<Vec<Candidate>, BackendError> {
    #[cfg(feature = "iptables")]
    if legacy_nat_has_rules()? {
        return Ok(vec![Candidate {
            reason: "this namespace has iptables-legacy NAT rules",
            open: iptables_legacy,
        }]);
    }
    let stays = is_home(native) && !is_home(xt);
    let settled = stays.then_some(Candidate {
        reason: "rules of ours are there already",
        open: native,
    });
    let others = [
        Candidate {
            reason: "one transaction, and no other program",
            open: xt,
        },
        Candidate {
            reason: "this kernel's nf_tables has no x_tables extensions",
            open: native,
        },
        #[cfg(feature = "iptables")]
        Candidate {
            reason: "this kernel has no nf_tables",
            open: iptables_legacy,
        },
    ];
    Ok(settled.into_iter().chain(others).collect())
}

/// Whether rules of ours are in a store: there they stay, as a diff says.
fn is_home(open: Open) -> bool {
    let live = open().and_then(|mut backend| read_unchanging(&mut *backend));
    live.is_ok_and(|live| !plan(&live, &Ruleset::default()).is_empty())
}

/// Reads what a backend sees, see [`read_until_unchanged`].
pub(crate) fn read_unchanging(backend: &mut dyn Backend) -> Result<Live, BackendError> {
    read_until_unchanged(|| backend.read())
}

/// Reads, for at most ten seconds again where somebody else committed meanwhile; then
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

/// A backend for every store but `keep` in which rules of ours can be, however they came there.
pub(crate) fn stores_besides(keep: Option<Store>) -> impl Iterator<Item = Open> {
    const STORES: &[(Store, Open)] = &[
        (Store::Xt, xt),
        (Store::Native, native),
        #[cfg(feature = "iptables")]
        (Store::Legacy, legacy_in_use),
    ];
    STORES
        .iter()
        .filter(move |(store, _)| Some(*store) != keep)
        .map(|(_, open)| *open)
}

/// Whether an error means that the next candidate may do better: something is absent, or somebody
/// else's, as opposed to not permitted or refused.
pub(crate) fn is_absence(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Missing { .. } | BackendError::NoProgram(_) | BackendError::Taken { .. }
    )
}

/// Whether an error means that we may not look into legacy tables, or that there is no /proc to look
/// into: not reason enough to leave others alone. A look that failed may succeed the next time.
pub(crate) fn is_out_of_reach(error: &BackendError) -> bool {
    match error {
        BackendError::NoRawSocket => true,
        BackendError::LegacyUnknown { source, .. } => matches!(
            source.kind(),
            ErrorKind::PermissionDenied | ErrorKind::NotFound
        ),
        _ => false,
    }
}

fn xt() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(nftables::open_xt()?))
}

fn native() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(nftables::open_native()?))
}

#[cfg(feature = "iptables")]
fn iptables_nft() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Iptables::find(Variant::Nft)?))
}

#[cfg(feature = "iptables")]
fn iptables_legacy() -> Result<Box<dyn Backend>, BackendError> {
    // Asked before the tool is, which would not say what it lacks.
    let raw = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW);
    if matches!(raw, Ok(false)) {
        return Err(BackendError::NoRawSocket);
    }
    Ok(Box::new(Iptables::find(Variant::Legacy)?))
}

/// The legacy tables, if this namespace has any.
#[cfg(feature = "iptables")]
fn legacy_in_use() -> Result<Box<dyn Backend>, BackendError> {
    for family in Family::ALL {
        if legacy_tables_in_use(family)? {
            return iptables_legacy();
        }
    }
    Err(BackendError::Missing {
        doing: "looking for rules of iptables-legacy".to_owned(),
        feature: Feature::LegacyTables,
    })
}

/// Whether tables of iptables-legacy are in use, which raise no events; none are where nothing can look
/// into them.
pub(crate) fn has_silent_tables() -> Result<bool, BackendError> {
    #[cfg(feature = "iptables")]
    for family in Family::ALL {
        match legacy_tables_in_use(family) {
            Ok(false) => {}
            Err(e) if is_out_of_reach(&e) => {}
            in_use => return in_use,
        }
    }
    Ok(false)
}

/// Rules in two NAT implementations at once would be asked one after the other. Where legacy ones
/// are, ours go beside them, if they can be looked at: if not, whoever looks for leftovers says so.
#[cfg(feature = "iptables")]
fn legacy_nat_has_rules() -> Result<bool, BackendError> {
    let live = match legacy_in_use() {
        Err(e) if is_absence(&e) || is_out_of_reach(&e) => return Ok(false),
        legacy => legacy?.read()?,
    };
    let nat = live.tables.iter().filter(|t| t.name == TableName::Nat);
    Ok(nat.flat_map(|t| &t.chains).any(|c| !c.rules.is_empty()))
}
