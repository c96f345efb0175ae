//! Sets of packets as binary decision diagrams: every question about a packet is one about some of
//! its bits. Equal sets are the same node, so that comparing two of them costs nothing.

use crate::netfilter::model::Span;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Not;

/// A set; only of use with the `Sets` that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(u32);

impl Set {
    pub const NONE: Set = Set(0);
    pub const ALL: Set = Set(1);

    fn index(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn is_complement(self) -> bool {
        self.0 & 1 == 1
    }
}

/// What is not in it.
impl Not for Set {
    type Output = Set;

    fn not(self) -> Set {
        Set(self.0 ^ 1)
    }
}

/// The sets of those packets of which a bit is 0, and of those of which it is 1.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    bit: u16,
    zero: Set,
    one: Set,
}

/// Stands below all bits.
const LAST: u16 = u16::MAX;

/// How many results of [`Sets::and`] are kept, a power of two.
const REMEMBERED: usize = 1 << 18;

/// What was found out of something.
pub(super) type Known<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Every set that has been made.
pub(super) struct Sets {
    nodes: Vec<Node>,
    /// Where each node is, by its hash: open addressing, a power of two; 0 is free.
    places: Vec<u32>,
    results: Vec<(Set, Set, Set)>,
    /// How many more steps may be taken.
    steps: u32,
}

impl Sets {
    pub(super) fn new(steps: u32) -> Self {
        let last = Node {
            bit: LAST,
            zero: Set::NONE,
            one: Set::NONE,
        };
        Sets {
            nodes: vec![last],
            places: vec![0; 1 << 12],
            results: vec![(Set::NONE, Set::NONE, Set::NONE); REMEMBERED],
            steps,
        }
    }

    /// How many more steps may be taken.
    pub(super) fn steps_left(&self) -> u32 {
        self.steps
    }

