//! Draws a chart, from the ends of packets backwards: a node is made after those that it leads to.

use super::{Arrow, Label, Node, Way};
use crate::mesh::managed::stem_of;
use crate::netfilter::model::{
    Entry, Family, Hook, HookedChain, HookedTable, Match, Rules, Target, Test,
};
use crate::netfilter::trace::chains_at;

pub(super) struct Drawing<'a> {
    rules: &'a Rules,
    family: Family,
    nodes: Vec<Node>,
    /// Where a packet ends that nothing stops.
    end: usize,
    drawn: Vec<(Call<'a>, Drawn)>,
    /// The chains that are being drawn, from the base chain on.
    inside: Vec<&'a HookedChain>,
}

/// Where packets go from a base chain and the chains that it calls.
#[derive(Clone, Copy, PartialEq)]
struct Exits {
    hook: Hook,
    accepted: usize,
    /// Nat has decided: its other chains at this hook are skipped.
    translated: usize,
    redirected: usize,
}

/// A chain as it is entered.
#[derive(Clone, PartialEq)]
struct Call<'a> {
    table: &'a str,
    chain: &'a str,
    exits: Exits,
    /// Where the chain returns to.
    back: usize,
    /// What is known of the protocol of every packet that enters it.
    known: Vec<&'a Match>,
}

#[derive(Clone, Copy)]
struct Drawn {
    node: usize,
    /// Some packets return to the caller.
    returns: bool,
}

/// Where a rule leads.
#[derive(Clone, Copy)]
struct Led {
    node: usize,
    /// Some packets return to the caller of its chain.
    returns: bool,
    /// Some packets come back to the next rule.
    goes_on: bool,
}

impl Led {
    fn to(node: usize) -> Self {
        Led {
            node,
            returns: false,
            goes_on: false,
        }
    }
}

/// The part of a chain that is drawn, from its last rule backwards.
struct Rest {
    /// Each rule with the nodes that it leads to; the last rule first.
    rules: Vec<(String, Vec<usize>)>,
    /// Some packets reach the end of the chain.
    open: bool,
    returns: bool,
}

impl<'a> Drawing<'a> {
    /// The nodes of a family's chart, in the order in which packets come to them.
    pub(super) fn of(rules: &'a Rules, family: Family) -> Vec<Node> {
        let mut drawing = Drawing {
            rules,
            family,
            nodes: Vec::new(),
            end: 0,
            drawn: Vec::new(),
            inside: Vec::new(),
        };
        drawing.end = drawing.leaf(Label::Direct);
        let starts = [drawing.outbound(), drawing.inbound()];
        drawing.finish(starts)
    }

    /// OUTPUT and POSTROUTING. What is for this namespace comes in again through lo, where nat has
    /// decided already.
    fn outbound(&mut self) -> usize {
        let input = self.hook(Hook::Input, false, self.end, self.end);
        let again = self.hook(Hook::Prerouting, false, input, input);
        let sent = self.route(again, self.end);
        let leaving = self.hook(Hook::Postrouting, true, sent, sent);
        let redirected = if leaving == sent { again } else { leaving };
        let first = self.hook(Hook::Output, true, leaving, redirected);
        self.node(Label::Process, otherwise(first))
    }

    /// PREROUTING and INPUT, or FORWARD and POSTROUTING.
    fn inbound(&mut self) -> usize {
        let input = self.hook(Hook::Input, true, self.end, self.end);
        let leaving = self.hook(Hook::Postrouting, true, self.end, self.end);
        let forwarded = self.hook(Hook::Forward, true, leaving, leaving);
        let arrived = self.route(input, forwarded);
        let first = self.hook(Hook::Prerouting, true, arrived, input);
        self.node(Label::Outside, otherwise(first))
    }

    fn route(&mut self, here: usize, elsewhere: usize) -> usize {
        if here == elsewhere {
            return here;
        }
        let ways = [(Way::Here, here), (Way::Elsewhere, elsewhere)];
        let arrows = ways.map(|(way, to)| Arrow { way, to });
        self.node(Label::Route, arrows.into())
    }

