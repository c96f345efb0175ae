//! What was seen of one real connection, and what that proves: pure.
//!
//! A connection counts as captured, or as exempt, only where it is proved where its packet ended.
//! Everything else is inconclusive.

use super::report::{Means, Reason};
use serde::Serialize;
use std::net::SocketAddr;

/// Where a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// At this port of the proxy.
    Captured(u16),
    /// It bypasses the proxy.
    Exempt,
    Refused,
    Dropped,
}

/// All that was seen of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// A listener of ours got it.
    pub arrived: Option<Arrived>,
    /// The address at which a socket of this network namespace holds the other end, by the kernel's
    /// table of sockets.
    pub accepted_at: Option<SocketAddr>,
    /// Where NAT sends it, by conntrack's entry.
    pub nat: Option<Nat>,
    pub answer: Option<Answer>,
    pub view: View,
}

/// Which listener of ours got a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// One on a port of the proxy. `original` is the original destination that it was given, where
    /// that is not the right one.
    AtProxy {
        port: u16,
        original: Option<SocketAddr>,
    },
    AtDestination,
    /// The destination is the proxy's port itself, so that both ways lead there.
    AtEither,
}

/// Where NAT sends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    Untranslated,
    /// To an address of this network namespace.
    ToHere(SocketAddr),
    Elsewhere(SocketAddr),
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Established,
    /// RST, or ICMP's port unreachable.
    Refused,
    /// Another ICMP error.
    Unreachable,
}

/// What could have been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Listeners of ours have all ports that rules send such connections to.
    pub proxy: bool,
    /// A listener of ours has the destination itself.
    pub destination: bool,
    /// Another socket listens there, or that cannot be determined.
    pub occupied: bool,
    /// The destination is an address of this network namespace.
    pub own: bool,
    /// The rules may use TPROXY on it, which conntrack does not show.
    pub tproxy: bool,
}

/// Where a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// At the proxy; at which of its ports, where that is known.
    Captured(Option<u16>),
    /// At this port of the proxy, which was given another original destination.
    WrongOriginal {
        port: u16,
        original: SocketAddr,
    },
    /// It was not sent to the proxy.
    Exempt,
    /// At the proxy's port, which was its destination anyway.
    Either,
    /// It was sent to this port, and did not arrive there.
    Lost(u16),
    /// It was on its way to this network namespace's own sockets, and arrived at none.
    Undelivered,
    /// NAT sent it elsewhere.
    Translated(SocketAddr),
    Refused,
    Dropped,
    /// Where it should, but with another mark or conntrack zone.
    OtherMark,
}

/// The place where the connection ended, and what proves it.
pub(super) fn locate(e: &Evidence, to: SocketAddr) -> Result<(Found, Means), Reason> {
    if let Some(arrived) = e.arrived {
        return Ok((of_arrival(arrived), Means::Listener));
    }
    if let Some(at) = e.accepted_at {
        return accepted(at, to, e.view).map(|found| (found, Means::SocketTable));
    }
    let by_conntrack = |found| (found, Means::Conntrack);
    match e.nat {
        Some(Nat::Elsewhere(end)) => Ok(by_conntrack(Found::Translated(end))),
        Some(Nat::ToHere(end)) => redirected(e, end).map(by_conntrack),
        Some(Nat::Untranslated) if !(e.view.own && e.view.tproxy) => {
            Ok(by_conntrack(Found::Exempt))
        }
        Some(Nat::Untranslated) if e.view.proxy && e.view.destination => {
            Ok(by_conntrack(Found::Undelivered))
        }
        _ => answered(e).map(|found| (found, Means::Answer)),
    }
}

/// A socket of this network namespace that is none of ours has it.
fn accepted(at: SocketAddr, to: SocketAddr, view: View) -> Result<Found, Reason> {
    match at == to {
        false => Ok(Found::Captured(Some(at.port()))),
        // TPROXY leaves the destination as it is.
        true if !view.occupied => Ok(Found::Captured(None)),
        true if view.tproxy => Err(Reason::Occupied),
        true => Ok(Found::Exempt),
    }
}

fn of_arrival(arrived: Arrived) -> Found {
    match arrived {
        Arrived::AtProxy {
            port,
            original: None,
        } => Found::Captured(Some(port)),
        Arrived::AtProxy {
            port,
            original: Some(original),
        } => Found::WrongOriginal { port, original },
        Arrived::AtDestination => Found::Exempt,
        Arrived::AtEither => Found::Either,
    }
}

/// An entry of conntrack alone is not delivery.
fn redirected(e: &Evidence, end: SocketAddr) -> Result<Found, Reason> {
    match e.answer {
        Some(Answer::Established) => Ok(Found::Captured(Some(end.port()))),
        _ if e.view.proxy => Ok(Found::Lost(end.port())),
        Some(_) => Err(Reason::RefusedBySomebody),
        None => Err(Reason::NoAnswer),
    }
}

/// What an answer alone proves.
fn answered(e: &Evidence) -> Result<Found, Reason> {
    match e.answer {
        // Nobody else listens there.
        Some(Answer::Established) if e.view.destination => Ok(Found::Captured(None)),
        // A listener of ours there would have got it.
        Some(_) if e.view.destination => Err(Reason::RefusedBySomebody),
        Some(_) if e.view.proxy => Ok(Found::Exempt),
        Some(Answer::Established) => Err(Reason::Occupied),
        Some(_) => Err(Reason::RefusedBySomebody),
        None if e.view.proxy => Err(Reason::NotArrived),
        None => Err(Reason::NoAnswer),
    }
}

/// Whether a connection that was found there is one that was expected there. Nothing where it may have
/// been a firewall's doing.
pub(super) fn agrees(expected: Expected, found: Found) -> Option<bool> {
    Some(match (expected, found) {
        (Expected::Captured(_) | Expected::Exempt, Found::Either) => true,
        (Expected::Captured(port), Found::Captured(at)) => at.is_none_or(|at| at == port),
        // What other people's NAT makes of what bypasses the proxy is theirs.
        (Expected::Exempt, Found::Exempt | Found::Translated(_)) => true,
        (Expected::Exempt, Found::Undelivered) => return None,
        (Expected::Refused, Found::Refused) | (Expected::Dropped, Found::Dropped) => true,
        _ => false,
    })
}
