//! Ports, ranges of them, and lists of ranges.

use serde::{Serialize, Serializer};
use std::fmt;

/// Ports from `first` to `last`, both included; a single port is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `None` when `first` lies behind `last`.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(PortRange { first, last })
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl PortRange {
    /// How many slots of a multiport match it takes.
    fn slots(self) -> usize {
        1 + usize::from(self.first != self.last)
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        PortRange {
            first: port,
            last: port,
        }
    }
}

/// `80` or `8000:8100`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The ports of one multiport match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    /// How many slots a multiport match has (`XT_MULTI_PORTS`); a range takes two.
    pub const SLOTS: usize = 15;

    /// Ports in the order given. `None` when there are none, or more than the match has room for.
    pub fn new(ports: impl IntoIterator<Item = PortRange>) -> Option<Self> {
        let ports: Vec<PortRange> = ports.into_iter().collect();
        let slots: usize = ports.iter().map(|p| p.slots()).sum();
        (1..=Self::SLOTS).contains(&slots).then_some(PortSet(ports))
    }

    /// All ports in the order given, as many in each match as it has room for.
    pub fn split(ports: &[PortRange]) -> Vec<Self> {
        let mut sets: Vec<PortSet> = Vec::new();
        let mut room = 0;
        for port in ports {
            match sets.last_mut().filter(|_| port.slots() <= room) {
                Some(set) => set.0.push(*port),
                None => {
                    sets.push(PortSet(vec![*port]));
                    room = Self::SLOTS;
                }
            }
            room -= port.slots();
        }
        sets
    }

    /// All ports of some ranges as the fewest ranges, in order, however many: for backends that
    /// look a port up in a set. `None` when there are no ports.
    pub fn merged(ports: impl IntoIterator<Item = PortRange>) -> Option<Self> {
        let mut ports: Vec<PortRange> = ports.into_iter().collect();
        ports.sort();
        ports.dedup_by(|next, before| {
            let touches = u32::from(next.first) <= u32::from(before.last) + 1;
            if touches {
                before.last = before.last.max(next.last);
            }
            touches
        });
        (!ports.is_empty()).then_some(PortSet(ports))
    }

    /// The ranges, in the order in which they were given.
    pub fn as_slice(&self) -> &[PortRange] {
        &self.0
    }
}

/// Two ports, which always have room.
impl From<[u16; 2]> for PortSet {
    fn from(ports: [u16; 2]) -> Self {
        PortSet(ports.map(PortRange::from).to_vec())
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.0)
    }
}

/// Writes items with commas between them.
pub(super) fn join<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_holds_fifteen_slots_and_a_range_takes_two() {
        let ports = |from: u16, to: u16| (from..=to).map(PortRange::from);
        let range = PortRange::new(8000, 8100).expect("in order");
        let sizes = |ports: &[PortRange]| -> Vec<usize> {
            let sets = PortSet::split(ports);
            sets.iter().map(|s| s.as_slice().len()).collect()
        };
        assert_eq!(sizes(&ports(1, 31).collect::<Vec<_>>()), [15, 15, 1]);
        assert_eq!(sizes(&[range; 8]), [7, 1]);
        let last_slot: Vec<PortRange> = ports(1, 14).chain([range]).collect();
        assert_eq!(sizes(&last_slot), [14, 1]);
        assert!(sizes(&[]).is_empty());
    }
}
