//! Errors of routes and addresses.

use crate::netfilter::model::Family;
use crate::netfilter::netlink::{self, Nack};
use nix::errno::Errno;
use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum RoutingError {
    /// CAP_NET_ADMIN is missing in the user namespace that owns the network namespace.
    #[error("{doing}: not permitted")]
    NotPermitted { doing: String },

    /// The kernel lacks the family, or it is disabled.
    #[error("{doing}: this kernel has no {family}, or it is disabled")]
    NoFamily { doing: String, family: Family },

    /// Refused, with the message of the kernel.
    #[error("{doing}: {reason}")]
    Refused { doing: String, reason: String },

    /// Communication with the kernel failed.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },

    /// The table has foreign routes, which marked packets would take.
    #[error(
        "the {family} routing table {table} holds routes of others; choose another one with --tproxy-route-table, \
         or remove them (ip{} route show table {table})",
        match family { Family::V4 => "", Family::V6 => " -6" }
    )]
    Occupied { family: Family, table: u32 },

    /// Adding failed, and so did the removal of what was added before.
    #[error("{source}; what was added before could not be removed: {left}")]
    Left {
        source: Box<RoutingError>,
        left: Box<RoutingError>,
    },
}

/// An unavailable family has no objects.
pub(super) fn none_without_family<R>(
    found: Result<Vec<R>, RoutingError>,
) -> Result<Vec<R>, RoutingError> {
    match found {
        Err(RoutingError::NoFamily { .. }) => Ok(Vec::new()),
        found => found,
    }
}

/// The error for a failed request.
pub(super) fn error(doing: String, family: Family, error: netlink::Error) -> RoutingError {
    match error {
        netlink::Error::Refused(nack) => refused(doing, family, nack),
        netlink::Error::Interrupted => RoutingError::Io {
            doing,
            source: io::ErrorKind::Interrupted.into(),
        },
        netlink::Error::Io(source) | netlink::Error::Unanswered(source) => {
            RoutingError::Io { doing, source }
        }
    }
}

/// Replies were lost repeatedly.
pub(super) fn answers_lost(doing: &str) -> RoutingError {
    RoutingError::Io {
        doing: doing.to_owned(),
        source: io::ErrorKind::Interrupted.into(),
    }
}

pub(super) fn refused(doing: String, family: Family, nack: Nack) -> RoutingError {
    match nack.errno {
        Errno::EPERM => RoutingError::NotPermitted { doing },
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => RoutingError::NoFamily { doing, family },
        // The error of an interface with IPv6 disabled.
        Errno::EACCES if family == Family::V6 => RoutingError::NoFamily { doing, family },
        _ => RoutingError::Refused {
            doing,
            reason: nack.reason(),
        },
    }
}
