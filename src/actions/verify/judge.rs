//! What was seen of a probe against what the options want of it: pure.

use super::probe::{Probe, Seen};
use super::report::{Expected, Means, Outcome};
use std::fmt;
use std::net::SocketAddr;

/// Where a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Straight,
    /// To this port of the proxy, which was told the right destination, or else this one.
    ToProxy {
        port: u16,
        told: Option<SocketAddr>,
    },
    /// To nobody who would have noticed.
    PastProxy,
    Refused,
}

/// Whether it came to where it should, and by what it is known.
pub(super) fn judge(probe: &Probe, expected: Expected, seen: Seen) -> Outcome {
    let to_proxy = |port, told: Option<SocketAddr>| Came::ToProxy {
        port,
        told: told.filter(|told| *told != probe.to),
    };
    let (means, came) = match seen {
        Seen::Unknown(why) => return Outcome::Unknown { why },
        Seen::Arrived(arrival) if arrival.port == probe.to.port() => {
            (Means::Listener, Came::Straight)
        }
        Seen::Arrived(arrival) => (Means::Listener, to_proxy(arrival.port, arrival.original)),
        Seen::Sent(to) if to == probe.to => (Means::Conntrack, Came::Straight),
        Seen::Sent(to) => (Means::Conntrack, to_proxy(to.port(), None)),
        Seen::WentElsewhere => (Means::Silence, Came::PastProxy),
        Seen::Refused => (Means::Refusal, Came::Refused),
    };
    match came.is(expected) {
        true => Outcome::Holds { expected, means },
        false => Outcome::Fails {
            expected,
            means,
            came: came.to_string(),
        },
    }
}

impl Came {
    fn is(self, expected: Expected) -> bool {
        match (expected, self) {
            (Expected::Proxy(wanted), Came::ToProxy { port, told: None }) => wanted == port,
            (Expected::Straight, Came::Straight | Came::PastProxy) => true,
            (Expected::Dropped, Came::PastProxy) => true,
            (Expected::Refused, Came::Refused) => true,
            _ => false,
        }
    }
}

/// The end of a sentence about a connection.
impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Came::Straight => f.write_str("went straight there"),
            Came::ToProxy { port, told: None } => write!(f, "was sent to port {port}"),
            Came::ToProxy {
                port,
                told: Some(told),
            } => write!(f, "came to port {port}, which was told {told}"),
            Came::PastProxy => f.write_str("went past the proxy"),
            Came::Refused => f.write_str("was refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listeners::Arrival;
    use super::super::socket::User;
    use super::*;
    use crate::netfilter::model::Protocol;

    fn probe() -> Probe {
        Probe {
            user: User {
                uid: 1000,
                gid: 1000,
            },
            protocol: Protocol::Tcp,
            to: "192.0.2.1:15002".parse().unwrap(),
        }
    }

    fn arrived(port: u16, original: &str) -> Seen {
        Seen::Arrived(Arrival {
            port,
            original: Some(original.parse().unwrap()),
        })
    }

    #[test]
    fn only_what_was_wanted_holds() {
        let proxy = Expected::Proxy(15001);
        let sent = |to: &str| Seen::Sent(to.parse().unwrap());
        for (expected, seen, holds) in [
            (proxy, arrived(15001, "192.0.2.1:15002"), true),
            (proxy, arrived(15001, "192.0.2.9:15002"), false),
            (proxy, arrived(15006, "192.0.2.1:15002"), false),
            (proxy, arrived(15002, "192.0.2.1:15002"), false),
            (proxy, sent("127.0.0.1:15001"), true),
            (proxy, sent("192.0.2.1:15002"), false),
            (proxy, Seen::WentElsewhere, false),
            (proxy, Seen::Refused, false),
            (Expected::Straight, arrived(15002, "192.0.2.1:15002"), true),
            (Expected::Straight, sent("192.0.2.1:15002"), true),
            (Expected::Straight, sent("127.0.0.1:15001"), false),
            (Expected::Straight, Seen::WentElsewhere, true),
            (Expected::Refused, Seen::Refused, true),
            (Expected::Refused, Seen::WentElsewhere, false),
            (Expected::Dropped, Seen::WentElsewhere, true),
            (Expected::Dropped, Seen::Refused, false),
        ] {
            let outcome = judge(&probe(), expected, seen.clone());
            let held = matches!(outcome, Outcome::Holds { .. });
            assert_eq!(held, holds, "{expected:?} {seen:?}: {outcome:?}");
        }
        let untold = judge(&probe(), proxy, Seen::Unknown("why".to_owned()));
        assert!(matches!(untold, Outcome::Unknown { .. }));
    }
}
