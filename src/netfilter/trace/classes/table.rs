//! A table's chains, rule by rule, for sets of packets: the counterpart of [`super::super::chain`].

use super::Stopped;
use super::addresses::{LINK_LOCAL, localhost};
use super::fields::{End, Header, Tracked, and_mask, span_of};
use super::runs::{addresses, runs};
use super::sets::Set;
use super::space::{Bits, Space, constant};
use crate::netfilter::model::{
    Base, ChainName, Entry, Family, Hook, HookedChain, HookedTable, NatTo, PortRange, RejectWith,
    Side, Target, TargetMap,
};
use crate::netfilter::trace::{JumpLoop, Network};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Where the route of what is sent from here leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Unknown,
    Here,
    /// Through the interface with this number.
    Out(usize),
    Nowhere,
}

/// How packets were led to another socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Led {
    No,
    Translated,
    Tproxied(u16),
}

/// What packets on their way have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub header: Header,
    /// Where nat decided on the connections' destination, and on their source.
    pub destination_decided: Option<Hook>,
    pub source_decided: Option<Hook>,
    pub led: Led,
    pub way: Way,
}

/// Packets on their way: each group once.
pub(super) type Flow = Vec<(State, Set)>;

/// How many groups of packets, or ends of theirs, are kept apart.
pub(super) const GROUPS: usize = 4096;

/// Adds packets to those that have the same in common.
pub(super) fn add(space: &mut Space, flow: &mut Flow, state: State, set: Set) {
    if set == Set::NONE {
        return;
    }
    match flow.iter_mut().find(|(other, _)| *other == state) {
        Some((_, others)) => *others = space.sets.or(*others, set),
        None => flow.push((state, set)),
    }
}

/// How packets leave a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject(RejectWith),
    Translated,
    SourceTranslated,
    Tproxied(u16),
    /// A rule that was not decoded has the last word.
    Unknown,
}

/// What a rule did to the packets that it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    Accepted,
    Dropped,
    Rejected,
    Returned,
    /// To another destination.
    Translated,
    Tproxied,
    /// Something after which they go on.
    Other,
}

/// Packets that a rule applies to, or the policy of a base chain that drops.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    pub table: &'a HookedTable,
    pub base: Base,
    pub chain: &'a HookedChain,
    /// Several where they differ in an address only; none where it is the policy.
    pub rules: &'a [Entry],
    pub took: Took,
    pub set: Set,
}

impl Hit<'_> {
    /// Where the rules stand, which no other rules or policy have.
    pub fn place(&self) -> (*const HookedChain, *const [Entry]) {
        (self.chain, self.rules)
    }
}

/// The chains of a table by their names.
pub(super) type Chains<'a> = HashMap<&'a ChainName, &'a HookedChain>;

/// Packets in one table at one hook.
pub(super) struct InTable<'w, 'a> {
    pub space: &'w mut Space,
    pub network: &'a Network,
    pub table: &'a HookedTable,
    pub base: Base,
    pub hits: &'w mut Vec<Hit<'a>>,
    pub verdicts: Vec<(Verdict, State, Set)>,
    /// The packets of which it is not known whether a rule applies that is not by chance.
    pub open: Set,
    chains: &'w Chains<'a>,
    inside: Vec<&'a HookedChain>,
}

/// Where packets go to from a rule.
#[derive(Default)]
struct Onward {
    /// To the next rule.
    next: Flow,
    /// To where the chain returns to.
    back: Flow,
}