    /// The first base chain of a hook, or what comes after the hook: `next`, for redirected packets
    /// `redirected`.
    fn hook(&mut self, hook: Hook, nat: bool, mut next: usize, redirected: usize) -> usize {
        let mut exits = Exits {
            hook,
            accepted: next,
            translated: next,
            redirected,
        };
        for (table, chain, base) in chains_at(self.rules, self.family, hook)
            .into_iter()
            .rev()
            .filter(|(_, _, base)| nat || !base.is_nat)
        {
            exits.accepted = next;
            next = match base.accepts {
                true => self.chain(table, chain, exits, next, Vec::new()).node,
                false => self.dropping(table, chain, exits),
            };
            if !base.is_nat && next != exits.accepted {
                (exits.translated, exits.redirected) = (next, next);
            }
        }
        next
    }

    /// A base chain whose policy drops.
    fn dropping(&mut self, table: &'a HookedTable, chain: &'a HookedChain, exits: Exits) -> usize {
        let dropped = self.leaf(Label::Dropped);
        let drawn = self.chain(table, chain, exits, dropped, Vec::new());
        match drawn.node == dropped {
            true => self.node(label(table, chain), otherwise(dropped)),
            false => drawn.node,
        }
    }

    /// A chain; `back` itself if it changes nothing about where packets go.
    fn chain(
        &mut self,
        table: &'a HookedTable,
        chain: &'a HookedChain,
        exits: Exits,
        back: usize,
        known: Vec<&'a Match>,
    ) -> Drawn {
        let call = Call {
            table: &table.name,
            chain: chain.name.as_str(),
            exits,
            back,
            known,
        };
        if let Some((_, drawn)) = self.drawn.iter().find(|(other, _)| *other == call) {
            return *drawn;
        }
        // The chains that it calls return to it.
        let this = self.nodes.len();
        self.nodes.push(Node {
            label: label(table, chain),
            arrows: Vec::new(),
        });
        self.inside.push(chain);
        let mut rest = Rest {
            rules: Vec::new(),
            open: true,
            returns: true,
        };
        for entry in chain.rules.iter().rev() {
            self.rule(table, entry, &call, this, &mut rest);
        }
        self.inside.pop();
        let returns = rest.returns;
        let node = match rest.rules.is_empty() && rest.open {
            true => back,
            false => {
                self.nodes[this].arrows = rest.arrows(back);
                self.merged(this)
            }
        };
        let drawn = Drawn { node, returns };
        self.drawn.push((call, drawn));
        drawn
    }

    /// Puts a rule before the rest of its chain.
    fn rule(
        &mut self,
        table: &'a HookedTable,
        entry: &'a Entry,
        call: &Call<'a>,
        this: usize,
        rest: &mut Rest,
    ) {
        let mut known = call.known.clone();
        known.extend(entry.matches().iter().filter(|m| is_of_protocol(m)));
        let always = matches!(entry, Entry::Known(_))
            && entry.matches().iter().all(|m| call.known.contains(&m));
        let after = if rest.rules.is_empty() && rest.open {
            call.back
        } else {
            this
        };
        let targets: Vec<&Target> = match entry {
            Entry::Idle { .. } => return,
            Entry::Map { map, .. } => map.targets.iter().chain(&map.default).collect(),
            entry => entry.target().into_iter().collect(),
        };
        let mut led: Vec<Led> = Vec::new();
        for target in &targets {
            led.extend(self.target(table, target, call, after, &known));
        }
        if targets.is_empty() {
            led.push(Led::to(self.leaf(Label::Undetermined)));
        }
        // What leads to the next rule as if nothing had matched is not shown.
        led.retain(|led| led.node != after);
        if !led.is_empty() {
            let ends = always && led.iter().all(|led| !led.goes_on);
            rest.put(name_of(entry), &led, ends, call.back);
        }
    }

