//! The hooks, in the kernel's order, for sets of packets: the counterpart of
//! [`super::super::tracer`].

use super::fields::{Header, Tracked, span_of};
use super::sets::Set;
use super::space::{Bits, Space, constant};
use super::table::{Chains, Flow, GROUPS, Hit, InTable, Led, State, Took, Verdict, Way, add};
use super::{Ended, Fate, Stopped};
use crate::netfilter::model::{
    Base, ConnState, Family, Hook, HookedChain, HookedTable, Interface, PolicyRoute, Rules,
};
use crate::netfilter::trace::network::{self, Network};
use crate::netfilter::trace::tracer::CONNTRACK;
use crate::netfilter::trace::{Start, chains_at};
use ipnet::IpNet;

/// Packets on their way.
pub(super) struct Walker<'w, 'a> {
    pub space: &'w mut Space,
    pub rules: &'a Rules,
    pub network: &'a Network,
    pub hits: Vec<Hit<'a>>,
    pub ends: Vec<Ended>,
    /// As [`InTable::open`].
    pub open: Set,
}

impl<'a> Walker<'_, 'a> {
    /// Follows packets to their ends.
    pub(super) fn follow(&mut self, start: Start, set: Set) -> Result<(), Stopped> {
        let state = State {
            header: Header::new(self.space),
            destination_decided: None,
            source_decided: None,
            led: Led::No,
            way: Way::Unknown,
        };
        let flow = match set {
            Set::NONE => Flow::new(),
            set => vec![(state, set)],
        };
        match start {
            Start::Here => self.go_out(flow),
            Start::Outside => self.come_in(flow),
        }
    }

    fn go_out(&mut self, flow: Flow) -> Result<(), Stopped> {
        let flow = self.route_out(flow);
        let flow = self.hook(Hook::Output, flow)?;
        let flow = self.leave_by_way(flow);
        let flow = self.hook(Hook::Postrouting, flow)?;
        let mut back = Flow::new();
        for (mut state, set) in flow {
            match state.way {
                Way::Out(number) => self.sent(number, false, state, set),
                _ => {
                    state.header.owned = Set::NONE;
                    state.header.out_interface = None;
                    let lo = self.space.number(&Interface::LOOPBACK);
                    state.header.in_interface = constant(lo, 16);
                    add(self.space, &mut back, state, set);
                }
            }
        }
        let flow = self.hook(Hook::Prerouting, back)?;
        self.deliver(flow)
    }

    /// The first route: what has none, or cannot be bound, ends here.
    fn route_out(&mut self, flow: Flow) -> Flow {
        let mut routed = Flow::new();
        for (state, set) in flow {
            for (way, set) in self.routes(&state.header, set) {
                let mut state = state.clone();
                state.way = way;
                add(self.space, &mut routed, state, set);
            }
        }
        self.leave_by_way(routed)
    }

    /// Packets get the interface that their route leads through; those without a route end here.
    fn leave_by_way(&mut self, flow: Flow) -> Flow {
        let mut leaving = Flow::new();
        for (mut state, set) in flow {
            let through = match state.way {
                Way::Here => Some(Interface::LOOPBACK),
                Way::Out(number) => self.space.interfaces[number].clone(),
                Way::Nowhere | Way::Unknown => None,
            };
            match through {
                None => self.end(Fate::NoRoute, state, set),
                through => {
                    state.header.out_interface = through;
                    add(self.space, &mut leaving, state, set);
                }
            }
        }
        leaving
    }

    fn come_in(&mut self, flow: Flow) -> Result<(), Stopped> {
        let flow = self.hook(Hook::Prerouting, flow)?;
        let (mut here, mut through) = (Flow::new(), Flow::new());
        for (mut state, set) in flow {
            for (way, set) in self.routes(&state.header, set) {
                state.way = way;
                let to = if way == Way::Here {
                    &mut here
                } else {
                    &mut through
                };
                add(self.space, to, state.clone(), set);
            }
        }
        self.deliver(here)?;
        let mut flow = self.leave_by_way(through);
        for hook in [Hook::Forward, Hook::Postrouting] {
            flow = self.hook(hook, flow)?;
        }
        for (state, set) in flow {
            if let Way::Out(number) = state.way {
                self.sent(number, true, state, set);
            }
        }
        Ok(())
    }

    /// The routes of packets ([`Network::route`]).
    fn routes(&mut self, header: &Header, set: Set) -> Vec<(Way, Set)> {
        let address = header.destination.address.clone();
        let network = self.network;
        let mut here = self.space.own(network, &address);
        for route in &network.policy_routes {
            let marked = self.marked(header, route);
            here = self.space.sets.or(here, marked);
        }
        let mut found = vec![(Way::Here, self.space.sets.and(set, here))];
        let mut left = self.space.sets.without(set, here);
        for (net, way) in self.longest_first() {
            let within = self.space.addressed(&address, [span_of(&net)]);
            let some = self.space.sets.and(left, within);
            left = self.space.sets.without(left, some);
            found.push((way, some));
        }
        found.push((Way::Nowhere, left));
        found.retain(|(_, set)| *set != Set::NONE);
        found
    }

    fn marked(&mut self, header: &Header, route: &PolicyRoute) -> Set {
        match route.family == self.space.family {
            true => {
                let mark = (route.mark.into(), route.mark.into());
                self.space.sets.within(&header.mark, [mark])
            }
            false => Set::NONE,
        }
    }

    fn longest_first(&self) -> Vec<(IpNet, Way)> {
        let routes = self.network.routes.iter();
        let routes = routes.filter(|(net, _)| Family::of(net.addr()) == self.space.family);
        let mut routes: Vec<(IpNet, Way)> = routes
            .map(|(net, way)| {
                let way = match way {
                    network::NextHop::Local => Way::Here,
                    network::NextHop::Out { through, .. } => {
                        Way::Out(self.space.number(through) as usize)
                    }
                };
                (*net, way)
            })
            .collect();
        routes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        routes
    }

    fn deliver(&mut self, flow: Flow) -> Result<(), Stopped> {
        for (state, set) in self.hook(Hook::Input, flow)? {
            let fate = match state.led {
                Led::No => Fate::Direct,
                Led::Translated => Fate::Redirected,
                Led::Tproxied(port) => Fate::Tproxied { port },
            };
            self.end(fate, state, set);
        }
        Ok(())
    }

    fn sent(&mut self, number: usize, forwarded: bool, state: State, set: Set) {
        let through = self.space.interfaces[number].clone();
        let through = through.unwrap_or(Interface::LOOPBACK);
        self.end(Fate::Sent { through, forwarded }, state, set);
    }

    fn end(&mut self, fate: Fate, state: State, set: Set) {
        let ended = Ended::new(self.space, fate, state, set);
        match self.ends.iter_mut().find(|other| other.is_alike(&ended)) {
            Some(other) => other.set = self.space.sets.or(other.set, set),
            None => self.ends.push(ended),
        }
    }

    /// All base chains of one hook; what goes on.
    fn hook(&mut self, hook: Hook, mut flow: Flow) -> Result<Flow, Stopped> {
        if flow.is_empty() {
            return Ok(flow);
        }
        for (table, chain, base) in chains_at(self.rules, self.space.family, hook) {
            if base.priority > CONNTRACK {
                flow = self.track(flow);
            }
            if flow.len().max(self.ends.len()) > GROUPS {
                return Err(Stopped::Bounded);
            }
            let chains = table.chains.iter().map(|c| (&c.name, c)).collect();
            let mut next = Flow::new();
            for (state, set) in flow {
                let asked = match base.is_nat {
                    true => self.asked_by_nat(&state, base.hook),
                    false => Set::ALL,
                };
                let others = self.space.sets.without(set, asked);
                add(self.space, &mut next, state.clone(), others);
                let set = self.space.sets.and(set, asked);
                self.table(table, &chains, chain, base, (state, set), &mut next)?;
            }
            flow = next;
        }
        flow = self.track(flow);
        // Where no rule changed it, it is settled that nothing does.
        let mut settled = Flow::new();
        for (state, set) in flow {
            let first = self.first_packets(&state.header);
            let others = self.space.sets.without(set, first);
            let set = self.space.sets.and(set, first);
            add(self.space, &mut settled, state.clone(), others);
            let mut state = state;
            decided_mut(&mut state, hook).get_or_insert(hook);
            add(self.space, &mut settled, state, set);
        }
        Ok(settled)
    }

    /// Conntrack's own look.
    fn track(&mut self, flow: Flow) -> Flow {
        let mut tracked = Flow::new();
        for (mut state, set) in flow {
            if state.header.tracked == Tracked::NotYet {
                state.header.tracked = Tracked::Yes;
            }
            add(self.space, &mut tracked, state, set);
        }
        tracked
    }

    fn first_packets(&mut self, header: &Header) -> Set {
        let new = self.space.in_state(header, ConnState::New);
        let related = self.space.in_state(header, ConnState::Related);
        self.space.sets.or(new, related)
    }

    /// The packets that nat is asked about.
    fn asked_by_nat(&mut self, state: &State, hook: Hook) -> Set {
        match decided_mut(&mut state.clone(), hook) {
            Some(_) => Set::NONE,
            None => self.first_packets(&state.header),
        }
    }

    /// One base chain; what goes on is added to `next`.
    fn table(
        &mut self,
        table: &'a HookedTable,
        chains: &Chains<'a>,
        chain: &'a HookedChain,
        base: Base,
        (state, set): (State, Set),
        next: &mut Flow,
    ) -> Result<(), Stopped> {
        if set == Set::NONE {
            return Ok(());
        }
        let before = (
            state.header.destination.address.clone(),
            state.header.mark.clone(),
        );
        let mut inside = InTable::new(
            self.space,
            self.network,
            (table, chains),
            base,
            &mut self.hits,
        );
        let rest = inside.chain(chain, vec![(state, set)])?;
        let policy = match base.accepts {
            true => Verdict::Accept,
            false => Verdict::Drop,
        };
        let (mut verdicts, open) = (inside.verdicts, inside.open);
        self.open = self.space.sets.or(self.open, open);
        for (state, set) in rest {
            if policy == Verdict::Drop {
                self.hits.push(Hit {
                    table,
                    base,
                    chain,
                    rules: &[],
                    took: Took::Dropped,
                    set,
                });
            }
            verdicts.push((policy, state, set));
        }
        for (verdict, mut state, set) in verdicts {
            match verdict {
                Verdict::Accept => {}
                Verdict::Drop => {
                    self.end(Fate::Dropped, state, set);
                    continue;
                }
                Verdict::Reject(with) => {
                    self.end(Fate::Rejected(with), state, set);
                    continue;
                }
                Verdict::Unknown => {
                    self.end(Fate::Unknown, state, set);
                    continue;
                }
                Verdict::SourceTranslated => {
                    *decided_mut(&mut state, base.hook) = Some(base.hook);
                }
                Verdict::Translated => {
                    *decided_mut(&mut state, base.hook) = Some(base.hook);
                    if state.led == Led::No {
                        state.led = Led::Translated;
                    }
                }
                Verdict::Tproxied(port) => {
                    if !matches!(state.led, Led::Tproxied(_)) {
                        state.led = Led::Tproxied(port);
                    }
                }
            }
            self.reroute(base, &before, state, set, next);
        }
        Ok(())
    }

    /// At OUTPUT the route is looked up again where nat changed the address, or a rule the mark. That
    /// matters, and is asked, only of packets that another route would lead elsewhere: of all packets
    /// there may be no small set of those whose mark changed.
    fn reroute(
        &mut self,
        base: Base,
        (address, mark): &(Bits, Bits),
        state: State,
        set: Set,
        next: &mut Flow,
    ) {
        let pairs = match base.hook == Hook::Output {
            true if base.is_nat => (address, &state.header.destination.address),
            true if base.reroutes => (mark, &state.header.mark),
            _ => return add(self.space, next, state, set),
        };
        for (way, some) in self.routes(&state.header, set) {
            let changed = match way == state.way {
                true => Set::NONE,
                false => self.space.unequal(some, pairs.0, pairs.1),
            };
            let same = self.space.sets.without(some, changed);
            add(self.space, next, state.clone(), same);
            let rerouted = State {
                way,
                ..state.clone()
            };
            add(self.space, next, rerouted, changed);
        }
    }
}

fn decided_mut(state: &mut State, hook: Hook) -> &mut Option<Hook> {
    match hook {
        Hook::Prerouting | Hook::Output | Hook::Forward => &mut state.destination_decided,
        Hook::Input | Hook::Postrouting => &mut state.source_decided,
    }
}
