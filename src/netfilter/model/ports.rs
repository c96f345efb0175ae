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
    /// `None` if `first` is greater than `last`.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(PortRange { first, last })
    }

    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl PortRange {
    /// The slots that it takes in a multiport match.
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
    /// The slots of a multiport match (`XT_MULTI_PORTS`); a range takes two.
    pub const SLOTS: usize = 15;

    /// Ports in the given order. `None` if there are none, or too many for one match.
    pub fn new(ports: impl IntoIterator<Item = PortRange>) -> Option<Self> {
        let ports: Vec<PortRange> = ports.into_iter().collect();
        let slots: usize = ports.iter().map(|p| p.slots()).sum();
        (1..=Self::SLOTS).contains(&slots).then_some(PortSet(ports))
    }

    /// Splits ports, in the given order, into as few matches as possible.
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

    /// Merges ranges into the fewest ranges, in order and without a limit: for backends that look
    /// ports up in sets. `None` without ports.
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

    pub fn as_slice(&self) -> &[PortRange] {
        &self.0
    }
}

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