    /// Where a target leads; nothing if it is the next rule.
    fn target(
        &mut self,
        table: &'a HookedTable,
        target: &'a Target,
        call: &Call<'a>,
        after: usize,
        known: &[&'a Match],
    ) -> Option<Led> {
        let exits = call.exits;
        let node = match target {
            Target::Return => {
                return Some(Led {
                    returns: true,
                    ..Led::to(call.back)
                });
            }
            Target::Jump(name) | Target::Goto(name) => {
                let Some(called) = table.chains.iter().find(|c| c.name == *name) else {
                    return Some(Led::to(self.leaf(Label::Undetermined)));
                };
                // The kernel refuses a chain that leads back to itself.
                if self.inside.iter().any(|c| c.name == *name) {
                    return None;
                }
                let back = match target {
                    Target::Goto(_) => call.back,
                    _ => after,
                };
                let drawn = self.chain(table, called, exits, back, known.to_vec());
                return Some(Led {
                    node: drawn.node,
                    returns: drawn.returns && back == call.back,
                    goes_on: drawn.returns && back != call.back,
                });
            }
            Target::Several(targets) => {
                let mut targets = targets.iter().rev();
                return targets.find_map(|t| self.target(table, t, call, after, known));
            }
            Target::Accept => exits.accepted,
            Target::Drop => self.leaf(Label::Dropped),
            Target::Reject(_) => self.leaf(Label::Refused),
            Target::Redirect { to_port } => {
                let label = Label::Port {
                    port: *to_port,
                    transparent: false,
                };
                self.through(label, exits.redirected)
            }
            Target::Tproxy { on_port, .. } => {
                let label = Label::Port {
                    port: *on_port,
                    transparent: true,
                };
                self.through(label, exits.accepted)
            }
            Target::RedirectAmong(_) => {
                self.through(Label::Translated(target.to_string()), exits.redirected)
            }
            Target::Snat(_) | Target::Masquerade => exits.translated,
            Target::Netmap(_) if matches!(exits.hook, Hook::Input | Hook::Postrouting) => {
                exits.translated
            }
            Target::Dnat(_) | Target::Netmap(_) => {
                self.through(Label::Translated(target.to_string()), exits.translated)
            }
            Target::Mark { .. }
            | Target::SaveMark { .. }
            | Target::RestoreMark { .. }
            | Target::SetConnmark { .. }
            | Target::CtZone(_)
            | Target::NoTrack => return None,
        };
        Some(Led::to(node))
    }

    /// What becomes of a packet, and where it goes then; the end itself is not shown behind it.
    fn through(&mut self, label: Label, next: usize) -> usize {
        match next == self.end {
            true => self.leaf(label),
            false => self.node(label, otherwise(next)),
        }
    }

    fn leaf(&mut self, label: Label) -> usize {
        self.node(label, Vec::new())
    }

    fn node(&mut self, label: Label, arrows: Vec<Arrow>) -> usize {
        self.nodes.push(Node { label, arrows });
        self.merged(self.nodes.len() - 1)
    }

    /// The first node that is the same as this one.
    fn merged(&self, this: usize) -> usize {
        let same = self.nodes.iter().position(|n| *n == self.nodes[this]);
        same.unwrap_or(this)
    }

    /// The nodes that packets come to, in the order in which they do.
    fn finish(mut self, starts: [usize; 2]) -> Vec<Node> {
        let mut order = self.reached(starts);
        for node in order.clone() {
            if let Some(other) = self.more_open(node, &order) {
                let arrows = self.nodes.iter_mut().flat_map(|n| &mut n.arrows);
                arrows.filter(|a| a.to == node).for_each(|a| a.to = other);
                order = self.reached(starts);
            }
        }
        let mut places = vec![0; self.nodes.len()];
        for (place, at) in order.iter().enumerate() {
            places[*at] = place;
        }
        let mut nodes: Vec<Node> = order.iter().map(|at| self.nodes[*at].clone()).collect();
        let is_changed = |n: &Node| matches!(n.label, Label::Port { .. } | Label::Translated(_));
        let are_followed = nodes.iter().any(|n| is_changed(n) && !n.arrows.is_empty());
        for node in &mut nodes {
            for arrow in &mut node.arrows {
                arrow.to = places[arrow.to];
            }
            if node.label == Label::Direct && are_followed {
                node.label = Label::Accepted;
            }
        }
        nodes
    }

    fn reached(&self, starts: [usize; 2]) -> Vec<usize> {
        let mut order = Vec::from(starts);
        let mut is_reached = vec![false; self.nodes.len()];
        starts.iter().for_each(|start| is_reached[*start] = true);
        let mut at = 0;
        while let Some(node) = order.get(at) {
            for arrow in &self.nodes[*node].arrows {
                if !std::mem::replace(&mut is_reached[arrow.to], true) {
                    order.push(arrow.to);
                }
            }
            at += 1;
        }
        order
    }

    /// The same chain, entered by packets of more protocols, some of which reach its end. It is drawn
    /// once.
    fn more_open(&self, node: usize, reached: &[usize]) -> Option<usize> {
        let this = &self.nodes[node];
        if !matches!(this.label, Label::Chain { .. }) {
            return None;
        }
        let is_more_open = |at: &usize| {
            let other = &self.nodes[*at];
            let last = other.arrows.split_last();
            let open = last.filter(|(last, _)| last.way == Way::Otherwise);
            open.is_some_and(|(_, rules)| rules == this.arrows && other.label == this.label)
        };
        reached.iter().copied().find(is_more_open)
    }
}

impl Rest {
    /// A rule in front. `ends`: no packet goes from it to the rest.
    fn put(&mut self, name: String, led: &[Led], ends: bool, back: usize) {
        if ends {
            self.rules.clear();
            self.open = led.iter().all(|led| led.node == back);
            self.returns = self.open;
        }
        self.returns |= led.iter().any(|led| led.returns);
        if ends && self.open {
            return;
        }
        let mut to: Vec<usize> = led.iter().map(|led| led.node).collect();
        to.dedup();
        let rule = (name, to);
        // One rule for each of several values is shown once.
        if self.rules.last() != Some(&rule) {
            self.rules.push(rule);
        }
    }

