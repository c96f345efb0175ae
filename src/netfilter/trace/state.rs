//! What is known of a packet on its way.

use super::network::Network;
use super::passage::Undecoded;
use crate::netfilter::model::Packet;
use std::net::IpAddr;

/// A packet where it is now, and what was assumed of rules that were not decoded.
pub(super) struct State<'a> {
    pub network: &'a Network,
    pub packet: Packet,
    pub undecoded: Vec<Undecoded>,
    assumed: &'a [bool],
}

impl<'a> State<'a> {
    pub(super) fn new(packet: Packet, network: &'a Network, assumed: &'a [bool]) -> Self {
        State {
            network,
            packet,
            undecoded: Vec::new(),
            assumed,
        }
    }

    /// Whether a rule that was not decoded is assumed to apply.
    pub(super) fn assume(&mut self, rule: Undecoded) -> bool {
        let applies = self.assumed.get(self.undecoded.len()) == Some(&true);
        self.undecoded.push(Undecoded { applies, ..rule });
        applies
    }

    /// The address that MASQUERADE puts in place of the source, and whether there are others.
    pub(super) fn masquerade_address(&self) -> Option<(IpAddr, bool)> {
        let through = self.packet.out_interface.as_ref()?;
        self.network
            .masquerade_address(through, self.packet.destination.ip())
    }
}