impl<'w, 'a> InTable<'w, 'a> {
    pub(super) fn new(
        space: &'w mut Space,
        network: &'a Network,
        (table, chains): (&'a HookedTable, &'w Chains<'a>),
        base: Base,
        hits: &'w mut Vec<Hit<'a>>,
    ) -> Self {
        InTable {
            space,
            network,
            table,
            base,
            hits,
            verdicts: Vec::new(),
            open: Set::NONE,
            chains,
            inside: Vec::new(),
        }
    }

    /// The packets that come to the end of the chain, or are sent back out of it.
    pub(super) fn chain(
        &mut self,
        chain: &'a HookedChain,
        mut flow: Flow,
    ) -> Result<Flow, Stopped> {
        if self.inside.iter().any(|c| c.name == chain.name) {
            return Err(Stopped::Loop(JumpLoop {
                table: self.table.name.clone(),
                chain: chain.name.clone(),
            }));
        }
        self.inside.push(chain);
        let mut back = Flow::new();
        for run in runs(self.table, &chain.rules) {
            if flow.is_empty() {
                break;
            }
            let groups = flow.len().max(back.len()).max(self.verdicts.len());
            if self.space.sets.is_exhausted() || groups > GROUPS {
                return Err(Stopped::Bounded);
            }
            let mut onward = Onward::default();
            for (state, set) in &mut flow {
                let stay = self.rule(run, state, *set, &mut onward)?;
                *set = stay;
            }
            flow.retain(|(_, set)| *set != Set::NONE);
            for (state, set) in onward.next {
                add(self.space, &mut flow, state, set);
            }
            for (state, set) in onward.back {
                add(self.space, &mut back, state, set);
            }
        }
        for (state, set) in flow {
            add(self.space, &mut back, state, set);
        }
        self.inside.pop();
        Ok(back)
    }

    /// Does what a run of rules says to the packets that it applies to; the others are returned.
    /// Those of which it is not known are both.
    fn rule(
        &mut self,
        run: &'a [Entry],
        state: &State,
        set: Set,
        onward: &mut Onward,
    ) -> Result<Set, Stopped> {
        let (mut surely, mut perhaps, mut open) = (set, set, Set::NONE);
        let listed = addresses(run);
        for (at, m) in run[0].matches().iter().enumerate() {
            let passing = match &listed {
                Some((place, side, nets)) if *place == at => {
                    self.space.passing_one_of(&state.header, *side, nets)
                }
                _ => self.space.passing(m, &state.header, self.network),
            };
            surely = self.space.sets.and(surely, passing.surely);
            let possible = self.space.sets.or(passing.surely, passing.perhaps);
            perhaps = self.space.sets.and(perhaps, possible);
            if !m.is_by_chance() {
                open = self.space.sets.or(open, passing.perhaps);
            }
            if perhaps == Set::NONE {
                return Ok(set);
            }
        }
        let target = match &run[0] {
            Entry::Idle { .. } => return Ok(set),
            // More than its matches is unknown of it.
            Entry::Undecoded { target, .. } if target.is_none() || surely != Set::NONE => {
                open = perhaps;
                surely = Set::NONE;
                target.as_ref()
            }
            Entry::Map { map, .. } => {
                self.add_open(open, perhaps);
                let taken = self.look_up(run, map, state, (surely, perhaps), onward)?;
                return Ok(self.space.sets.without(set, taken));
            }
            entry => entry.target(),
        };
        self.add_open(open, perhaps);
        match target {
            Some(target) => self.act(run, target, state.clone(), perhaps, onward)?,
            None => self.end(run, Verdict::Unknown, state.clone(), perhaps),
        }
        Ok(self.space.sets.without(set, surely))
    }

    /// Does to packets what a map says; returned are those that surely had an entry.
    fn look_up(
        &mut self,
        run: &'a [Entry],
        map: &'a TargetMap,
        state: &State,
        (surely, perhaps): (Set, Set),
        onward: &mut Onward,
    ) -> Result<Set, Stopped> {
        let (values, absent, unknown) = self.space.values(&map.keys, &state.header, self.network);
        if !map.keys.is_by_chance() {
            self.add_open(unknown, perhaps);
        }
        let certain = self.space.sets.without(surely, unknown);
        let (mut left, mut taken) = (self.space.sets.without(perhaps, absent), Set::NONE);
        for (value, target) in values.into_iter().zip(&map.targets) {
            let found = self.space.sets.and(left, value);
            if found == Set::NONE {
                continue;
            }
            self.act(run, target, state.clone(), found, onward)?;
            let sure = self.space.sets.and(found, certain);
            taken = self.space.sets.or(taken, sure);
            // What is not known may be any of them.
            let settled = self.space.sets.without(found, unknown);
            left = self.space.sets.without(left, settled);
            if map.keys.is_by_chance() {
                let one = self.space.sets.and(found, surely);
                taken = self.space.sets.or(taken, one);
            }
        }
        if let Some(target) = &map.default {
            let rest = match map.keys.is_by_chance() {
                true => self.space.sets.without(left, taken),
                false => left,
            };
            self.act(run, target, state.clone(), rest, onward)?;
            let sure = self.space.sets.and(rest, surely);
            taken = self.space.sets.or(taken, sure);
        }
        Ok(taken)
    }

    fn add_open(&mut self, open: Set, among: Set) {
        let open = self.space.sets.and(open, among);
        self.open = self.space.sets.or(self.open, open);
    }

    fn hit(&mut self, run: &'a [Entry], took: Took, set: Set) {
        let Some(chain) = self.inside.last().copied() else {
            return;
        };
        if set != Set::NONE {
            self.hits.push(Hit {
                table: self.table,
                base: self.base,
                chain,
                rules: run,
                took,
                set,
            });
        }
    }

    /// The packets go no further in this table.
    fn end(&mut self, run: &'a [Entry], verdict: Verdict, state: State, set: Set) {
        let took = match verdict {
            Verdict::Accept => Took::Accepted,
            Verdict::Drop => Took::Dropped,
            Verdict::Reject(_) => Took::Rejected,
            Verdict::Translated => Took::Translated,
            Verdict::Tproxied(_) => Took::Tproxied,
            Verdict::SourceTranslated | Verdict::Unknown => Took::Other,
        };
        self.hit(run, took, set);
        let same = |(v, s, _): &&mut (Verdict, State, Set)| *v == verdict && *s == state;
        match self.verdicts.iter_mut().find(same) {
            _ if set == Set::NONE => {}
            Some((_, _, others)) => *others = self.space.sets.or(*others, set),
            None => self.verdicts.push((verdict, state, set)),
        }
    }

    /// Does what a target does ([`Target::change`] and the trace of one packet).
    fn act(
        &mut self,
        run: &'a [Entry],
        target: &'a Target,
        mut state: State,
        set: Set,
        onward: &mut Onward,
    ) -> Result<(), Stopped> {
        match target {
            Target::Accept => self.end(run, Verdict::Accept, state, set),
            Target::Drop => self.end(run, Verdict::Drop, state, set),
            Target::Reject(with) => self.end(run, Verdict::Reject(*with), state, set),
            Target::Return => {
                self.hit(run, Took::Returned, set);
                add(self.space, &mut onward.back, state, set);
            }
            Target::Jump(name) | Target::Goto(name) => match self.find(name) {
                None => self.end(run, Verdict::Unknown, state, set),
                Some(chain) => {
                    self.hit(run, Took::Other, set);
                    let returned = self.chain(chain, vec![(state, set)])?;
                    let to = match target {
                        Target::Goto(_) => &mut onward.back,
                        _ => &mut onward.next,
                    };
                    for (state, set) in returned {
                        add(self.space, to, state, set);
                    }
                }
            },
            Target::Redirect { to_port } => {
                self.redirect(run, constant((*to_port).into(), 16), state, set);
            }
            Target::RedirectAmong(ports) => {
                let port = match ports.map(PortRange::first) {
                    Some(port) => constant(port.into(), 16),
                    None => state.header.destination.port.clone(),
                };
                self.redirect(run, port, state, set);
            }
            Target::Dnat(to) => {
                let end = self.applied(to, &state.header.destination);
                self.translate(run, Side::Destination, end, state, set);
            }
            Target::Snat(to) => {
                let end = self.applied(to, &state.header.source);
                self.translate(run, Side::Source, end, state, set);
            }
            Target::Masquerade => self.masquerade(run, state, set),
            Target::Netmap(net) => {
                let side = match self.base.hook {
                    Hook::Input | Hook::Postrouting => Side::Source,
                    _ => Side::Destination,
                };
                let end = self.mapped(state.header.end(side), net);
                self.translate(run, side, end, state, set);
            }
            Target::Tproxy {
                on_port,
                value,
                mask,
                ..
            } => {
                let value = constant((*value).into(), 32);
                state.header.mark = self.mixed(&state.header.mark, *mask, &value);
                self.end(run, Verdict::Tproxied(*on_port), state, set);
            }
            Target::Several(targets) => {
                let mut flow = vec![(state, set)];
                for target in targets {
                    let mut next = Onward::default();
                    for (state, set) in flow {
                        self.act(run, target, state, set, &mut next)?;
                    }
                    onward.back.extend(next.back);
                    flow = next.next;
                }
                onward.next.extend(flow);
            }
            Target::Mark { .. }
            | Target::SaveMark { .. }
            | Target::RestoreMark { .. }
            | Target::SetConnmark { .. }
            | Target::CtZone(_)
            | Target::NoTrack => {
                self.hit(run, Took::Other, set);
                self.change(target, state, set, onward);
            }
        }
        Ok(())
    }

    /// What a target changes of packets that go on.
    fn change(&mut self, target: &Target, state: State, set: Set, onward: &mut Onward) {
        let connected = match state.header.tracked {
            Tracked::Yes => self.space.connected(&state.header),
            _ => Set::NONE,
        };
        let mut changed = state.clone();
        let header = &mut changed.header;
        let number = |n: u32| constant(n.into(), 32);
        let changes = match target {
            Target::Mark { value, mask } => {
                header.mark = self.mixed(&header.mark, *mask, &number(*value));
                Set::ALL
            }
            Target::SaveMark { nfmask, ctmask } => {
                let value = and_mask(&header.mark, (*nfmask).into());
                header.connmark = self.mixed(&header.connmark, *ctmask, &value);
                connected
            }
            Target::RestoreMark { nfmask, ctmask } => {
                let value = and_mask(&header.connmark, (*ctmask).into());
                header.mark = self.mixed(&header.mark, *nfmask, &value);
                connected
            }
            Target::SetConnmark { value, mask } => {
                header.connmark = self.mixed(&header.connmark, *mask, &number(*value));
                connected
            }
            Target::CtZone(zone) if header.tracked == Tracked::NotYet => {
                header.zone = *zone;
                Set::ALL
            }
            Target::NoTrack if header.tracked == Tracked::NotYet => {
                header.tracked = Tracked::Never;
                // Without a connection there is no mark of one.
                header.connmark = constant(0, 32);
                Set::ALL
            }
            _ => Set::NONE,
        };
        let others = self.space.sets.without(set, changes);
        let set = self.space.sets.and(set, changes);
        add(self.space, &mut onward.next, changed, set);
        add(self.space, &mut onward.next, state, others);
    }

    /// A mark without the bits of `mask`, and those of `value` turned over in it.
    fn mixed(&mut self, mark: &Bits, mask: u32, value: &Bits) -> Bits {
        let places = (0..32).rev();
        let bits = mark.iter().zip(value.iter()).zip(places);
        bits.map(|((mark, value), place)| {
            let kept = match mask >> place & 1 {
                1 => Set::NONE,
                _ => *mark,
            };
            self.space.sets.differing(kept, *value)
        })
        .collect()
    }

    fn find(&self, name: &ChainName) -> Option<&'a HookedChain> {
        self.chains.get(name).copied()
    }

