//! A table's chains, rule by rule.

use super::JumpLoop;
use super::passage::{Capture, Effect, Step, StepOutcome, Undecoded};
use super::state::State;

use crate::netfilter::model::{
    ChainName, Entry, Found, Hook, HookedChain, HookedTable, Match, PortRange, RejectWith, Side,
    Target, TargetMap,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a base chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject(RejectWith),
    /// Accepted, and its destination was changed or will not matter.
    Captured(Capture, u16),
    /// Accepted, and its source was changed.
    SourceTranslated,
    /// A rule that was not decoded has the last word.
    Unknown,
}

/// What comes after a rule or a chain.
enum Next<'a> {
    /// The next rule; behind the last one, the chain that the packet came from.
    Rule,
    /// The chain that the packet came from, or the base chain's policy.
    Return,
    /// This chain, and then the next rule.
    Chain(&'a HookedChain),
    /// This chain, and then where this one returns to.
    Goto(&'a HookedChain),
    End(Verdict),
}

/// A packet in one table at one hook.
pub(super) struct InTable<'w, 'a> {
    state: &'w mut State<'a>,
    table: &'a HookedTable,
    hook: Hook,
    pub steps: Vec<Step>,
    /// The chains that the packet is in, from the base chain on.
    inside: Vec<&'a ChainName>,
}

impl<'w, 'a> InTable<'w, 'a> {
    pub(super) fn new(state: &'w mut State<'a>, table: &'a HookedTable, hook: Hook) -> Self {
        InTable {
            state,
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
                Next::Rule | Next::Chain(_) | Next::Goto(_) => {}
            }
        }
        self.inside.pop();
        Ok(end)
    }

    fn rule(&mut self, chain: &'a HookedChain, entry: &'a Entry) -> Result<Next<'a>, JumpLoop> {
        let packet = &self.state.packet;
        let matches = entry.matches();
        if let Some(reason) = matches.iter().find_map(|m| m.mismatch(packet)) {
            let reason = reason.to_string();
            return Ok(self.pass_over(chain, entry, reason));
        }
        if let Entry::Idle { .. } = entry {
            return Ok(self.pass_over(chain, entry, "it only counts or logs".to_owned()));
        }
        let is_known = !matches!(entry, Entry::Undecoded { .. });
        let is_certain = is_known && matches.iter().all(|m| m.holds(packet));
        if !is_certain && !self.is_assumed(chain, entry, entry.text()) {
            self.step(chain, entry, StepOutcome::Ignored);
            return Ok(Next::Rule);
        }
        let target = match entry {
            Entry::Map { map, .. } => match self.look_up(chain, entry, map) {
                Some(target) => Some(target),
                None => {
                    let reason = "there is no entry for it".to_owned();
                    return Ok(self.pass_over(chain, entry, reason));
                }
            },
            entry => entry.target(),
        };
        let Some((effect, next)) = target.and_then(|target| self.act(target)) else {
            self.step(chain, entry, StepOutcome::Assumed(None));
            return Ok(Next::End(Verdict::Unknown));
        };
        let outcome = match is_certain {
            true => StepOutcome::Taken(effect),
            false => StepOutcome::Assumed(Some(effect)),
        };
        self.step(chain, entry, outcome);
        let (called, after) = match next {
            // What it returns to is the rule behind the jump.
            Next::Chain(called) => (called, Next::Rule),
            // And from there it returns to where this chain would.
            Next::Goto(called) => (called, Next::Return),
            next => return Ok(next),
        };
        Ok(match self.chain(called)? {
            Next::End(verdict) => Next::End(verdict),
            _ => after,
        })
    }

    /// The entry of a map for this packet. Where it is not known which one that is, all that are
    /// possible are followed.
    fn look_up(
        &mut self,
        chain: &HookedChain,
        entry: &Entry,
        map: &'a TargetMap,
    ) -> Option<&'a Target> {
        let possible = match map.keys.find(&self.state.packet) {
            Ok(Found::At(at)) => return Some(&map.targets[at]),
            Ok(Found::None) => return map.default.as_ref(),
            Ok(Found::Absent) => return None,
            Err(possible) => possible,
        };
        // A number by chance is always one of those that the map has.
        let by_chance = map.keys.is_by_chance();
        let sure = possible.len() - usize::from(by_chance);
        for at in &possible[..sure] {
            let target = &map.targets[*at];
            if self.is_assumed(chain, entry, format!("{}, with \"{target}\"", entry.text())) {
                return Some(target);
            }
        }
        match possible.last() {
            Some(last) if by_chance => Some(&map.targets[*last]),
            _ => map.default.as_ref(),
        }
    }

    /// Whether a rule that was not decoded is assumed to apply.
    fn is_assumed(&mut self, chain: &HookedChain, entry: &Entry, rule: String) -> bool {
        let handle = match entry {
            Entry::Undecoded { handle, .. } => *handle,
            _ => None,
        };
        self.state.assume(Undecoded {
            table: self.table.name.clone(),
            chain: chain.name.clone(),
            handle,
            by_chance: self.is_by_chance(entry),
            rule,
            applies: false,
        })
    }

    /// Whether all that is not known of a rule is decided by chance.
    fn is_by_chance(&self, entry: &Entry) -> bool {
        let packet = &self.state.packet;
        let matches = entry.matches().iter();
        let mut open = matches.filter(|m| m.evaluate(packet).is_none()).peekable();
        match entry {
            // It is undecoded where more is unknown than its matches.
            Entry::Undecoded { .. } if open.peek().is_none() => false,
            Entry::Undecoded { target: None, .. } => false,
            Entry::Map { map, .. } if map.keys.find(packet).is_err() => map.keys.is_by_chance(),
            _ => open.all(Match::is_by_chance),
        }
    }

    fn pass_over(&mut self, chain: &HookedChain, entry: &Entry, reason: String) -> Next<'a> {
        self.step(chain, entry, StepOutcome::PassedOver(reason));
        Next::Rule
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
    fn act(&mut self, target: &'a Target) -> Option<(Effect, Next<'a>)> {
        let packet = &mut self.state.packet;
        target.change(packet);
        Some(match target {
            Target::Accept => (Effect::Accepted, Next::End(Verdict::Accept)),
            Target::Drop => (Effect::Dropped, Next::End(Verdict::Drop)),
            Target::Return => (Effect::Returned(self.caller()), Next::Return),
            Target::Jump(name) => (Effect::Jumped(name.clone()), Next::Chain(self.find(name)?)),
            Target::Goto(name) => (Effect::Jumped(name.clone()), Next::Goto(self.find(name)?)),
            Target::Reject(with) => (Effect::Rejected(*with), Next::End(Verdict::Reject(*with))),
            Target::Redirect { to_port } => self.redirect(*to_port),
            Target::RedirectAmong(ports) => {
                let own = packet.destination.port();
                self.redirect(ports.map_or(own, PortRange::first))
            }
            Target::Dnat(to) => {
                let end = to.apply(packet.destination);
                self.translate_destination(end, to.is_choice())
            }
            Target::Snat(to) => {
                let end = to.apply(packet.source);
                self.translate_source(end, to.is_choice())
            }
            Target::Masquerade => match self.state.masquerade_address() {
                Some((address, is_choice)) => {
                    let port = self.state.packet.source.port();
                    self.translate_source(SocketAddr::new(address, port), is_choice)
                }
                None => (Effect::NoAddress, Next::End(Verdict::Drop)),
            },
            Target::Netmap(net) => match self.hook {
                Hook::Input | Hook::Postrouting => {
                    let end = mapped(packet.source, net);
                    self.translate_source(end, false)
                }
                _ => {
                    let end = mapped(packet.destination, net);
                    self.translate_destination(end, false)
                }
            },
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
            Target::SaveMark { .. } | Target::SetConnmark { .. } => {
                let mark = packet.connection().map_or(0, |c| c.mark);
                (Effect::ConnectionMarked(mark), Next::Rule)
            }
            Target::CtZone(_) => (Effect::Zone(packet.zone), Next::Rule),
            Target::NoTrack => (Effect::Untracked, Next::Rule),
            Target::Several(targets) => {
                let mut done = (Effect::Nothing, Next::Rule);
                for target in targets {
                    done = self.act(target)?;
                    if !matches!(done.1, Next::Rule) {
                        break;
                    }
                }
                done
            }
        })
    }

    fn find(&self, name: &ChainName) -> Option<&'a HookedChain> {
        self.table.chains.iter().find(|c| c.name == *name)
    }

    fn caller(&self) -> Option<ChainName> {
        let caller = self.inside.len().checked_sub(2)?;
        Some(self.inside[caller].clone())
    }

    /// REDIRECT: to the loopback address on its way out, to an address of the interface that it came
    /// in through on its way in.
    fn redirect(&mut self, port: u16) -> (Effect, Next<'a>) {
        let packet = &self.state.packet;
        let to: Option<IpAddr> = match (self.hook, packet.destination, &packet.in_interface) {
            (Hook::Output, SocketAddr::V4(_), _) => Some(Ipv4Addr::LOCALHOST.into()),
            (Hook::Output, SocketAddr::V6(_), _) => Some(Ipv6Addr::LOCALHOST.into()),
            (_, to, Some(interface)) => self.state.network.redirect_address(interface, to.ip()),
            (_, _, None) => None,
        };
        match to {
            Some(to) => {
                let (_, next) = self.translate_destination(SocketAddr::new(to, port), false);
                (Effect::Redirected(SocketAddr::new(to, port)), next)
            }
            None => (Effect::NoAddress, Next::End(Verdict::Drop)),
        }
    }

    fn translate_destination(&mut self, to: SocketAddr, is_choice: bool) -> (Effect, Next<'a>) {
        self.state.packet.translate(Side::Destination, to);
        let verdict = Verdict::Captured(Capture::Redirect(to), to.port());
        (Effect::Translated { to, is_choice }, Next::End(verdict))
    }

    fn translate_source(&mut self, from: SocketAddr, is_choice: bool) -> (Effect, Next<'a>) {
        self.state.packet.translate(Side::Source, from);
        let effect = Effect::SourceTranslated { from, is_choice };
        (effect, Next::End(Verdict::SourceTranslated))
    }
}

/// The end with the first bits of its address replaced (`xt_NETMAP`).
fn mapped(end: SocketAddr, net: &IpNet) -> SocketAddr {
    let host = match (end.ip(), net.hostmask()) {
        (IpAddr::V4(a), IpAddr::V4(mask)) => u128::from(a.to_bits() & mask.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(mask)) => a.to_bits() & mask.to_bits(),
        _ => 0,
    };
    let address = match net.network() {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | host as u32).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() | host).into(),
    };
    SocketAddr::new(address, end.port())
}
