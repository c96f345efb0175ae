//! Comparisons of registers with constants and sets.

use super::attributes::Attrs;
use super::registers::Loaded;
use super::sets::Set;
use super::{Data, Held, Never, Reading, place, target_of};
use crate::netfilter::model::{
    AddressSet, ConnState, Family, Field, FieldTest, Interface, Match, Owner, PortRange, PortSet,
    Protocol, Side, Span, Target, TargetMap, Test, address_of,
};
use crate::netfilter::nftables::expr::{Expr, cmp};
use ipnet::IpNet;

const NFT_REG_1: u32 = 1;

#[derive(Clone, Copy)]
enum Order {
    Equal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Reading<'_> {
    /// Evaluates an expression that changes or compares a register; `None` for other kinds.
    pub(super) fn compare(&mut self, expr: &Expr) -> Option<Result<(), Never>> {
        match expr {
            Expr::Cmp { not, value } => self.constant(NFT_REG_1, Order::Equal, *not, value),
            Expr::AtMost(value) => self.constant(NFT_REG_1, Order::AtMost, false, value),
            Expr::AtLeast(value) => self.constant(NFT_REG_1, Order::AtLeast, false, value),
            Expr::Range { not, from, to } => self.range(NFT_REG_1, *not, from, to),
            Expr::Bitwise { mask, xor } => self.bitwise(NFT_REG_1, NFT_REG_1, mask, xor),
            Expr::Lookup { set, not, .. } => self.lookup(set, NFT_REG_1, None, *not),
            Expr::Other { name, data } => self.other(name, &Attrs::new(data)),
            _ => None,
        }
    }

    fn other(&mut self, name: &str, a: &Attrs) -> Option<Result<(), Never>> {
        const NFT_CMP_LT: u32 = 2;
        const NFT_CMP_GT: u32 = 4;
        match name {
            "cmp" => {
                let (order, not) = match a.u32(2)? {
                    cmp::NFT_CMP_EQ => (Order::Equal, false),
                    cmp::NFT_CMP_NEQ => (Order::Equal, true),
                    NFT_CMP_LT => (Order::Less, false),
                    NFT_CMP_GT => (Order::More, false),
                    cmp::NFT_CMP_LTE => (Order::AtMost, false),
                    _ => (Order::AtLeast, false),
                };
                self.constant(a.u32(1)?, order, not, a.value(3)?)
            }
            "range" => self.range(a.u32(1)?, a.u32(2)? == 1, a.value(3)?, a.value(4)?),
            "bitwise" => {
                let is_mask = a.u32(6).unwrap_or(0) == 0;
                match (a.value(4), a.value(5)) {
                    (Some(mask), Some(xor)) if is_mask => {
                        self.bitwise(a.u32(1)?, a.u32(2)?, mask, xor)
                    }
                    _ => self.forget(a.u32(2)?),
                }
            }
            "byteorder" => {
                let (from, to) = (a.u32(1)?, a.u32(2)?);
                let mut held = self.held(from)?.clone();
                if let Held::Fields(loaded) = &mut held {
                    loaded.host_order = false;
                }
                self.registers.insert(place(to), held);
                Some(Ok(()))
            }
            "lookup" => {
                let not = a.u32(5).unwrap_or(0) & 1 != 0;
                self.lookup(&a.text(1)?, a.u32(2)?, a.u32(3), not)
            }
            _ => None,
        }
    }

    /// Marks a register as unknown.
    fn forget(&mut self, register: u32) -> Option<Result<(), Never>> {
        let loaded = Loaded {
            fields: vec![Field::Other("bits".into())],
            length: 16,
            mask: u128::MAX,
            xor: 0,
            host_order: false,
            is_index: false,
        };
        self.registers.insert(place(register), Held::Fields(loaded));
        Some(Ok(()))
    }