    /// To the loopback address, or to one of the interface that a packet came in through.
    fn redirect(&mut self, run: &'a [Entry], port: Bits, state: State, set: Set) {
        let to = |this: &mut Self, address: IpAddr, set| {
            let address = this.space.constant_address(address);
            let port = port.clone();
            this.translate(
                run,
                Side::Destination,
                End { address, port },
                state.clone(),
                set,
            );
        };
        if self.base.hook == Hook::Output {
            return to(self, localhost(self.space.family), set);
        }
        let destination = &state.header.destination.address;
        let link_local = self.space.addressed(destination, [LINK_LOCAL]);
        let near = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
        let far = self.space.family.unspecified();
        for (number, name) in self.space.interfaces.clone().iter().enumerate() {
            let span = (number as u128, number as u128);
            let here = self.space.sets.within(&state.header.in_interface, [span]);
            let here = self.space.sets.and(set, here);
            for (sample, among) in [(near, link_local), (far, !link_local)] {
                let some = self.space.sets.and(here, among);
                let name = name.as_ref();
                match name.and_then(|name| self.network.redirect_address(name, sample)) {
                    _ if some == Set::NONE => {}
                    Some(address) => to(self, address, some),
                    None => self.end(run, Verdict::Drop, state.clone(), some),
                }
            }
        }
    }

