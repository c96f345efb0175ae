//! A table's chains, rule by rule.

use super::trace::{Capture, Effect, Step, StepOutcome, Unread};
use super::walker::Walker;
use super::{JumpLoop, Network};
use crate::netfilter::model::{
    ChainName, Entry, Hook, HookedChain, HookedTable, Packet, RejectWith, Target,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a base chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject(RejectWith),
    /// Accepted, and its destination was changed or will not matter.
    Captured(Capture, u16),
    /// A rule that cannot be read has the last word.
    Unknown,
}

/// What comes after a rule or a chain.
enum Next<'a> {
    /// The next rule; behind the last one, the chain that the packet came from.
    Rule,
    /// The chain that the packet came from, or the base chain's policy.
    Return,
    /// This chain.
    Chain(&'a HookedChain),
    End(Verdict),
}

/// A packet in one table at one hook.
pub(super) struct InTable<'w, 'a> {
    pub walker: &'w mut Walker<'a>,
    pub table: &'a HookedTable,
    pub hook: Hook,
    pub steps: Vec<Step>,
    /// The chains that the packet is in, from the base chain on.
    inside: Vec<&'a ChainName>,
}

impl<'w, 'a> InTable<'w, 'a> {
    pub(super) fn new(walker: &'w mut Walker<'a>, table: &'a HookedTable, hook: Hook) -> Self {
        InTable {
            walker,
            table,
            hook,
            steps: Vec::new(),
            inside: Vec::new(),
        }
    }

    /// Goes through a base chain; nothing if its policy has the last word.
    pub(super) fn base(&mut self, chain: &'a HookedChain) -> Result<Option<Verdict>, JumpLoop> {
        Ok(match self.chain(chain)? {
            Next::End(verdict) => Some(verdict),
            _ => None,
        })
    }

    fn chain(&mut self, chain: &'a HookedChain) -> Result<Next<'a>, JumpLoop> {
        if self.inside.contains(&&chain.name) {
            return Err(JumpLoop {
                table: self.table.name.clone(),
                chain: chain.name.clone(),
            });
        }
        self.inside.push(&chain.name);
        let mut end = Next::Rule;
        for entry in &chain.rules {
            match self.rule(chain, entry)? {
                Next::End(verdict) => {
                    end = Next::End(verdict);
                    break;
                }
                Next::Return => break,
                Next::Rule | Next::Chain(_) => {}
            }
        }
        self.inside.pop();
        Ok(end)
    }

    fn rule(&mut self, chain: &'a HookedChain, entry: &'a Entry) -> Result<Next<'a>, JumpLoop> {
        let packet = &self.walker.packet;
        if let Some(reason) = entry.matches().iter().find_map(|m| m.mismatch(packet)) {
            let reason = reason.to_string();
            self.step(chain, entry, StepOutcome::PassedOver(reason));
            return Ok(Next::Rule);
        }
        if let Entry::Idle { .. } = entry {
            let reason = "it only counts or logs".to_owned();
            self.step(chain, entry, StepOutcome::PassedOver(reason));
            return Ok(Next::Rule);
        }
        if let Entry::Goto { chain: to, .. } = entry {
            return self.goto(chain, entry, to);
        }
        let is_read = matches!(entry, Entry::Known(_));
        if !is_read && !self.is_assumed(chain, entry) {
            self.step(chain, entry, StepOutcome::Ignored);
            return Ok(Next::Rule);
        }
        let Some((effect, next)) = entry.target().and_then(|target| self.act(target)) else {
            self.step(chain, entry, StepOutcome::Assumed(None));
            return Ok(Next::End(Verdict::Unknown));
        };
        let outcome = match is_read {
            true => StepOutcome::Taken(effect),
            false => StepOutcome::Assumed(Some(effect)),
        };
        self.step(chain, entry, outcome);
        match next {
            Next::Chain(called) => Ok(match self.chain(called)? {
                Next::End(verdict) => Next::End(verdict),
                // What it returns to is the rule behind the jump.
                _ => Next::Rule,
            }),
            next => Ok(next),
        }
    }

