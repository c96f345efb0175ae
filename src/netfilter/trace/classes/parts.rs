//! A set of packets described field by field, in as few parts as are found without a search.

use super::sets::{Known, Set};
use super::space::{Dimension, Space};
use crate::netfilter::model::Span;

/// Packets by the values of their fields. A field that is not listed may have any value.
pub type Part = Vec<Values>;

/// What a field may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    pub dimension: Dimension,
    /// It has none of the values.
    pub not: bool,
    /// The first and the last value of each run; of marks a value and the mask.
    pub values: Vec<Span>,
}

/// How many parts a description has at most.
const PARTS: usize = 256;
/// How many runs of values it has at most in one field.
const RUNS: usize = 100_000;

/// The fields in the order in which a description does without them.
const LEAST_TELLING: [Dimension; 13] = [
    Dimension::SourcePort,
    Dimension::Connmark,
    Dimension::Mark,
    Dimension::Socket,
    Dimension::State,
    Dimension::HasOwner,
    Dimension::InInterface,
    Dimension::Source,
    Dimension::Gid,
    Dimension::Uid,
    Dimension::DestinationPort,
    Dimension::Protocol,
    Dimension::Destination,
];

/// The packets that have a value of each of these sets: every one is about its field alone.
type Product = Vec<(Dimension, Set)>;

impl Space {
    /// Parts that together hold every packet of the set and, of the packets in `care`, no other one.
    /// Nothing where that takes too many.
    pub fn parts(&mut self, set: Set, care: Set) -> Option<Vec<Part>> {
        let wide = self.and(set, care);
        let bits = self.sets.bits_of(wide);
        let matters = |dimension: &Dimension| {
            let (first, end) = self.place(*dimension);
            bits.range(first..end).next().is_some()
        };
        let telling: Vec<Dimension> = LEAST_TELLING.into_iter().filter(matters).collect();
        let wide = self.without_needless(wide, &telling, set, care);
        let mut products = Vec::new();
        self.split(wide, &Dimension::ALL, &Product::new(), &mut products)?;
        for product in &mut products {
            self.widen(product, set, care);
        }
        let mut products = self.joined(products);
        self.drop_covered(&mut products, care);
        let parts = products
            .into_iter()
            .map(|product| self.part(product, set, care));
        parts.collect()
    }

    /// The packets that would be in `wide` with other values of those fields that make no difference,
    /// looked at in their order.
    fn without_needless(&mut self, wide: Set, fields: &[Dimension], set: Set, care: Set) -> Set {
        let wider = self.forgetting(wide, fields);
        if self.is_within(wider, care, set) {
            return wider;
        }
        let (first, rest) = fields.split_at(fields.len() / 2);
        if first.is_empty() {
            return wide;
        }
        let wide = self.without_needless(wide, first, set, care);
        self.without_needless(wide, rest, set, care)
    }

    /// Whether all packets of `one` that are in `care` are in `other`.
    fn is_within(&mut self, one: Set, care: Set, other: Set) -> bool {
        !self.sets.have_common([one, care, !other])
    }

    /// The packets that would be in the set with other values of these fields.
    fn forgetting(&mut self, set: Set, fields: &[Dimension]) -> Set {
        let places: Vec<(u16, u16)> = fields.iter().map(|field| self.place(*field)).collect();
        let is_forgotten = |bit| {
            places
                .iter()
                .any(|(first, end)| (*first..*end).contains(&bit))
        };
        let last = places
            .iter()
            .map(|(_, end)| end - 1)
            .max()
            .unwrap_or_default();
        self.sets.forgetting(set, &is_forgotten, last)
    }

    /// Divides a set by its fields, from the first of these on.
    fn split(
        &mut self,
        set: Set,
        fields: &[Dimension],
        before: &Product,
        found: &mut Vec<Product>,
    ) -> Option<()> {
        let Some((dimension, fields)) = fields.split_first() else {
            found.push(before.clone());
            return (found.len() <= PARTS).then_some(());
        };
        let (_, end) = self.place(*dimension);
        for rest in self.sets.behind(set, end) {
            let values = self.sets.leading(set, end, rest);
            let mut product = before.clone();
            if values != Set::ALL {
                product.push((*dimension, values));
            }
            self.split(rest, fields, &product, found)?;
        }
        Some(())
    }

    /// Leaves out the fields that make no difference.
    fn widen(&mut self, product: &mut Product, set: Set, care: Set) {
        for dimension in LEAST_TELLING {
            let mut wider = product.clone();
            wider.retain(|(d, _)| *d != dimension);
            if wider.len() == product.len() {
                continue;
            }
            let packets = self.packets(&wider);
            if self.is_within(packets, care, set) {
                *product = wider;
            }
        }
    }

    fn packets(&mut self, product: &Product) -> Set {
        let fields = product.iter();
        fields.fold(Set::ALL, |packets, (_, values)| self.and(packets, *values))
    }

    /// Makes one of products that differ in one field only.
    fn joined(&mut self, products: Vec<Product>) -> Vec<Product> {
        let mut joined: Vec<Product> = Vec::new();
        for product in products {
            let differing = joined.iter_mut().find_map(|other| {
                let same = other.iter().map(|f| f.0).eq(product.iter().map(|f| f.0));
                let pairs = other.iter_mut().zip(&product);
                let mut differing = pairs.filter(|(a, b)| a != b);
                let first = differing.next();
                (same && differing.next().is_none()).then_some(first)
            });
            match differing {
                Some(Some((mine, other))) => mine.1 = self.or(mine.1, other.1),
                Some(None) => {}
                None => joined.push(product),
            }
        }
        joined
    }

