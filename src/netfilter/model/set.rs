//! Sets of addresses, which nftables tests in one step. They belong to the model although only one
//! backend writes them: rules read back hold them, diff prints them, and traces evaluate them.

use super::names::Family;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// Addresses of one family as the fewest prefixes that cover them, in order: sets of the same
/// addresses are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct AddressSet(Vec<IpNet>);

impl AddressSet {
    /// Builds a set from prefixes, which may overlap. `None` if there are none or the families
    /// differ.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let nets: Vec<IpNet> = nets.into_iter().collect();
        let family = Family::of(nets.first()?.addr());
        let alike = nets.iter().all(|n| Family::of(n.addr()) == family);
        alike.then(|| AddressSet(IpNet::aggregate(&nets)))
    }

    /// Builds a set from inclusive ranges. `None` as in [`AddressSet::new`], or if a range is
    /// reversed.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Option<Self> {
        let mut nets = Vec::new();
        for (first, last) in ranges {
            match (first, last) {
                (IpAddr::V4(a), IpAddr::V4(z)) if a <= z => {
                    nets.extend(Ipv4Subnets::new(a, z, 0).map(IpNet::from));
                }
                (IpAddr::V6(a), IpAddr::V6(z)) if a <= z => {
                    nets.extend(Ipv6Subnets::new(a, z, 0).map(IpNet::from));
                }
                _ => return None,
            }
        }
        Self::new(nets)
    }

    /// The same addresses as sets of so many prefixes, in order.
    pub fn split(&self, most: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(most).map(|nets| AddressSet(nets.to_vec()))
    }

    /// The prefixes, in order.
    pub fn as_slice(&self) -> &[IpNet] {
        &self.0
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The family of the addresses.
    pub fn family(&self) -> Family {
        Family::of(self.0[0].addr())
    }

    /// The fewest ranges, in order, each from its first to its last address.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let touch = |one: &IpNet, next: &IpNet| successor(one.broadcast()) == Some(next.network());
        let runs = self.0.chunk_by(touch);
        runs.map(|run| (run[0].network(), run[run.len() - 1].broadcast()))
    }
}

/// The next address, unless this is the last one.
pub(super) fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => Some(IpAddr::from(a.to_bits().checked_add(1)?.to_be_bytes())),
        IpAddr::V6(a) => Some(IpAddr::from(a.to_bits().checked_add(1)?.to_be_bytes())),
    }
}

/// Comma separated, as iptables takes a list behind `-d`.
impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, net) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}/{}", net.network(), net.prefix_len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(nets: &[&str]) -> AddressSet {
        AddressSet::new(nets.iter().map(|n| n.parse().unwrap())).unwrap()
    }

    #[test]
    fn sets_of_the_same_addresses_are_equal() {
        let one = set(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32"]);
        assert_eq!(one, set(&["10.0.0.0/23"]));
        assert_eq!(one.to_string(), "10.0.0.0/23");
    }

    #[test]
    fn neighbours_make_one_range() {
        let set = set(&["10.0.0.0/23", "10.0.2.0/24", "255.0.0.0/8"]);
        let ranges: Vec<_> = set.ranges().collect();
        let range = |a: &str, z: &str| (a.parse().unwrap(), z.parse().unwrap());
        let wanted = [
            range("10.0.0.0", "10.0.2.255"),
            range("255.0.0.0", "255.255.255.255"),
        ];
        assert_eq!(ranges, wanted);
    }

    #[test]
    fn everything_is_a_set() {
        for all in ["0.0.0.0/0", "::/0"] {
            assert_eq!(set(&[all]).to_string(), all);
            assert_eq!(
                AddressSet::from_ranges(set(&[all]).ranges()),
                Some(set(&[all]))
            );
        }
    }

    #[test]
    fn families_do_not_mix() {
        let nets = ["10.0.0.0/8", "fd00::/8"].map(|n| n.parse().unwrap());
        assert_eq!(AddressSet::new(nets), None);
        assert_eq!(AddressSet::new([]), None);
    }

    proptest! {
        #[test]
        fn ranges_say_the_same(nets in proptest::collection::vec((any::<u32>(), 0..=32u8), 1..50)) {
            let net = |(bits, length): (u32, u8)| {
                IpNet::new(IpAddr::from(bits.to_be_bytes()), length).unwrap()
            };
            let set = AddressSet::new(nets.into_iter().map(net)).unwrap();
            prop_assert_eq!(AddressSet::from_ranges(set.ranges()), Some(set));
        }
    }
}