    /// From an address of the interface that packets leave through, of the network that they are
    /// sent to if it has one ([`Network::masquerade_address`]).
    fn masquerade(&mut self, run: &'a [Entry], state: State, set: Set) {
        let Some(through) = state.header.out_interface.clone() else {
            return self.end(run, Verdict::Drop, state, set);
        };
        let links = self.network.links.iter().filter(|l| l.name == through);
        let nets = links.flat_map(|link| &link.addresses);
        let nets: Vec<&IpNet> = nets
            .filter(|net| Family::of(net.addr()) == self.space.family)
            .collect();
        let mut left = set;
        let destination = state.header.destination.address.clone();
        let far = self.space.family.unspecified();
        for to in nets.iter().map(|net| net.addr()).chain([far]) {
            let some = match nets.iter().find(|net| net.addr() == to) {
                Some(net) => {
                    let within = self.space.addressed(&destination, [span_of(net)]);
                    self.space.sets.and(left, within)
                }
                None => left,
            };
            left = self.space.sets.without(left, some);
            match self.network.masquerade_address(&through, to) {
                _ if some == Set::NONE => {}
                Some((address, _)) => {
                    let end = End {
                        address: self.space.constant_address(address),
                        port: state.header.source.port.clone(),
                    };
                    self.translate(run, Side::Source, end, state.clone(), some);
                }
                None => self.end(run, Verdict::Drop, state.clone(), some),
            }
        }
    }

    fn translate(&mut self, run: &'a [Entry], side: Side, end: End, mut state: State, set: Set) {
        state.header.translate(side, end);
        let verdict = match side {
            Side::Source => Verdict::SourceTranslated,
            Side::Destination => Verdict::Translated,
        };
        self.end(run, verdict, state, set);
    }

    /// The end that nat makes of one; of several the first.
    fn applied(&mut self, to: &NatTo, end: &End) -> End {
        End {
            address: match to.addresses {
                Some((first, _)) => self.space.constant_address(first),
                None => end.address.clone(),
            },
            port: match to.ports {
                Some(ports) => constant(ports.first().into(), 16),
                None => end.port.clone(),
            },
        }
    }

    /// The end with the first bits of its address replaced.
    fn mapped(&mut self, end: &End, net: &IpNet) -> End {
        let network = self.space.constant_address(net.network());
        let length = usize::from(net.prefix_len());
        let address = network[..length].iter().chain(&end.address[length..]);
        End {
            address: address.copied().collect(),
            port: end.port.clone(),
        }
    }
}
