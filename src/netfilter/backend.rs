//! How a ruleset reaches the kernel and is read back.
//!
//! A backend knows tables, chains and rules; it does not know any mesh, nor which rules are ours:
//! that is settled in the [`Change`] it is handed.

use crate::netfilter::model::{Change, Live, Ruleset};
use std::borrow::Cow;
use std::fmt;
use std::io;
use thiserror::Error;

/// Where in the kernel rules can live. Two backends may share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// nf_tables' `ip` and `ip6` tables `nat`, `mangle`, `raw`, `filter`, as iptables-nft keeps them.
    Xt,
    /// nf_tables' tables that are ours alone (`prepare-proxy-nat`…), with native expressions.
    Native,
    /// The x_tables of iptables-legacy.
    Legacy,
}

/// The whole effect of a backend: read everything, commit one change.
pub trait Backend {
    /// The name that `--backend` takes.
    fn name(&self) -> &'static str;

    /// Where its rules live.
    fn store(&self) -> Store;

    /// Whether a commit is refused ([`BackendError::Interrupted`]) when somebody else has committed
    /// since the read. Otherwise it pays to look again afterwards.
    fn notices_others(&self) -> bool;

    /// The ruleset in the form in which this backend keeps it, to be compared with what
    /// [`Backend::read`] says: the same, or with runs of rules made one with a set.
    fn canonical<'r>(&self, wanted: &'r Ruleset) -> Cow<'r, Ruleset> {
        Cow::Borrowed(wanted)
    }

    /// Every table it can see, ours and foreign, in both families. An absent table is no error.
    fn read(&mut self) -> Result<Live, BackendError>;

    /// The same, with what every rule has counted. Errors as of [`Backend::read`].
    fn read_counted(&mut self) -> Result<Live, BackendError> {
        self.read()
    }

    /// Commits a change that was made from what [`Backend::read`] last returned, whole or not at
    /// all. [`BackendError::Interrupted`] means that somebody else committed in between: read again.
    fn commit(&mut self, change: &Change) -> Result<(), BackendError>;
}

/// Why a backend could not read or commit. Nothing was changed, unless it says so.
#[derive(Debug, Error)]
pub enum BackendError {
    /// CAP_NET_ADMIN is missing in the user namespace that owns the network namespace.
    #[error(
        "{doing}: not permitted (CAP_NET_ADMIN is needed in the user namespace that this network namespace belongs to)"
    )]
    NotPermitted { doing: String },

    /// CAP_NET_RAW is missing, with which iptables-legacy opens its socket.
    #[error("iptables-legacy cannot be used: CAP_NET_RAW is missing")]
    NoRawSocket,

    /// Whether there are rules of iptables-legacy, that is.
    #[error(
        "whether iptables-legacy has rules here cannot be told: {path} cannot be read: {source} (only root and \
         CAP_DAC_READ_SEARCH can, and where there is no /proc nobody)"
    )]
    LegacyUnknown {
        path: &'static str,
        source: io::Error,
    },

    /// The kernel has no such thing, as opposed to not permitting it.
    #[error("{doing}: {feature}")]
    Missing { doing: String, feature: Feature },

    /// The kernel or the tool said no, in its own words.
    #[error("{doing}: {reason}")]
    Refused { doing: String, reason: String },

    /// The kernel takes no match on the owner of a socket: the user namespace does not map the owner,
    /// or is not the one that the network namespace belongs to.
    #[error("{doing}: {reason}")]
    OwnerRefused { doing: String, reason: String },

    /// Somebody else has what the rules need: another backend may have a place of its own.
    #[error("{doing}: {reason}")]
    Taken { doing: String, reason: String },

    /// The change takes more bytes than one transaction may have: sockets of a user namespace may not be
    /// made larger than its host's net.core.wmem_max says.
    #[error(
        "{doing}: the change takes {needed} bytes, and a socket of this user namespace takes no more than {room} in one \
         transaction"
    )]
    TooLarge {
        doing: String,
        needed: usize,
        room: usize,
    },

    /// Somebody holds a lock, and was waited for in vain.
    #[error("{doing}: {reason}")]
    Locked { doing: String, reason: String },

    /// Somebody else committed between read and commit.
    #[error("{doing}: somebody else changed the rules at the same time")]
    Interrupted { doing: String },

    /// A program is neither in $PATH nor in the system's directories.
    #[error("there is no program {0}")]
    NoProgram(String),

    /// The conversation with the kernel or the program broke down, or never began.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// A part of the kernel that may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// nf_tables itself (CONFIG_NF_TABLES).
    NfTables,
    /// Rules of iptables-legacy: in this network namespace there never were any.
    LegacyTables,
    /// An x_tables match or target, by its name (`owner`, `REDIRECT`…), or nft_compat under it.
    Xt(String),
    /// A kind of nf_tables expression or chain, by its name.
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