    fn bitwise(
        &mut self,
        from: u32,
        to: u32,
        mask: &[u8],
        xor: &[u8],
    ) -> Option<Result<(), Never>> {
        let mut held = self.held(from)?.clone();
        match &mut held {
            Held::Fields(loaded) if loaded.fields.len() == 1 => {
                let (mask, xor) = (loaded.number(mask), loaded.number(xor));
                loaded.mask &= mask;
                loaded.xor = (loaded.xor & mask) ^ xor;
            }
            Held::Constant(bytes) => {
                let both = mask.iter().zip(xor);
                bytes
                    .iter_mut()
                    .zip(both)
                    .for_each(|(b, (m, x))| *b = (*b & m) ^ x);
            }
            _ => return self.forget(to),
        }
        self.registers.insert(place(to), held);
        Some(Ok(()))
    }

    fn constant(
        &mut self,
        register: u32,
        order: Order,
        not: bool,
        value: &[u8],
    ) -> Option<Result<(), Never>> {
        match self.held(register)?.clone() {
            Held::Constant(bytes) => {
                let is = bytes.starts_with(value) != not;
                Some(if is { Ok(()) } else { Err(Never) })
            }
            Held::Fields(loaded) => {
                let spans = match order {
                    Order::Equal => self.split(&loaded, value),
                    order => vec![loaded.ordered(order, value)],
                };
                self.test(&loaded, spans, not);
                Some(Ok(()))
            }
            Held::Mapped(..) => None,
        }
    }

    fn range(
        &mut self,
        register: u32,
        not: bool,
        from: &[u8],
        to: &[u8],
    ) -> Option<Result<(), Never>> {
        let Held::Fields(loaded) = self.held(register)?.clone() else {
            return None;
        };
        let spans = vec![(loaded.number(from), loaded.number(to))];
        self.test(&loaded, spans, not);
        Some(Ok(()))
    }

    /// Splits a constant into the values of the fields.
    fn split(&self, loaded: &Loaded, value: &[u8]) -> Vec<Span> {
        if let [field] = loaded.fields.as_slice() {
            return vec![self.span(loaded, field, value)];
        }
        let mut rest = value;
        let field = |field: &Field| {
            let (one, behind) = rest.split_at(field.length().min(rest.len()));
            rest = behind;
            self.span(loaded, field, one)
        };
        loaded.fields.iter().map(field).collect()
    }

    /// The values of a field that begin with these bytes.
    fn span(&self, loaded: &Loaded, field: &Field, value: &[u8]) -> Span {
        if loaded.is_index {
            let index = value.try_into().map(u32::from_ne_bytes).unwrap_or(0);
            let name = self.context.interfaces.get(&index);
            let name = name.cloned().unwrap_or_else(|| index.to_string());
            let number = name_number(name.as_bytes());
            return (number, number);
        }
        let number = loaded.number(value);
        let missing = field.length().saturating_sub(value.len());
        match (missing, loaded.host_order) {
            (1..16, false) => {
                let first = number << (8 * missing);
                (first, first | low_bits(8 * missing))
            }
            _ => (number, number),
        }
    }

    /// Adds a test of one or several fields with one value each.
    fn test(&mut self, loaded: &Loaded, spans: Vec<Span>, not: bool) {
        let test = match (loaded.fields.as_slice(), loaded.mask) {
            ([field], mask) if mask != u128::MAX => {
                let all = low_bits(8 * field.length());
                let bits = mask & all;
                let value = (spans[0].0 ^ loaded.xor) & all;
                let rest = all & !bits;
                match rest & (rest + 1) == 0 && spans[0].0 == spans[0].1 {
                    true => FieldTest::new(field.clone(), [(value, value | rest)]),
                    false => FieldTest {
                        mask: bits,
                        ..FieldTest::new(field.clone(), [(value, value)])
                    },
                }
            }
            (fields, _) => FieldTest {
                fields: fields.to_vec(),
                mask: u128::MAX,
                values: [spans].into(),
                set: None,
            },
        };
        // Fields that were loaded together are tested one by one.
        if let ([_, _, ..], [value], false) = (test.fields.as_slice(), &*test.values, not) {
            for (field, span) in test.fields.iter().zip(value) {
                self.add(FieldTest::new(field.clone(), [*span]), false);
            }
        } else {
            self.add(test, not);
        }
    }

