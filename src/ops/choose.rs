//! Which backend writes.

use crate::backend::{Backend, BackendError};

#[cfg(feature = "iptables")]
use crate::backend::iptables::{Iptables, Variant, legacy_tables_in_use};
#[cfg(feature = "iptables")]
use crate::ruleset::{Family, TableName};

/// What `--backend` can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    #[cfg(feature = "iptables")]
    IptablesNft,
    #[cfg(feature = "iptables")]
    IptablesLegacy,
}

impl Choice {
    /// Every name, in the order of the help.
    pub const ALL: &[(&'static str, Choice)] = &[
        ("auto", Choice::Auto),
        #[cfg(feature = "iptables")]
        ("iptables-nft", Choice::IptablesNft),
        #[cfg(feature = "iptables")]
        ("iptables-legacy", Choice::IptablesLegacy),
    ];

    /// The choice called `name`.
    pub fn named(name: &str) -> Option<Choice> {
        Choice::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, c)| *c)
    }

    /// The backends to try, the best first; the next one only counts if the kernel or the machine
    /// lacks what the one before it needs.
    pub fn candidates(self) -> Vec<Candidate> {
        match self {
            #[cfg(feature = "iptables")]
            Choice::Auto if legacy_nat_has_rules() => vec![Candidate {
                reason: "this namespace has iptables-legacy NAT rules",
                open: legacy,
            }],
            Choice::Auto => automatic(),
            #[cfg(feature = "iptables")]
            Choice::IptablesNft => vec![Candidate::chosen(nft)],
            #[cfg(feature = "iptables")]
            Choice::IptablesLegacy => vec![Candidate::chosen(legacy)],
        }
    }
}

/// Opens a backend; what it needs may be absent.
pub type Open = fn() -> Result<Box<dyn Backend>, BackendError>;

/// A backend that may be tried, and why.
pub struct Candidate {
    pub reason: &'static str,
    pub open: Open,
}

impl Candidate {
    fn chosen(open: Open) -> Self {
        Candidate {
            reason: "chosen with --backend",
            open,
        }
    }
}

fn automatic() -> Vec<Candidate> {
    vec![
        #[cfg(feature = "iptables")]
        Candidate {
            reason: "nothing here speaks against it",
            open: nft,
        },
        #[cfg(feature = "iptables")]
        Candidate {
            reason: "this machine has no iptables-nft",
            open: legacy,
        },
    ]
}

/// A backend for every store in which rules of ours can be, however they came there.
pub fn every_store() -> Vec<Open> {
    let mut stores: Vec<Open> = Vec::new();
    #[cfg(feature = "iptables")]
    stores.push(nft);
    #[cfg(feature = "iptables")]
    if Family::ALL.into_iter().any(legacy_tables_in_use) {
        stores.push(legacy);
    }
    stores
}

/// Whether an error means that the next candidate may do better: something is absent, as opposed to
/// not permitted or refused.
pub fn is_absence(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Missing { .. } | BackendError::Program { .. }
    )
}

#[cfg(feature = "iptables")]
fn nft() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Iptables::find(Variant::Nft)?))
}

#[cfg(feature = "iptables")]
fn legacy() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Iptables::find(Variant::Legacy)?))
}

/// Rules in two NAT implementations at once would be asked one after the other. Where legacy ones
/// are, ours go beside them, if the tools are at hand.
#[cfg(feature = "iptables")]
fn legacy_nat_has_rules() -> bool {
    let in_use = Family::ALL.into_iter().any(legacy_tables_in_use);
    let live = || Iptables::find(Variant::Legacy)?.read();
    in_use
        && live().is_ok_and(|live| {
            let nat = live.tables.iter().filter(|t| t.name == TableName::Nat);
            nat.flat_map(|t| &t.chains).any(|c| !c.rules.is_empty())
        })
}
