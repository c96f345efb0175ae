//! The exit status of the program.

use crate::actions::status::State;
use crate::actions::{Report, verify::Verdict};
use crate::engine::error::Error;
use crate::mesh::config::ConfigError;
use crate::netfilter::backend::BackendError;
use crate::netfilter::rtnetlink::RoutingError;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Every exit status there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `diff`: nothing differs; for `status`: in force.
    Done = 0,
    /// The kernel or a tool refused; for `diff`: something differs; for `status`: not in force.
    Failed = 1,
    /// Bad input, nothing was touched; for `diff`, `explain`, `status` and
    /// `verify`: cannot be determined.
    BadInput = 2,
    /// A capability is missing.
    NotPermitted = 3,
    /// The redirection does not hold. The number is istio-iptables'.
    NotVerified = 126,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<&Report> for Exit {
    fn from(report: &Report) -> Self {
        match report {
            Report::Diff(diff) if diff.differs => Exit::Failed,
            Report::Differences(found) if found.differs => Exit::Failed,
            Report::Differences(found) if !found.determined => Exit::BadInput,
            Report::Explanation(explanation) if !explanation.determined => Exit::BadInput,
            Report::Connections(connections) if !connections.determined => Exit::BadInput,
            Report::Status(status) => match status.state {
                State::InForce => Exit::Done,
                State::NotInForce | State::NotInstalled => Exit::Failed,
                State::Undetermined => Exit::BadInput,
            },
            Report::Verified(report) => match report.verdict {
                Verdict::Holds => Exit::Done,
                Verdict::Fails => Exit::NotVerified,
                Verdict::Inconclusive => Exit::BadInput,
            },
            _ => Exit::Done,
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error.root() {
            Error::Config(ConfigError::Fact(_)) | Error::HostNetworkUnknown(_) => Exit::Failed,
            Error::Config(_)
            | Error::HostNetwork
            | Error::TooManyClasses
            | Error::Probe(_)
            | Error::NotANamespace { .. } => Exit::BadInput,
            Error::NoNetAdmin(_)
            | Error::Backend(BackendError::NotPermitted { .. } | BackendError::NoRawSocket)
            | Error::Routing(RoutingError::NotPermitted { .. })
            | Error::Namespace {
                source: nix::Error::EPERM,
                ..
            } => Exit::NotPermitted,
            Error::Backend(BackendError::LegacyUnknown { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                Exit::NotPermitted
            }
            Error::Namespace { .. } => Exit::BadInput,
            _ => Exit::Failed,
        }
    }
}
