//! Comparisons of one or several concatenated fields with a value, a range or a set, as in
//! nf_tables.

use super::field::{Field, Value};
use super::packet::Packet;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// From the first to the last value, both included.
pub type Span = (u128, u128);

/// A comparison of fields with a set of values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTest {
    /// At least one.
    pub fields: Vec<Field>,
    /// The mask, for a single field.
    pub mask: u128,
    /// Each has a span for every field.
    pub values: Arc<[Vec<Span>]>,
    /// The name of the set, if it has one.
    pub set: Option<String>,
}

impl FieldTest {
    /// Compares one field with these values.
    pub fn new(field: Field, spans: impl IntoIterator<Item = Span>) -> Self {
        FieldTest {
            fields: vec![field],
            mask: u128::MAX,
            values: spans.into_iter().map(|span| vec![span]).collect(),
            set: None,
        }
    }

    /// Tests that one of these bits of a field is set; expressed by its negation, as there is no
    /// such comparison.
    pub fn no_bit_of(field: Field, bits: u128) -> Self {
        FieldTest {
            mask: bits,
            ..FieldTest::new(field, [(0, 0)])
        }
    }

    /// The value, if there is one value of one field.
    pub fn single(&self) -> Option<u128> {
        match &*self.values {
            [spans] => match spans.as_slice() {
                [(first, last)] if first == last => Some(*first),
                _ => None,
            },
            _ => None,
        }
    }

    /// Finds the value that the packet has. `Err` with all possible ones if that is not known.
    pub fn find(&self, packet: &Packet) -> Result<Found, Vec<usize>> {
        let values: Vec<Value> = self.fields.iter().map(|field| field.of(packet)).collect();
        if values.contains(&Value::Absent) {
            return Ok(Found::Absent);
        }
        let may_be = |spans: &Vec<Span>| {
            spans
                .iter()
                .zip(&values)
                .all(|((first, last), value)| match value {
                    Value::Is(value) => (*first..=*last).contains(&(value & self.mask)),
                    _ => true,
                })
        };
        let found = |(at, spans)| may_be(spans).then_some(at);
        let mut found = self.values.iter().enumerate().filter_map(found);
        if values.contains(&Value::Unknown) {
            let all: Vec<usize> = found.collect();
            return if all.is_empty() {
                Ok(Found::None)
            } else {
                Err(all)
            };
        }
        Ok(found.next().map_or(Found::None, Found::At))
    }

    /// Whether a field is random, such as `numgen` and hashes of nft.
    pub fn is_by_chance(&self) -> bool {
        let by_chance = |name: &str| {
            ["numgen", "jhash", "symhash"]
                .iter()
                .any(|n| name.starts_with(n))
        };
        matches!(self.fields.as_slice(), [Field::Other(name)] if by_chance(name))
    }

    /// Whether the packet matches; `None` if that is not known.
    pub(super) fn holds(&self, packet: &Packet, not: bool) -> Option<bool> {
        match self.find(packet) {
            Ok(Found::Absent) => Some(false),
            Ok(Found::None) => Some(not),
            Ok(Found::At(_)) => Some(!not),
            Err(_) => None,
        }
    }

    /// Writes the comparison as nft does, with several values in braces.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, not: bool) -> fmt::Result {
        self.write_fields(f)?;
        if self.mask != u128::MAX {
            f.write_str(" & ")?;
            self.fields[0].write_value(f, self.mask)?;
        }
        f.write_str(if not { " != " } else { " " })?;
        self.write_values(f)
    }

    /// Writes the actual values of the packet.
    pub(super) fn write_actual(&self, f: &mut fmt::Formatter<'_>, packet: &Packet) -> fmt::Result {
        self.write_fields(f)?;
        f.write_str(" is ")?;
        for (i, field) in self.fields.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " . " })?;
            match field.of(packet) {
                Value::Is(value) => field.write_value(f, value)?,
                Value::Absent => f.write_str("absent")?,
                Value::Unknown => f.write_str("unknown")?,
            }
        }
        Ok(())
    }

    fn write_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields.iter().enumerate() {
            write!(f, "{}{field}", if i == 0 { "" } else { " . " })?;
        }
        Ok(())
    }

    /// How many values of a set are printed.
    const SHOWN: usize = 8;

    pub(super) fn write_values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(set) = &self.set {
            return write!(f, "@{set}");
        }
        let (open, close) = match self.values.len() {
            1 => ("", ""),
            _ => ("{ ", " }"),
        };
        f.write_str(open)?;
        for (i, spans) in self.values.iter().take(Self::SHOWN).enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            self.write_key(f, spans)?;
        }
        match self.values.len().saturating_sub(Self::SHOWN) {
            0 => f.write_str(close),
            more => write!(f, ", … {more} more{close}"),
        }
    }

    /// Writes one value, a span for each field.
    pub(super) fn write_key(&self, f: &mut fmt::Formatter<'_>, spans: &[Span]) -> fmt::Result {
        for (i, (field, (first, last))) in self.fields.iter().zip(spans).enumerate() {
            f.write_str(if i == 0 { "" } else { " . " })?;
            write_span(f, field, *first, *last)?;
        }
        Ok(())
    }
}

fn write_span(f: &mut fmt::Formatter<'_>, field: &Field, first: u128, last: u128) -> fmt::Result {
    field.write_value(f, first)?;
    if first == last {
        return Ok(());
    }
    // The values of a prefix differ in their last bits, in all that are possible.
    let differing = first ^ last;
    let is_prefix = first & differing == 0 && (differing + 1).is_power_of_two();
    match field {
        Field::Address(..) | Field::OriginalAddress(..) if is_prefix => {
            let length = 8 * field.length() as u32 - differing.count_ones();
            write!(f, "/{length}")
        }
        _ => {
            f.write_str("-")?;
            field.write_value(f, last)
        }
    }
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A field is absent.
    Absent,
    None,
    /// The value at this index.
    At(usize),
}

impl fmt::Display for FieldTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// Not used by desired rules.
impl Serialize for FieldTest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
