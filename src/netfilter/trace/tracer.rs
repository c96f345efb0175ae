//! The hooks, in the kernel's order.

use super::JumpLoop;
use super::chain::{InTable, Verdict};
use super::network::{Network, NextHop};
use super::passage::{Capture, End, Passage, TablePassage, Trace};
use super::state::State;
use crate::netfilter::model::{
    Base, ConnState, Connection, Family, Hook, HookedChain, HookedTable, Interface, Packet,
    Protocol, Rules, Tracking,
};

/// Where conntrack looks at a packet (`NF_IP_PRI_CONNTRACK`).
pub(super) const CONNTRACK: i32 = -200;

/// Where a packet begins, in this namespace or outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A process here sends it.
    Here,
    /// It comes in.
    Outside,
}

impl Start {
    pub const ALL: [Start; 2] = [Start::Here, Start::Outside];
}

/// A packet to follow, and the state that its connection is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub start: Start,
    pub packet: Packet,
    pub tracking: Tracking,
}

/// Follows one packet.
pub(super) struct Tracer<'a> {
    rules: &'a Rules,
    state: State<'a>,
    tracking: Tracking,
    /// Where nat decided on the connection's destination, and on its source.
    destination_decided: Option<Hook>,
    source_decided: Option<Hook>,
    capture: Option<(Capture, u16)>,
    /// The route of what is sent from here, as it is known now.
    next_hop: Option<NextHop>,
    passages: Vec<Passage>,
}

impl<'a> Tracer<'a> {
    pub(super) fn new(
        probe: &Probe,
        rules: &'a Rules,
        network: &'a Network,
        assumed: &'a [bool],
    ) -> Self {
        Tracer {
            rules,
            state: State::new(probe.packet.clone(), network, assumed),
            tracking: probe.tracking,
            destination_decided: None,
            source_decided: None,
            capture: None,
            next_hop: None,
            passages: Vec::new(),
        }
    }

    /// All that happened.
    pub(super) fn finish(self, end: End) -> Trace {
        Trace {
            passages: self.passages,
            end,
            packet: self.state.packet,
            undecoded: self.state.undecoded,
            order: Vec::new(),
        }
    }

    /// OUTPUT, POSTROUTING, and in again if it is for this namespace (`ip_local_out`).
    pub(super) fn go_out(&mut self) -> Result<End, JumpLoop> {
        let Some(next_hop) = self.route().filter(|_| !self.cannot_be_bound()) else {
            return Ok(End::NoRoute);
        };
        self.state.packet.out_interface = Some(interface_to(&next_hop));
        self.next_hop = Some(next_hop);
        if let Some(end) = self.hook(Hook::Output)? {
            return Ok(end);
        }
        let Some(next_hop) = self.next_hop.take() else {
            return Ok(End::NoRoute);
        };
        self.state.packet.out_interface = Some(interface_to(&next_hop));
        if let Some(end) = self.hook(Hook::Postrouting)? {
            return Ok(end);
        }
        match next_hop {
            NextHop::Out { through, .. } => Ok(self.sent(through, false)),
            NextHop::Local => {
                // lo gives the packet back with its mark, its connection and its route, but without
                // its socket (`loopback_xmit`).
                self.state.packet.owner = None;
                self.state.packet.out_interface = None;
                self.state.packet.in_interface = Some(Interface::LOOPBACK);
                match self.hook(Hook::Prerouting)? {
                    Some(end) => Ok(end),
                    None => self.deliver(),
                }
            }
        }
    }

    /// PREROUTING, then INPUT, or FORWARD and POSTROUTING (`ip_rcv`).
    pub(super) fn come_in(&mut self) -> Result<End, JumpLoop> {
        if let Some(end) = self.hook(Hook::Prerouting)? {
            return Ok(end);
        }
        let through = match self.route() {
            Some(NextHop::Local) => return self.deliver(),
            Some(NextHop::Out { through, .. }) => through,
            None => return Ok(End::NoRoute),
        };
        self.state.packet.out_interface = Some(through.clone());
        for hook in [Hook::Forward, Hook::Postrouting] {
            if let Some(end) = self.hook(hook)? {
                return Ok(end);
            }
        }
        Ok(self.sent(through, true))
    }

