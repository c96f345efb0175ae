//! What can end a run early, and the exit status that it has.

use crate::engine::exit::Exit;
use crate::mesh::config::ConfigError;
use crate::netfilter::backend::BackendError;
use crate::netfilter::nftables::Unprintable;
use crate::netfilter::rtnetlink::RoutingError;
use crate::netfilter::trace::JumpLoop;
use std::io::ErrorKind;
use std::path::PathBuf;
use thiserror::Error;

/// Everything that a run can fail with. The message names what was being done, to what, the
/// kernel's or the tool's own words, and the remedy where there is one.
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

    #[error("CAP_NET_ADMIN is missing: rules cannot be read or changed without it. {remedy}")]
    NoNetAdmin { remedy: String },

    #[error(
        "this is the network of a Kubernetes node (hostNetwork: true), not of a pod: rules here would cut the node off. \
         Nothing was changed; remove the init container from such pods, or give --allow-host-network"
    )]
    HostNetwork,

    #[error(
        "it cannot be told whether this is the network of a Kubernetes node (hostNetwork: true), where rules would cut \
         the node off: {0}. Nothing was changed; where it is a pod's own network, give --allow-host-network"
    )]
    PlaceUnknown(std::io::Error),

    #[error("--network-namespace: {} cannot be entered: {source}{}", path.display(), hint(source))]
    Namespace { path: PathBuf, source: nix::Error },

    #[error("--network-namespace: {} is no network namespace (such are /run/netns/NAME, and /proc/PID/ns/net)", path.display())]
    NoNamespace { path: PathBuf },

    #[error(
        "somebody else keeps changing the rules: given up after {0} s; run this again when nobody else is at work"
    )]
    Contended(u64),

    #[error("{source}: {remedy}")]
    Explained { source: Box<Error>, remedy: String },

    #[error("{0} is at work in this network namespace already: end it first, or give --wait")]
    AnotherWatch(String),

    #[error("the network namespace {} is gone: there is nothing left to watch", path.display())]
    NamespaceGone { path: PathBuf },

    #[error("{doing}: {source}")]
    Watch {
        doing: &'static str,
        source: std::io::Error,
    },

    /// A run that failed after it had changed something.
    #[error("{source}; {stands}")]
    Standing { source: Box<Error>, stands: String },

    #[error("none of the backends that this program was built with can work here")]
    NoBackend,

    #[error("--format nft: {0}; --format json and the backend nftables have")]
    Unprintable(#[from] Unprintable),

    #[error("what becomes of connections cannot be seen: {0}")]
    Probe(std::io::Error),

    #[error(
        "--timeout-close-wait-secs: {path} cannot be written: {source} ({stands}); leave the option out, or let the \
         container write sysctls (securityContext.privileged: true)"
    )]
    CloseWait {
        path: &'static str,
        stands: &'static str,
        source: std::io::Error,
    },

    #[error("cannot write the result: {0}")]
    Output(std::io::Error),
}

/// Entering a namespace needs a capability of its own.
fn hint(error: &nix::Error) -> &'static str {
    match error {
        nix::Error::EPERM => " (entering another network namespace needs CAP_SYS_ADMIN)",
        _ => "",
    }
}

impl Error {
    /// The same error, with what stands in spite of it, if anything does.
    pub fn standing(self, stands: Option<&str>) -> Self {
        match stands {
            Some(stands) => Error::Standing {
                source: Box::new(self),
                stands: stands.to_owned(),
            },
            None => self,
        }
    }

    /// The exit status that a run ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Explained { source, .. } | Error::Standing { source, .. } => source.exit(),
            Error::Config(ConfigError::CannotTell { .. }) | Error::PlaceUnknown(_) => Exit::Failed,
            Error::Config(_) | Error::HostNetwork | Error::Unprintable(_) | Error::Probe(_) => {
                Exit::BadInput
            }
            Error::NoNetAdmin { .. }
            | Error::Backend(BackendError::NotPermitted { .. } | BackendError::NoRawSocket)
            | Error::Routing(RoutingError::NotPermitted { .. }) => Exit::NotPermitted,
            Error::Backend(BackendError::LegacyUnknown { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                Exit::NotPermitted
            }
            Error::Namespace {
                source: nix::Error::EPERM,
                ..
            } => Exit::NotPermitted,
            Error::Namespace { .. } | Error::NoNamespace { .. } => Exit::BadInput,
            Error::Backend(_)
            | Error::Routing(_)
            | Error::JumpLoop(_)
            | Error::Contended(_)
            | Error::AnotherWatch(_)
            | Error::NamespaceGone { .. }
            | Error::Watch { .. }
            | Error::NoBackend
            | Error::CloseWait { .. }
            | Error::Output(_) => Exit::Failed,
        }
    }
}
