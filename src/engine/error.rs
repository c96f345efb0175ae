//! Errors of a run: kinds with data. The front end adds option names and remedies.

use crate::mesh::config::ConfigError;
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::Owner;
use crate::netfilter::rtnetlink::RoutingError;
use crate::netfilter::trace::JumpLoop;
use crate::netfilter::trace::classes::Stopped;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),

    #[error(transparent)]
    Backend(#[from] BackendError),

    #[error(transparent)]
    Routing(#[from] RoutingError),

    #[error(transparent)]
    JumpLoop(#[from] JumpLoop),

    /// Rules that divide connections into more classes than can be followed.
    #[error("the rules divide connections into too many classes to be followed all at once")]
    TooManyClasses,

    /// Reading and changing rules requires it.
    #[error("CAP_NET_ADMIN is missing")]
    NoNetAdmin(Grant),

    #[error("this is the network namespace of a Kubernetes node (hostNetwork: true)")]
    HostNetwork,

    #[error("cannot determine whether this is the network namespace of a Kubernetes node: {0}")]
    HostNetworkUnknown(io::Error),

    #[error("cannot enter the network namespace {}: {source}", path.display())]
    Namespace { path: PathBuf, source: nix::Error },

    #[error("{} is not a network namespace", path.display())]
    NotANamespace { path: PathBuf },

    #[error("other programs kept changing the rules for {} s", .0.as_secs_f32())]
    Contended(Duration),

    /// The kernel refused rules about owners that the user namespace does not map.
    #[error("{source}")]
    Unmapped {
        source: Box<Error>,
        owners: Vec<Owner>,
    },

    #[error("{0} is running in this network namespace")]
    AnotherWatch(String),

    #[error("the network namespace {} no longer exists", path.display())]
    NamespaceGone { path: PathBuf },

    #[error("{doing}: {source}")]
    Watch {
        doing: &'static str,
        source: io::Error,
    },

    /// A run that failed after it had changed something.
    #[error("{source}")]
    After { source: Box<Error>, left: Left },

    #[error("no backend that this program was built with can work here")]
    NoBackend,

    #[error("cannot observe connections: {0}")]
    Probe(io::Error),

    #[error("cannot write {path}: {source}")]
    CloseWait {
        path: &'static str,
        /// The rules are installed.
        installed: bool,
        source: io::Error,
    },

    #[error("cannot write the result: {0}")]
    Output(io::Error),
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Loop(jump_loop) => Error::JumpLoop(jump_loop),
            Stopped::Bounded => Error::TooManyClasses,
        }
    }
}

/// What would grant a missing capability, where this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The capability is in the bounding set, so that root would have it.
    pub bounded: bool,
    /// CAP_SYS_MODULE is not in the bounding set, as in containers.
    pub in_container: bool,
    /// The effective user.
    pub uid: u32,
}

/// The state that a failed run leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    SomeTablesChanged,
    Undetermined,
    NewRulesInPlace { backend: &'static str },
    AllRulesRemoved,
}

impl Error {
    /// Adds the state left by the run, if anything was changed.
    pub(crate) fn after(self, left: Option<Left>) -> Self {
        match left {
            Some(left) => Error::After {
                source: Box::new(self),
                left,
            },
            None => self,
        }
    }

    /// Whether the configuration is invalid, as opposed to unreadable.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Error::Config(e) if !matches!(e, ConfigError::Fact(_)))
    }

    /// The innermost error, without the state left by the run.
    pub fn root(&self) -> &Error {
        match self {
            Error::After { source, .. } | Error::Unmapped { source, .. } => source.root(),
            error => error,
        }
    }
}
