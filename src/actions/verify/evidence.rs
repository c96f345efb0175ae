//! What was seen of one real connection, and what that proves: pure.
//!
//! A connection counts as captured, or as exempt, only where it is proved where its packet ended.
//! Everything else is inconclusive.

use super::report::{Expected, Found, Means, Reason};
use std::net::SocketAddr;

/// All that was seen of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// It reached our own listener.
    pub arrived: Option<Delivery>,
    /// The address at which a socket of this network namespace holds the other end, by the kernel's
    /// table of sockets.
    pub accepted_at: Option<SocketAddr>,
    /// Where NAT sends it, by conntrack's entry.
    pub nat: Option<Nat>,
    pub answer: Option<Answer>,
    pub view: View,
}

/// Which of our own listeners got a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// One on a port of the proxy. `original` is the original destination that it was given, where
    /// that is not the right one.
    Proxy {
        port: u16,
        original: Option<SocketAddr>,
    },
    Destination,
    /// The destination is the proxy's port itself, so that both ways lead there.
    Either,
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
    /// Our own listeners have all ports that rules send such connections to.
    pub proxy: bool,
    /// Our own listener has the destination itself.
    pub destination: bool,
    /// Another socket listens there, or that cannot be determined.
    pub occupied: bool,
    /// The destination is an address of this network namespace.
    pub own: bool,
    /// The rules may use TPROXY on it, which conntrack does not show.
    pub tproxy: bool,
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

/// A socket of this network namespace that is not our own has it.
fn accepted(at: SocketAddr, to: SocketAddr, view: View) -> Result<Found, Reason> {
    match at == to {
        false => Ok(Found::Captured(Some(at.port()))),
        // TPROXY leaves the destination as it is.
        true if !view.occupied => Ok(Found::Captured(None)),
        true if view.tproxy => Err(Reason::Occupied),
        true => Ok(Found::Exempt),
    }
}

