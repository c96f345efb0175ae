//! What must hold for a rule to be evaluated and to apply.

use super::User;
use super::ends::ends;
use crate::netfilter::model::{
    ConnState, FoundSocket, Interface, Match, Owner, Protocol, Side, Test,
};
use crate::netfilter::trace::{Probe, Start};
use std::net::IpAddr;

/// The matches, and what the positive ones fix: of several about one thing the last.
#[derive(Default)]
pub(super) struct Conditions {
    matches: Vec<Match>,
    pub states: Option<Vec<ConnState>>,
    pub protocol: Option<Protocol>,
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    pub mark: Option<u32>,
    pub connection_mark: Option<u32>,
    pub interface: Option<Interface>,
    pub socket: Option<FoundSocket>,
}

impl From<Vec<Match>> for Conditions {
    fn from(matches: Vec<Match>) -> Self {
        let mut conditions = Conditions::default();
        for m in matches.iter().filter(|m| !m.not) {
            conditions.fix(&m.test);
        }
        Conditions {
            matches,
            ..conditions
        }
    }
}

impl Conditions {
    fn fix(&mut self, test: &Test) {
        match test {
            Test::ConnState(states) => self.states = Some(states.clone()),
            Test::Protocol(protocol) => self.protocol = Some(*protocol),
            Test::Destination(net) => self.destination = ends(net).first().copied(),
            Test::DestinationSet(set) => {
                self.destination = set.as_slice().iter().flat_map(ends).next();
            }
            Test::Port { side, ports } => *self.port_mut(*side) = Some(ports.first()),
            Test::Multiport { side, ports } => {
                *self.port_mut(*side) = ports.as_slice().first().map(|r| r.first());
            }
            Test::Source(net) => self.source = ends(net).first().copied(),
            Test::Mark { value, .. } => self.mark = Some(*value),
            Test::Connmark { value, .. } => self.connection_mark = Some(*value),
            Test::InInterface(name) => self.interface = Some(name.clone()),
            Test::Socket { transparent } => {
                self.socket = Some(match transparent {
                    true => FoundSocket::Transparent,
                    false => FoundSocket::Plain,
                });
            }
            _ => {}
        }
    }

    fn port_mut(&mut self, side: Side) -> &mut Option<u16> {
        match side {
            Side::Source => &mut self.source_port,
            Side::Destination => &mut self.destination_port,
        }
    }

    /// Whether the user is one that the conditions are about.
    pub(super) fn admit(&self, (uid, gid): User) -> bool {
        self.matches.iter().all(|m| match m.test {
            Test::Owner(Owner::Uid(id)) => (id == uid) != m.not,
            Test::Owner(Owner::Gid(id)) => (id == gid) != m.not,
            _ => true,
        })
    }

    /// Whether those hold that are about what no rule of a mesh changes later.
    pub(super) fn hold_at_first(&self, probe: &Probe) -> bool {
        let local = probe.start == Start::Here;
        self.matches.iter().all(|m| match m.test {
            Test::Source(_) | Test::Destination(_) | Test::Port { .. } | Test::Multiport { .. } => {
                m.holds(&probe.packet)
            }
            Test::Owner(_) if local => m.holds(&probe.packet),
            _ => true,
        })
    }
}