    fn add(&mut self, test: FieldTest, not: bool) {
        // nft writes the two ends of a range as two comparisons.
        if let (
            Some(Match {
                not: false,
                test: Test::Fields(last),
            }),
            false,
        ) = (self.matches.last_mut(), not)
            && last.fields == test.fields
            && last.mask == u128::MAX
            && test.mask == u128::MAX
            && let ([one], [other]) = (&*last.values, &*test.values)
            && let (&[(a, z)], &[(b, y)]) = (one.as_slice(), other.as_slice())
            && a.max(b) <= z.min(y)
        {
            let both = FieldTest::new(test.fields[0].clone(), [(a.max(b), z.min(y))]);
            **last = both;
            return;
        }
        self.condition(Match {
            not,
            test: Test::Fields(test.into()),
        });
    }

    /// Evaluates a lookup of registers in a set or map.
    fn lookup(
        &mut self,
        name: &str,
        register: u32,
        into: Option<u32>,
        not: bool,
    ) -> Option<Result<(), Never>> {
        let set = self.context.sets.get(name)?;
        let mut loaded = Vec::new();
        let (mut at, end) = (place(register), place(register) + set.key_length as u32);
        while at < end {
            let held = self.registers.get(&at)?;
            if let (Held::Constant(bytes), true) = (held, at == place(register)) {
                let bytes = bytes.clone();
                return self.constant_lookup(set, &bytes, into, not);
            }
            let Held::Fields(fields) = held else {
                return None;
            };
            loaded.push(fields.clone());
            at += (fields.length as u32).next_multiple_of(4);
        }
        let (keys, data) = self.keys(set, &loaded);
        let keys = FieldTest {
            set: (!set.is_nameless).then(|| name.to_owned()),
            ..keys
        };
        self.looked_up(set, keys, data, into, not);
        Some(Ok(()))
    }

    /// What a lookup of fields does: it is a condition, leads to a verdict, or fills a register.
    fn looked_up(
        &mut self,
        set: &Set,
        keys: FieldTest,
        data: Vec<Option<Data>>,
        into: Option<u32>,
        not: bool,
    ) {
        match into {
            None => self.condition(Match {
                not,
                test: Test::Fields(keys.into()),
            }),
            Some(0) => {
                let verdict = |data: &Option<Data>| match data {
                    Some(Data::Verdict(verdict)) => target_of(verdict),
                    _ => Target::Several(Vec::new()),
                };
                self.map = Some(TargetMap {
                    targets: data.iter().map(verdict).collect(),
                    default: set.default.is_some().then(|| verdict(&set.default)),
                    keys,
                });
            }
            Some(register) => {
                let value = |data: Option<Data>| match data {
                    Some(Data::Value(value)) => value,
                    _ => Vec::new(),
                };
                let values = data.into_iter().map(value).collect();
                self.registers
                    .insert(place(register), Held::Mapped(keys, values));
            }
        }
    }

    /// Evaluates a lookup of a constant.
    fn constant_lookup(
        &mut self,
        set: &Set,
        bytes: &[u8],
        into: Option<u32>,
        not: bool,
    ) -> Option<Result<(), Never>> {
        let found = set.elements.iter().find(|e| bytes.starts_with(&e.key));
        match (
            found.and_then(|e| e.data.clone()).or(set.default.clone()),
            into,
        ) {
            (_, None) => Some(if found.is_some() != not {
                Ok(())
            } else {
                Err(Never)
            }),
            (Some(Data::Verdict(verdict)), Some(_)) => {
                self.targets.push(target_of(&verdict));
                Some(Ok(()))
            }
            (Some(Data::Value(value)), Some(register)) => {
                self.registers
                    .insert(place(register), Held::Constant(value));
                Some(Ok(()))
            }
            (None, Some(_)) => Some(Err(Never)),
        }
    }