fn of_arrival(arrived: Delivery) -> Found {
    match arrived {
        Delivery::Proxy {
            port,
            original: None,
        } => Found::Captured(Some(port)),
        Delivery::Proxy {
            port,
            original: Some(original),
        } => Found::WrongOriginal { port, original },
        Delivery::Destination => Found::Exempt,
        Delivery::Either => Found::Either,
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
        // No other socket listens there.
        Some(Answer::Established) if e.view.destination => Ok(Found::Captured(None)),
        // Our own listener there would have got it.
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
        // Foreign NAT may translate what bypasses the proxy.
        (Expected::Exempt, Found::Exempt | Found::Translated(_)) => true,
        (Expected::Exempt, Found::Undelivered) => return None,
        (Expected::Refused, Found::Refused) | (Expected::Dropped, Found::Dropped) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "192.0.2.1:80";
    const PROXY: &str = "127.0.0.1:15001";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Every combination of what can be seen.
    fn all() -> impl Iterator<Item = Evidence> {
        let proxy = |original| Delivery::Proxy {
            port: 15001,
            original,
        };
        let arrived = [
            None,
            Some(proxy(None)),
            Some(proxy(Some(address("192.0.2.9:80")))),
            Some(Delivery::Destination),
            Some(Delivery::Either),
        ];
        let accepted = [None, Some(address(TO)), Some(address(PROXY))];
        let nat = [
            None,
            Some(Nat::Untranslated),
            Some(Nat::ToHere(address(PROXY))),
            Some(Nat::Elsewhere(address("10.0.0.9:8080"))),
        ];
        let answers = [
            None,
            Some(Answer::Established),
            Some(Answer::Refused),
            Some(Answer::Unreachable),
        ];
        let views = (0..32_u8).map(|bits| View {
            proxy: bits & 1 != 0,
            destination: bits & 2 != 0,
            occupied: bits & 4 != 0,
            own: bits & 8 != 0,
            tproxy: bits & 16 != 0,
        });
        let evidence = move |view| {
            arrived.into_iter().flat_map(move |arrived| {
                accepted.into_iter().flat_map(move |accepted_at| {
                    nat.into_iter().flat_map(move |nat| {
                        answers.into_iter().map(move |answer| Evidence {
                            arrived,
                            accepted_at,
                            nat,
                            answer,
                            view,
                        })
                    })
                })
            })
        };
        views.flat_map(evidence)
    }

    /// Holds, fails, or nothing.
    fn judged(e: &Evidence, expected: Expected) -> Option<bool> {
        let (found, _) = locate(e, address(TO)).ok()?;
        agrees(expected, found)
    }

    const CAPTURED: Expected = Expected::Captured(15001);

    #[test]
    fn both_are_never_proved_but_at_the_proxys_own_port() {
        for e in all() {
            let both = (judged(&e, CAPTURED), judged(&e, Expected::Exempt));
            let either = e.arrived == Some(Delivery::Either);
            assert_eq!(both == (Some(true), Some(true)), either, "{e:?}");
        }
    }

    #[test]
    fn captured_is_what_was_delivered() {
        for e in all().filter(|e| judged(e, CAPTURED) == Some(true)) {
            let delivered = match (e.arrived, e.accepted_at) {
                (Some(arrived), _) => arrived != Delivery::Destination,
                (None, Some(at)) => at != address(TO) || !e.view.occupied,
                (None, None) => e.answer == Some(Answer::Established),
            };
            assert!(delivered, "{e:?}");
        }
    }

    #[test]
    fn silence_proves_nothing() {
        let silent = |e: &Evidence| {
            e.arrived.is_none() && e.accepted_at.is_none() && e.nat.is_none() && e.answer.is_none()
        };
        for e in all().filter(silent) {
            for expected in [
                CAPTURED,
                Expected::Exempt,
                Expected::Refused,
                Expected::Dropped,
            ] {
                assert_eq!(judged(&e, expected), None, "{e:?}");
            }
        }
    }

    #[test]
    fn an_answer_from_elsewhere_never_fails_what_is_exempt() {
        let answered = |e: &Evidence| {
            let seen = e.arrived.is_some() || e.accepted_at.is_some();
            !seen && matches!(e.answer, Some(Answer::Refused | Answer::Unreachable))
        };
        for e in all().filter(answered) {
            let redirected = matches!(e.nat, Some(Nat::ToHere(_)));
            let fails = judged(&e, Expected::Exempt) == Some(false);
            assert!(redirected || !fails, "{e:?}");
        }
    }

    #[test]
    fn an_entry_of_conntrack_is_no_delivery() {
        let nat = Some(Nat::ToHere(address(PROXY)));
        let e = |proxy, answer| Evidence {
            nat,
            answer,
            view: View {
                proxy,
                ..View::default()
            },
            ..Evidence::default()
        };
        assert_eq!(judged(&e(false, None), CAPTURED), None);
        assert_eq!(judged(&e(false, Some(Answer::Refused)), CAPTURED), None);
        assert_eq!(judged(&e(true, None), CAPTURED), Some(false));
        let established = e(false, Some(Answer::Established));
        assert_eq!(judged(&established, CAPTURED), Some(true));
        assert_eq!(judged(&established, Expected::Captured(15006)), Some(false));
    }

    #[test]
    fn conntrack_does_not_show_tproxy() {
        let e = |proxy, own| Evidence {
            nat: Some(Nat::Untranslated),
            view: View {
                proxy,
                own,
                destination: true,
                tproxy: true,
                occupied: false,
            },
            ..Evidence::default()
        };
        assert_eq!(judged(&e(false, true), CAPTURED), None);
        assert_eq!(judged(&e(false, true), Expected::Exempt), None);
        assert_eq!(judged(&e(true, true), CAPTURED), Some(false));
        assert_eq!(judged(&e(true, true), Expected::Exempt), None);
        assert_eq!(judged(&e(true, false), Expected::Exempt), Some(true));
        let accepted = Evidence {
            accepted_at: Some(address(TO)),
            ..e(false, true)
        };
        assert_eq!(judged(&accepted, CAPTURED), Some(true));
    }
}