    /// All steps were taken: sets made since then are too small.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps == 0
    }

    /// Takes no more steps.
    pub(super) fn give_up(&mut self) {
        self.steps = 0;
    }

    /// The packets of which this bit is 1.
    pub(super) fn bit(&mut self, bit: u16) -> Set {
        self.make(bit, Set::NONE, Set::ALL)
    }

    pub(super) fn make(&mut self, bit: u16, zero: Set, one: Set) -> Set {
        if zero == one {
            return zero;
        }
        // The first set of a node is never a complement, so that each set is one node.
        if zero.is_complement() {
            return !self.make(bit, !zero, !one);
        }
        Set(self.index_of(Node { bit, zero, one }) << 1)
    }

    /// The number of a node, a new one if there is none like it.
    fn index_of(&mut self, node: Node) -> u32 {
        if self.places.len() < 2 * self.nodes.len() {
            self.places = vec![0; 2 * self.places.len()];
            for index in 1..self.nodes.len() {
                let place = self.place_of(self.nodes[index]);
                self.places[place] = index as u32;
            }
        }
        let place = self.place_of(node);
        if self.places[place] == 0 {
            self.places[place] = self.nodes.len() as u32;
            self.nodes.push(node);
        }
        self.places[place]
    }

    /// Where a node is, or would be.
    fn place_of(&self, node: Node) -> usize {
        let children = u64::from(node.zero.0) << 32 | u64::from(node.one.0);
        let last = self.places.len() - 1;
        let mut place = mixed(mixed(children) ^ u64::from(node.bit)) as usize & last;
        while self.places[place] != 0 && self.nodes[self.places[place] as usize] != node {
            place = (place + 1) & last;
        }
        place
    }

    /// The first bit that a set depends on.
    pub(super) fn first_bit(&self, set: Set) -> u16 {
        self.nodes[set.index()].bit
    }

    /// What is left of the set where this bit is 0 and where it is 1; no bit before it matters.
    pub(super) fn halves(&self, set: Set, bit: u16) -> (Set, Set) {
        let node = self.nodes[set.index()];
        match (node.bit == bit, set.is_complement()) {
            (false, _) => (set, set),
            (true, false) => (node.zero, node.one),
            (true, true) => (!node.zero, !node.one),
        }
    }

    pub(super) fn and(&mut self, a: Set, b: Set) -> Set {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        match (a, b) {
            (Set::NONE, _) => return Set::NONE,
            (Set::ALL, other) => return other,
            _ if a == b => return a,
            _ if a == !b => return Set::NONE,
            _ => {}
        }
        let slot = mixed(u64::from(a.0) << 32 | u64::from(b.0)) as usize % REMEMBERED;
        if let (x, y, result) = self.results[slot]
            && (x, y) == (a, b)
        {
            return result;
        }
        if self.is_exhausted() {
            return Set::NONE;
        }
        self.steps -= 1;
        let bit = self.first_bit(a).min(self.first_bit(b));
        let ((a0, a1), (b0, b1)) = (self.halves(a, bit), self.halves(b, bit));
        let (zero, one) = (self.and(a0, b0), self.and(a1, b1));
        let result = self.make(bit, zero, one);
        self.results[slot] = (a, b, result);
        result
    }

    pub(super) fn or(&mut self, a: Set, b: Set) -> Set {
        !self.and(!a, !b)
    }

    pub(super) fn without(&mut self, a: Set, b: Set) -> Set {
        self.and(a, !b)
    }

    /// Where the two do not agree.
    pub(super) fn differing(&mut self, a: Set, b: Set) -> Set {
        let (only_a, only_b) = (self.without(a, b), self.without(b, a));
        self.or(only_a, only_b)
    }

    /// Whether a packet is in all of these sets.
    pub(super) fn have_common(&mut self, sets: [Set; 3]) -> bool {
        self.find_common(sets, &mut Known::default())
    }

    fn find_common(&mut self, sets: [Set; 3], barren: &mut Known<[Set; 3], ()>) -> bool {
        let [a, b, c] = sets;
        if sets.contains(&Set::NONE) || a == !b || b == !c || a == !c {
            return false;
        }
        if sets.iter().filter(|set| **set != Set::ALL).count() < 2 {
            return true;
        }
        if self.is_exhausted() || barren.contains_key(&sets) {
            return false;
        }
        self.steps -= 1;
        let bit = sets.map(|set| self.first_bit(set)).into_iter().min();
        let halves = sets.map(|set| self.halves(set, bit.unwrap_or(LAST)));
        let found = self.find_common(halves.map(|(zero, _)| zero), barren)
            || self.find_common(halves.map(|(_, one)| one), barren);
        if !found {
            barren.insert(sets, ());
        }
        found
    }

    /// The bits that a set depends on.
    pub(super) fn bits_of(&self, set: Set) -> BTreeSet<u16> {
        let (mut bits, mut open, mut seen) = (BTreeSet::new(), vec![set], Known::default());
        while let Some(set) = open.pop() {
            let node = self.nodes[set.index()];
            if node.bit != LAST && seen.insert(set.index(), ()).is_none() {
                bits.insert(node.bit);
                open.extend([node.zero, node.one]);
            }
        }
        bits
    }

    /// The packets that would be in the set with other bits at these places; none of them is behind
    /// `last`.
    pub(super) fn forgetting(
        &mut self,
        set: Set,
        is_forgotten: &dyn Fn(u16) -> bool,
        last: u16,
    ) -> Set {
        self.forget(set, is_forgotten, last, &mut Known::default())
    }

    fn forget(
        &mut self,
        set: Set,
        is_forgotten: &dyn Fn(u16) -> bool,
        last: u16,
        known: &mut Known<Set, Set>,
    ) -> Set {
        let bit = self.first_bit(set);
        if bit > last || bit == LAST {
            return set;
        }
        if let Some(result) = known.get(&set) {
            return *result;
        }
        let (zero, one) = self.halves(set, bit);
        let zero = self.forget(zero, is_forgotten, last, known);
        let one = self.forget(one, is_forgotten, last, known);
        let result = match is_forgotten(bit) {
            true => self.or(zero, one),
            false => self.make(bit, zero, one),
        };
        known.insert(set, result);
        result
    }

    /// The packets of which some bits, the most significant one first, are a number in one of these
    /// spans.
    pub(super) fn within(&mut self, bits: &[Set], spans: impl IntoIterator<Item = Span>) -> Set {
        let greatest = greatest(bits.len());
        let is_possible = |(first, last): &Span| first <= last && *first <= greatest;
        let mut spans: Vec<Span> = spans.into_iter().filter(is_possible).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, span| {
            let overlap = next.0 <= span.1;
            if overlap {
                span.1 = span.1.max(next.1);
            }
            overlap
        });
        self.divide(bits, 0, &spans)
    }

    /// Those where the bits are added to `first`; all the spans have a number that can come of it.
    fn divide(&mut self, bits: &[Set], first: u128, spans: &[Span]) -> Set {
        let last = first | greatest(bits.len());
        let (bit, bits) = match (spans, bits) {
            ([], _) => return Set::NONE,
            ([span, ..], _) if span.0 <= first && last <= span.1 => return Set::ALL,
            (_, []) => return Set::ALL,
            (_, [bit, bits @ ..]) => (*bit, bits),
        };
        let middle = first | 1 << bits.len();
        let below = &spans[..spans.partition_point(|span| span.0 < middle)];
        let above = &spans[spans.partition_point(|span| span.1 < middle)..];
        let (zero, one) = (
            self.divide(bits, first, below),
            self.divide(bits, middle, above),
        );
        let (zero, one) = (self.without(zero, bit), self.and(bit, one));
        self.or(zero, one)
    }
}

/// The greatest number of so many bits.
fn greatest(bits: usize) -> u128 {
    u128::MAX.checked_shr(128 - bits as u32).unwrap_or_default()
}

/// Spreads the bits of a number (Fibonacci hashing).
fn mixed(number: u64) -> u64 {
    let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

/// A hasher for numbers of nodes, which nobody chooses in order to collide.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64((*b).into()));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0.rotate_left(5) ^ number);
    }
}