    /// On to a chain, and from there to where this one returns to.
    fn goto(
        &mut self,
        chain: &'a HookedChain,
        entry: &'a Entry,
        to: &'a ChainName,
    ) -> Result<Next<'a>, JumpLoop> {
        self.step(chain, entry, StepOutcome::Taken(Effect::Jumped(to.clone())));
        let called = self.table.chains.iter().find(|c| c.name == *to);
        match called.map(|called| self.chain(called)).transpose()? {
            Some(Next::End(verdict)) => Ok(Next::End(verdict)),
            Some(_) => Ok(Next::Return),
            None => Ok(Next::End(Verdict::Unknown)),
        }
    }

    /// Whether a rule that cannot be read is taken to apply.
    fn is_assumed(&mut self, chain: &HookedChain, entry: &Entry) -> bool {
        self.walker.assume(Unread {
            table: self.table.name.clone(),
            chain: chain.name.clone(),
            rule: entry.text(),
            applies: false,
        })
    }

    fn step(&mut self, chain: &HookedChain, entry: &Entry, outcome: StepOutcome) {
        self.steps.push(Step {
            chain: chain.name.clone(),
            depth: self.inside.len() - 1,
            rule: entry.clone(),
            outcome,
            decides: false,
        });
    }

    /// Does what a target does to the packet; nothing if that is not known, where the target is
    /// neither a chain nor one of the model's.
    fn act(&mut self, target: &Target) -> Option<(Effect, Next<'a>)> {
        let packet = &mut self.walker.packet;
        target.change(packet);
        Some(match target {
            Target::Accept => (Effect::Accepted, Next::End(Verdict::Accept)),
            Target::Drop => (Effect::Dropped, Next::End(Verdict::Drop)),
            Target::Return => (Effect::Returned(self.caller()), Next::Return),
            Target::Jump(name) => {
                let chain = self.table.chains.iter().find(|c| c.name == *name)?;
                (Effect::Jumped(name.clone()), Next::Chain(chain))
            }
            Target::Reject(with) => (Effect::Rejected(*with), Next::End(Verdict::Reject(*with))),
            Target::Redirect { to_port } => {
                redirect(packet, self.walker.network, self.hook, *to_port)
            }
            Target::Tproxy { on_port, .. } => (
                Effect::Tproxied {
                    port: *on_port,
                    mark: packet.mark,
                },
                Next::End(Verdict::Captured(Capture::Tproxy, *on_port)),
            ),
            Target::Mark { .. } | Target::RestoreMark { .. } => {
                (Effect::Marked(packet.mark), Next::Rule)
            }
            Target::SaveMark { .. } => {
                let mark = packet.connection().map_or(0, |c| c.mark);
                (Effect::ConnectionMarked(mark), Next::Rule)
            }
            Target::CtZone(_) => (Effect::Zone(packet.zone), Next::Rule),
        })
    }

    fn caller(&self) -> Option<ChainName> {
        let caller = self.inside.len().checked_sub(2)?;
        Some(self.inside[caller].clone())
    }
}

/// REDIRECT: to the loopback address on its way out, to an address of the interface that it came in
/// through on its way in.
fn redirect<'a>(
    packet: &mut Packet,
    network: &Network,
    hook: Hook,
    port: u16,
) -> (Effect, Next<'a>) {
    let to: Option<IpAddr> = match (hook, packet.destination, &packet.in_interface) {
        (Hook::Output, SocketAddr::V4(_), _) => Some(Ipv4Addr::LOCALHOST.into()),
        (Hook::Output, SocketAddr::V6(_), _) => Some(Ipv6Addr::LOCALHOST.into()),
        (_, to, Some(interface)) => network.redirect_address(interface, to.ip()),
        (_, _, None) => None,
    };
    let Some(to) = to else {
        return (Effect::NoAddress, Next::End(Verdict::Drop));
    };
    packet.destination = SocketAddr::new(to, port);
    let capture = Capture::Redirect(packet.destination);
    (
        Effect::Redirected(packet.destination),
        Next::End(Verdict::Captured(capture, port)),
    )
}