    fn route(&self) -> Option<NextHop> {
        let to = self.state.packet.destination.ip();
        self.state.network.route(to, self.state.packet.mark)
    }

    /// Whether the kernel finds no source for it: a mark leads to this namespace what is for elsewhere,
    /// and connect(2) over IPv4 takes the destination itself, which is no address of this namespace
    /// (`ip_route_connect`).
    fn cannot_be_bound(&self) -> bool {
        let (from, to) = (
            self.state.packet.source.ip(),
            self.state.packet.destination.ip(),
        );
        let is_tcp = self.state.packet.protocol == Protocol::Tcp && to.is_ipv4();
        from.is_unspecified() || is_tcp && from == to && !self.state.network.is_own(to)
    }

    /// What the addresses are to this namespace, as far as rules ask.
    fn look_up_addresses(&mut self) {
        let packet = &mut self.state.packet;
        packet.facts.source_type = self.state.network.address_type(packet.source.ip());
        packet.facts.destination_type = self.state.network.address_type(packet.destination.ip());
    }

    fn sent(&self, through: Interface, forwarded: bool) -> End {
        End::Sent { through, forwarded }
    }

    fn deliver(&mut self) -> Result<End, JumpLoop> {
        if let Some(end) = self.hook(Hook::Input)? {
            return Ok(end);
        }
        Ok(match self.capture {
            Some((capture, port)) => End::Delivered {
                port,
                by: Some(capture),
            },
            None => End::Delivered {
                port: self.state.packet.destination.port(),
                by: None,
            },
        })
    }

    /// All base chains of one hook; an end if the packet goes no further.
    fn hook(&mut self, hook: Hook) -> Result<Option<End>, JumpLoop> {
        self.passages.push(Passage {
            hook,
            packet: self.state.packet.clone(),
            tables: Vec::new(),
        });
        for (table, chain, base) in chains_at(self.rules, self.state.packet.family(), hook) {
            self.look_up_addresses();
            if base.priority > CONNTRACK {
                self.track();
            }
            let (mark, to) = (self.state.packet.mark, self.state.packet.destination.ip());
            let end = match base.is_nat {
                true => self.nat(table, chain, base)?,
                false => self.table(table, chain, base)?,
            };
            // Rules at OUTPUT go on seeing the first route, whatever comes of this one
            // (`ip_route_me_harder`).
            let is_rerouted = base.is_nat && self.state.packet.destination.ip() != to
                || base.reroutes && self.state.packet.mark != mark;
            if hook == Hook::Output && is_rerouted {
                self.next_hop = self.route();
            }
            if end.is_some() {
                return Ok(end);
            }
        }
        self.track();
        // Where no rule changed it, it is decided that nothing does (`nf_nat_alloc_null_binding`).
        if self.may_be_translated() {
            self.decided_mut(hook).get_or_insert(hook);
        }
        Ok(None)
    }

    /// Conntrack's own look, once: what comes back from lo is known.
    fn track(&mut self) {
        if self.state.packet.tracking == Tracking::NotYet {
            self.state.packet.tracking = self.tracking;
        }
    }