    fn arrows(self, back: usize) -> Vec<Arrow> {
        let mut arrows: Vec<Arrow> = Vec::new();
        for (at, (name, targets)) in self.rules.into_iter().rev().enumerate() {
            for to in targets {
                add(&mut arrows, at + 1, &name, to);
            }
        }
        if self.open {
            arrows.extend(otherwise(back));
        }
        arrows
    }
}

/// Adds a rule to the arrow that leads where it does, and its position to those of its name there.
fn add(arrows: &mut Vec<Arrow>, position: usize, name: &str, to: usize) {
    let new = (vec![position], name.to_owned());
    let Some(arrow) = arrows.iter_mut().find(|arrow| arrow.to == to) else {
        let way = Way::Rules(vec![new]);
        return arrows.push(Arrow { way, to });
    };
    if let Way::Rules(rules) = &mut arrow.way {
        match rules.iter_mut().find(|(_, other)| other == name) {
            Some((positions, _)) => positions.push(position),
            None => rules.push(new),
        }
    }
}

fn otherwise(to: usize) -> Vec<Arrow> {
    let way = Way::Otherwise;
    vec![Arrow { way, to }]
}

fn label(table: &HookedTable, chain: &HookedChain) -> Label {
    Label::Chain {
        table: table.name.clone(),
        chain: chain.name.to_string(),
    }
}

/// A match that stays true of a packet in all chains of a hook, and that rules repeat.
fn is_of_protocol(m: &Match) -> bool {
    matches!(m.test, Test::Protocol(_))
}

/// The rule's id, without what is a value in it; the text of a foreign one.
fn name_of(entry: &Entry) -> String {
    match entry.id() {
        Some(id) => stem_of(id).trim_end_matches('-').to_owned(),
        None => entry.text(),
    }
}