    /// The keys of a set, and their values.
    fn keys(&self, set: &Set, loaded: &[Loaded]) -> (FieldTest, Vec<Option<Data>>) {
        let fields: Vec<Field> = loaded.iter().flat_map(|l| l.fields.clone()).collect();
        let (values, data): (Vec<Vec<Span>>, Vec<Option<Data>>) = match loaded {
            [one] if one.fields.len() == 1 => {
                let number = |key: &[u8]| self.span(one, &one.fields[0], key).0;
                let spans = set.spans(number).into_iter();
                spans.map(|(span, data)| (vec![span], data)).unzip()
            }
            loaded => {
                let elements = set.elements.iter();
                let spans = elements.map(|e| {
                    let first = self.split_key(loaded, &e.key);
                    let last = e.key_end.as_ref().map(|key| self.split_key(loaded, key));
                    let last = last.unwrap_or_else(|| first.clone());
                    let both = first.iter().zip(last).map(|(a, z)| (a.0, z.1));
                    (both.collect(), e.data.clone())
                });
                spans.unzip()
            }
        };
        // A key may be masked before the lookup.
        let mask = match loaded {
            [one] if one.fields.len() == 1 => one.mask,
            _ => u128::MAX,
        };
        let test = FieldTest {
            fields,
            mask,
            values: values.into(),
            set: None,
        };
        (test, data)
    }

    /// Splits a concatenated key, whose parts fill whole words.
    fn split_key(&self, loaded: &[Loaded], key: &[u8]) -> Vec<Span> {
        let mut rest = key;
        let part = |loaded: &Loaded| {
            let (part, behind) = rest.split_at(loaded.length.min(rest.len()));
            let padding = loaded.length.next_multiple_of(4) - loaded.length;
            rest = behind.get(padding..).unwrap_or_default();
            self.split(loaded, part)
        };
        loaded.iter().flat_map(part).collect()
    }
}

impl Loaded {
    /// Bytes as a number in the byte order of the register.
    fn number(&self, bytes: &[u8]) -> u128 {
        let ordered: Vec<u8> = match self.host_order && cfg!(target_endian = "little") {
            true => bytes.iter().rev().copied().collect(),
            false => bytes.to_vec(),
        };
        let significant = &ordered[ordered.len().saturating_sub(16)..];
        significant
            .iter()
            .fold(0, |number, byte| (number << 8) | u128::from(*byte))
    }

    fn ordered(&self, order: Order, value: &[u8]) -> Span {
        let value = self.number(value);
        let greatest = low_bits(8 * self.fields[0].length());
        match order {
            Order::Equal => (value, value),
            Order::Less => (0, value.saturating_sub(1)),
            Order::AtMost => (0, value),
            Order::More => (value.saturating_add(1), greatest),
            Order::AtLeast => (value, greatest),
        }
    }
}

pub(in super::super) fn low_bits(count: usize) -> u128 {
    match count {
        0 => 0,
        count => u128::MAX >> (128 - count.min(128)),
    }
}

pub(in super::super) fn name_number(name: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..name.len().min(16)].copy_from_slice(&name[..name.len().min(16)]);
    u128::from_be_bytes(bytes)
}

/// Replaces the test by a specific one of the model, if there is one.
pub(in super::super) fn simplified(m: Match) -> Match {
    let Test::Fields(test) = &m.test else {
        return m;
    };
    match simple(test, m.not) {
        Some((test, not)) => Match { not, test },
        None => m,
    }
}