    /// Leaves out products of which the others hold every packet.
    fn drop_covered(&mut self, products: &mut Vec<Product>, care: Set) {
        let mut at = products.len();
        while at > 0 {
            at -= 1;
            let product = products.remove(at);
            let others = products.iter().fold(Set::NONE, |all, other| {
                let other = self.packets(other);
                self.or(all, other)
            });
            let packets = self.packets(&product);
            if !self.is_within(packets, care, others) {
                products.insert(at, product);
            }
        }
    }

    /// The values of each field, said in the shortest way: packets that are not in `care` may be
    /// among them or not.
    fn part(&mut self, mut product: Product, set: Set, care: Set) -> Option<Part> {
        let mut part = Part::new();
        for at in 0..product.len() {
            let (dimension, least) = product[at];
            let others = product.iter().filter(|(d, _)| *d != dimension).copied();
            let others = self.packets(&others.collect());
            let wrong = self.and(others, care);
            let wrong = self.without(wrong, set);
            let others = Dimension::ALL
                .into_iter()
                .filter(|other| *other != dimension);
            let most = !self.forgetting(wrong, &others.collect::<Vec<_>>());
            let ways = [(least, false), (most, false), (least, true), (most, true)];
            let described = ways.into_iter().filter_map(|(values, not)| {
                let listed = if not { !values } else { values };
                Some((values, not, self.listed(dimension, listed)?))
            });
            let shortest = described.min_by_key(|(_, _, list)| self.length(dimension, list));
            let (values, not, list) = shortest?;
            product[at].1 = values;
            part.push(Values {
                dimension,
                not,
                values: list,
            });
        }
        Some(part)
    }

    /// The values in a set that is about one field.
    fn listed(&self, dimension: Dimension, set: Set) -> Option<Vec<Span>> {
        let (first, end) = self.place(dimension);
        let mut list = List {
            space: self,
            is_mark: matches!(dimension, Dimension::Mark | Dimension::Connmark),
            end,
            found: Vec::new(),
        };
        list.add(set, first, (0, 0))?;
        Some(match dimension.is_address() {
            true => {
                let runs = list.found.into_iter();
                runs.filter_map(|run| self.addresses.range(run)).collect()
            }
            false => list.found,
        })
    }

    /// How long a list is when it is read; addresses are read as prefixes.
    fn length(&self, dimension: Dimension, list: &[Span]) -> u32 {
        match dimension.is_address() {
            true => list.iter().map(|run| prefixes(*run)).sum(),
            false => list.len() as u32,
        }
    }
}

/// How many prefixes make up a run.
pub fn prefixes((first, last): Span) -> u32 {
    let Some(split) = (first ^ last).checked_ilog2() else {
        return 1;
    };
    // Those below and above the number at which first and last part: one for each bit of the length.
    let half = 1 << split;
    let (below, above) = (half - first % half, last % half + 1);
    match (below, above) == (half, half) {
        true => 1,
        false => below.count_ones() + above.count_ones(),
    }
}

/// The values of a set that is about one field, as runs or with masks.
struct List<'s> {
    space: &'s Space,
    is_mark: bool,
    /// The number of the bit behind the field.
    end: u16,
    found: Vec<Span>,
}

impl List<'_> {
    fn add(&mut self, set: Set, bit: u16, (value, mask): Span) -> Option<()> {
        match set {
            Set::NONE => return Some(()),
            Set::ALL => return self.emit(self.end - bit, (value, mask)),
            _ => {}
        }
        let (zero, one) = self.space.sets.halves(set, bit);
        if self.is_mark && zero == one {
            return self.add(set, bit + 1, (value << 1, mask << 1));
        }
        self.add(zero, bit + 1, (value << 1, mask << 1 | 1))?;
        self.add(one, bit + 1, (value << 1 | 1, mask << 1 | 1))
    }

    /// All values that begin with these bits.
    fn emit(&mut self, left: u16, (value, mask): Span) -> Option<()> {
        let shifted = |number: u128| number.checked_shl(left.into()).unwrap_or_default();
        let below = 1u128
            .checked_shl(left.into())
            .map_or(u128::MAX, |next| next - 1);
        let last = shifted(value) | below;
        match self.found.last_mut() {
            _ if self.is_mark => self.found.push((shifted(value), shifted(mask))),
            Some((_, before)) if *before + 1 == shifted(value) => *before = last,
            _ => self.found.push((shifted(value), last)),
        }
        (self.found.len() <= RUNS).then_some(())
    }
}

impl super::sets::Sets {
    /// What is left of a set behind its first bits, for each of their values.
    fn behind(&self, set: Set, end: u16) -> Vec<Set> {
        let (mut found, mut open, mut known) = (Vec::new(), vec![set], Known::default());
        while let Some(set) = open.pop() {
            if set == Set::NONE || known.insert(set, ()).is_some() {
                continue;
            }
            let bit = self.first_bit(set);
            match bit >= end {
                true => found.push(set),
                false => {
                    let (zero, one) = self.halves(set, bit);
                    open.extend([one, zero]);
                }
            }
        }
        found
    }

    /// The values of a set's first bits behind which this is left.
    fn leading(&mut self, set: Set, end: u16, rest: Set) -> Set {
        self.lead(set, end, rest, &mut Known::default())
    }

    fn lead(&mut self, set: Set, end: u16, rest: Set, known: &mut Known<Set, Set>) -> Set {
        let bit = self.first_bit(set);
        if bit >= end {
            return if set == rest { Set::ALL } else { Set::NONE };
        }
        if let Some(result) = known.get(&set) {
            return *result;
        }
        let (zero, one) = self.halves(set, bit);
        let zero = self.lead(zero, end, rest, known);
        let one = self.lead(one, end, rest, known);
        let result = self.make(bit, zero, one);
        known.insert(set, result);
        result
    }
}
