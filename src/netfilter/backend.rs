//! The interface of backends, which write rules to the kernel and read them back.
//!
//! A backend knows tables, chains and rules, but no mesh and not which rules are managed: the
//! [`Change`] says that.

use crate::netfilter::model::{Change, Observed, Ruleset};
use std::borrow::Cow;
use std::fmt;
use std::io;
use thiserror::Error;

/// The tables that a backend reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// nf_tables' `ip` and `ip6` tables `nat`, `mangle`, `raw`, `filter`, as iptables-nft keeps them.
    Xt,
    /// Own tables (`prepare-proxy-nat`…) with native expressions.
    Native,
    /// The x_tables of iptables-legacy.
    Legacy,
}

/// Reads everything and commits one change.
pub trait Backend {
    /// The name that `--backend` takes.
    fn name(&self) -> &'static str;

    /// The tables of its rules.
    fn kind(&self) -> TableKind;

    /// Whether a commit is refused ([`BackendError::Interrupted`]) if another program committed
    /// since the read. Otherwise the rules must be read again.
    fn detects_concurrent_commits(&self) -> bool;

    /// Normalises a ruleset to the form that [`Backend::read`] returns: unchanged, or with runs of
    /// rules merged into sets.
    fn normalised<'r>(&self, desired: &'r Ruleset) -> Cow<'r, Ruleset> {
        Cow::Borrowed(desired)
    }

    /// Reads all tables of both families, managed and foreign. An absent table is not an error.
    fn read(&mut self) -> Result<Observed, BackendError>;

    /// Like [`Backend::read`], with the counters of every rule.
    fn read_counted(&mut self) -> Result<Observed, BackendError> {
        self.read()
    }

    /// Commits a change made from the last [`Backend::read`], atomically.
    /// [`BackendError::Interrupted`] means that another program committed since: read again.
    fn commit(&mut self, change: &Change) -> Result<(), BackendError>;
}

/// Errors of a backend. Nothing was changed, unless the message says so.
#[derive(Debug, Error)]
pub enum BackendError {
    /// CAP_NET_ADMIN is missing in the user namespace that owns the network namespace.
    #[error(
        "{doing}: not permitted (CAP_NET_ADMIN is needed in the user namespace that this network namespace belongs to)"
    )]
    NotPermitted { doing: String },

    /// CAP_NET_RAW, which iptables-legacy needs for its socket, is missing.
    #[error("iptables-legacy cannot be used: CAP_NET_RAW is missing")]
    NoRawSocket,

    /// It is not known whether iptables-legacy has rules.
    #[error(
        "cannot determine whether iptables-legacy has rules here: cannot read {path}: {source} (needs root or \
         CAP_DAC_READ_SEARCH, and /proc)"
    )]
    LegacyUnknown {
        path: &'static str,
        source: io::Error,
    },

    /// The kernel lacks a feature, as opposed to not permitting it.
    #[error("{doing}: {feature}")]
    Missing { doing: String, feature: Feature },

    /// Refused, with the message of the kernel or tool.
    #[error("{doing}: {reason}")]
    Refused { doing: String, reason: String },

    /// The kernel refuses a match on a socket owner: the user namespace does not map the owner, or
    /// does not own the network namespace.
    #[error("{doing}: {reason}")]
    OwnerRefused { doing: String, reason: String },

    /// Another program uses what the rules need; another backend may work.
    #[error("{doing}: {reason}")]
    Taken { doing: String, reason: String },

    /// The change exceeds one transaction: in a user namespace the send buffer is limited by
    /// net.core.wmem_max of the host.
    #[error(
        "{doing}: the change takes {needed} bytes, and a socket of this user namespace takes no more than {room} in one \
         transaction"
    )]
    TooLarge {
        doing: String,
        needed: usize,
        room: usize,
    },

    /// Another process held a lock for too long.
    #[error("{doing}: {reason}")]
    Locked { doing: String, reason: String },

    /// Another program committed between read and commit.
    #[error("{doing}: another program changed the rules at the same time")]
    Interrupted { doing: String },

    /// Not found in $PATH or the system directories.
    #[error("there is no program {0}")]
    NoProgram(String),

    /// Communication with the kernel or tool failed.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// A kernel feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// nf_tables itself (CONFIG_NF_TABLES).
    NfTables,
    /// Tables of iptables-legacy, which this network namespace never had.
    LegacyTables,
    /// An x_tables match or target, by name, or nft_compat.
    Xt(String),
    /// An nf_tables expression or chain type, by name.
    Nft(String),
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::NfTables => f.write_str("this kernel has no nf_tables"),
            Feature::LegacyTables => f.write_str("there are no tables of iptables-legacy here"),
            Feature::Xt(name) => write!(f, "this kernel has no xt extension \"{name}\""),
            Feature::Nft(name) => write!(f, "this kernel's nf_tables has no \"{name}\""),
        }
    }
}