fn simple(test: &FieldTest, not: bool) -> Option<(Test, bool)> {
    let [field] = test.fields.as_slice() else {
        return None;
    };
    let whole = test.mask == u128::MAX;
    let word = |number: u128| u32::try_from(number).ok();
    let spans: Vec<Span> = test.values.iter().flatten().copied().collect();
    let simple = match (field, spans.as_slice()) {
        (Field::Address(family, side), [span]) if whole => {
            let net = prefix(*family, *span)?;
            match side {
                Side::Source => Match::source(net).test,
                Side::Destination => Match::destination(net).test,
            }
        }
        (Field::Address(family, Side::Destination), spans) if whole => {
            let ends = spans
                .iter()
                .map(|(a, z)| (address_of(*family, *a), address_of(*family, *z)));
            Test::DestinationSet(AddressSet::from_ranges(ends)?)
        }
        (Field::Port(side), spans) if whole => {
            let range = |(a, z): &Span| PortRange::new(*a as u16, *z as u16);
            let ports: Vec<PortRange> = spans.iter().map(range).collect::<Option<_>>()?;
            match ports.as_slice() {
                [ports] => Test::Port {
                    side: *side,
                    ports: *ports,
                },
                ports => Test::Multiport {
                    side: *side,
                    ports: PortSet::merged(ports.iter().copied())?,
                },
            }
        }
        (Field::Protocol, _) if whole => Test::Protocol(Protocol::of(test.single()? as u8)),
        (Field::InInterface, [span]) if whole => Test::InInterface(interface(*span)?),
        (Field::OutInterface, [span]) if whole => Test::OutInterface(interface(*span)?),
        (Field::Mark, _) => Test::Mark {
            value: word(test.single()?)?,
            mask: test.mask as u32,
        },
        (Field::Connmark, _) => Test::Connmark {
            value: word(test.single()?)?,
            mask: test.mask as u32,
        },
        (Field::Uid, _) if whole && !not => Test::Owner(Owner::Uid(word(test.single()?)?)),
        (Field::Gid, _) if whole && !not => Test::Owner(Owner::Gid(word(test.single()?)?)),
        (Field::CtState, _) => return states(test, not),
        _ => return None,
    };
    Some((simple, not))
}

/// `ct state`, tested by bits or in a set.
fn states(test: &FieldTest, not: bool) -> Option<(Test, bool)> {
    let bit = |state: &ConnState| match state {
        ConnState::Invalid => 1,
        ConnState::Established => 1 << 1,
        ConnState::Related => 1 << 2,
        ConnState::Untracked => 1 << 6,
        _ => 1 << 3,
    };
    let (bits, not) = match (test.mask, test.single()) {
        (u128::MAX, Some(bits)) => (bits, not),
        (u128::MAX, None) => {
            let values = test.values.iter().flatten();
            (
                values
                    .map(|(value, _)| value)
                    .fold(0, |bits, value| bits | value),
                not,
            )
        }
        (mask, Some(0)) => (mask, !not),
        _ => return None,
    };
    let found: Vec<ConnState> = ConnState::ALL
        .into_iter()
        .filter(|s| bits & bit(s) != 0)
        .collect();
    Some((Match::state(found).test, not))
}

/// The prefix equal to a range, if any.
fn prefix(family: Family, (first, last): Span) -> Option<IpNet> {
    let differing = first ^ last;
    let is_prefix = first & differing == 0 && differing & differing.wrapping_add(1) == 0;
    let length = family.bits() - differing.count_ones() as u8;
    IpNet::new(address_of(family, first), length)
        .ok()
        .filter(|_| is_prefix)
}

/// The interface name equal to a range of 16 bytes: exact, or a prefix.
fn interface((first, last): Span) -> Option<Interface> {
    let bytes = first.to_be_bytes();
    let fixed = (first ^ last).leading_zeros() as usize / 8;
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(16);
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    match end < fixed {
        true if name.ends_with('+') => None,
        true => name.parse().ok(),
        false => format!("{name}+").parse().ok(),
    }
}