    /// A base chain of nat, unless it is skipped (`nf_nat_inet_fn`).
    fn nat(
        &mut self,
        table: &'a HookedTable,
        chain: &'a HookedChain,
        base: Base,
    ) -> Result<Option<End>, JumpLoop> {
        let decided = *self.decided_mut(base.hook);
        let skipped = match (self.state.packet.connection(), decided) {
            (None, _) => Some("nat leaves alone what conntrack does not know"),
            (Some(c), _) if !is_first(c) => {
                Some("nat is asked about the first packet of a connection only")
            }
            (_, Some(at)) if at == base.hook => Some("another nat table has decided already"),
            (_, Some(Hook::Postrouting)) => {
                Some("nat decides once about a connection's source, and did so at POSTROUTING")
            }
            (_, Some(_)) => Some("nat decides once about a connection, and did so at OUTPUT"),
            (_, None) => None,
        };
        if skipped.is_none() {
            return self.table(table, chain, base);
        }
        // A chain without rules is not shown.
        if !chain.rules.is_empty() {
            self.passed(TablePassage {
                table: table.name.clone(),
                chain: chain.name.clone(),
                base,
                skipped,
                steps: Vec::new(),
                policy: None,
            });
        }
        Ok(None)
    }

    fn may_be_translated(&self) -> bool {
        self.state.packet.connection().is_some_and(is_first)
    }

    fn decided_mut(&mut self, hook: Hook) -> &mut Option<Hook> {
        match hook {
            Hook::Prerouting | Hook::Output | Hook::Forward => &mut self.destination_decided,
            Hook::Input | Hook::Postrouting => &mut self.source_decided,
        }
    }

    fn passed(&mut self, table: TablePassage) {
        if let Some(passage) = self.passages.last_mut() {
            passage.tables.push(table);
        }
    }

    fn table(
        &mut self,
        table: &'a HookedTable,
        chain: &'a HookedChain,
        base: Base,
    ) -> Result<Option<End>, JumpLoop> {
        let mut inside = InTable::new(&mut self.state, table, base.hook);
        let verdict = inside.base(chain)?;
        let steps = inside.steps;
        let policy = verdict.is_none().then_some(base.accepts);
        self.passed(TablePassage {
            table: table.name.clone(),
            chain: chain.name.clone(),
            base,
            skipped: None,
            steps,
            policy,
        });
        Ok(match verdict {
            None if base.accepts => None,
            None | Some(Verdict::Drop) => Some(End::Dropped),
            Some(Verdict::Accept) => None,
            Some(Verdict::SourceTranslated) => {
                *self.decided_mut(base.hook) = Some(base.hook);
                None
            }
            Some(Verdict::Reject(with)) => Some(End::Rejected(with)),
            Some(Verdict::Unknown) => Some(End::Unknown),
            Some(Verdict::Captured(capture, port)) => {
                if let Capture::Redirect(_) = capture {
                    *self.decided_mut(base.hook) = Some(base.hook);
                }
                self.captured(capture, port);
                None
            }
        })
    }

    /// The socket that TPROXY picked keeps the packet, also if its destination changes later.
    fn captured(&mut self, capture: Capture, port: u16) {
        if !matches!(self.capture, Some((Capture::Tproxy, _))) {
            self.capture = Some((capture, port));
        }
    }
}

/// nat is evaluated for such a packet.
fn is_first(connection: &Connection) -> bool {
    matches!(connection.state, ConnState::New | ConnState::Related)
}

fn interface_to(next_hop: &NextHop) -> Interface {
    match next_hop {
        NextHop::Local => Interface::LOOPBACK,
        NextHop::Out { through, .. } => through.clone(),
    }
}

/// The base chains that packets of a family meet at a hook, in order.
pub fn chains_at(
    rules: &Rules,
    family: Family,
    hook: Hook,
) -> Vec<(&HookedTable, &HookedChain, Base)> {
    let sees = |table: &&HookedTable| table.family.is_none_or(|f| f == family);
    let chains = rules.tables.iter().filter(sees);
    let chains = chains.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
    let at_hook = chains.filter_map(|(table, chain)| Some((table, chain, chain.base?)));
    let mut found: Vec<_> = at_hook.filter(|(_, _, base)| base.hook == hook).collect();
    found.sort_by_key(|(_, _, base)| base.moment());
    found
}
