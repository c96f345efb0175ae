//! What can go wrong with routes and addresses.

use crate::netfilter::model::Family;
use crate::netfilter::netlink::{self, Nack};
use nix::errno::Errno;
use std::io;
use thiserror::Error;

/// Why a route or an address could not be read, made or removed.
#[derive(Debug, Error)]
pub enum RoutingError {
    /// CAP_NET_ADMIN is missing in the user namespace that owns the network namespace.
    #[error("{doing}: not permitted")]
    NotPermitted { doing: String },

    /// The kernel does not have this family, or has it switched off.
    #[error("{doing}: this kernel has no {family}, or it is disabled")]
    NoFamily { doing: String, family: Family },

    /// The kernel said no, in its own words.
    #[error("{doing}: {reason}")]
    Refused { doing: String, reason: String },

    /// The conversation with the kernel broke down.
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },

    /// Marked packets would take the routes that somebody else has put there.
    #[error(
        "the {family} routing table {table} holds routes of others; choose another one with --tproxy-route-table, \
         or remove them (ip{} route show table {table})",
        match family { Family::V4 => "", Family::V6 => " -6" }
    )]
    Occupied { family: Family, table: u32 },

    /// Something could not be made, and what was made before could not be removed.
    #[error("{source}; and what was made before it is left there: {left}")]
    Left {
        source: Box<RoutingError>,
        left: Box<RoutingError>,
    },
}

/// Where there is no such family, there is nothing to find.
pub(super) fn none_without_family<R>(
    found: Result<Vec<R>, RoutingError>,
) -> Result<Vec<R>, RoutingError> {
    match found {
        Err(RoutingError::NoFamily { .. }) => Ok(Vec::new()),
        found => found,
    }
}

/// What the kernel said, or did not say, while something was done in a family.
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

/// The kernel had no room for its answers, again and again.
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
        // What an interface says whose IPv6 is disabled.
        Errno::EACCES if family == Family::V6 => RoutingError::NoFamily { doing, family },
        _ => RoutingError::Refused {
            doing,
            reason: nack.reason(),
        },
    }
}
