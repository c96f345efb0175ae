//! Addresses and routes of a network namespace, as far as they decide which hooks a packet passes.

use crate::netfilter::model::{AddressType, Family, Interface, PolicyRoute};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// What the namespace is to a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub links: Vec<Link>,
    /// The main table. The longest prefix wins; of two equal ones the first.
    pub routes: Vec<(IpNet, NextHop)>,
    /// Marked packets that are delivered here, whatever their destination.
    pub policy_routes: Vec<PolicyRoute>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: Interface,
    /// With the length of their prefix, in the kernel's order: REDIRECT takes the first one.
    pub addresses: Vec<IpNet>,
}

/// Where a route leads: the types `local` and `unicast` of ip-route(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// The sockets of this namespace; what is sent from here gets there through lo.
    Local,
    Out {
        through: Interface,
        /// What is sent there comes from, if that is known.
        source: Option<IpAddr>,
    },
}

impl Network {
    /// Gives an interface one more address, behind those that it has.
    pub fn add_address(&mut self, interface: &Interface, address: IpNet) {
        match self.links.iter_mut().find(|link| link.name == *interface) {
            Some(link) => link.addresses.push(address),
            None => self.links.push(Link {
                name: interface.clone(),
                addresses: vec![address],
            }),
        }
    }

    /// Where a packet with this mark goes, or nothing if there is no route. As with the kernel's own
    /// rules: first the table of local addresses, then the marks, then the main table.
    pub fn route(&self, to: IpAddr, mark: u32) -> Option<NextHop> {
        let by_mark = |p: &&PolicyRoute| p.mark == mark && p.family == Family::of(to);
        if self.is_own(to) || self.policy_routes.iter().any(|p| by_mark(&p)) {
            return Some(NextHop::Local);
        }
        let fitting = self.routes.iter().filter(|(net, _)| net.contains(&to));
        let best = fitting.rev().max_by_key(|(net, _)| net.prefix_len());
        best.map(|(_, next_hop)| next_hop.clone())
    }

    /// Whether packets to the address are delivered here.
    pub fn is_own(&self, address: IpAddr) -> bool {
        let own = self.own(Family::of(address));
        own.iter()
            .any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// The first and the last of the addresses that are delivered here: each of an interface, and of
    /// lo's IPv4 prefixes all of the prefix (`fib_add_ifaddr`).
    pub fn own(&self, family: Family) -> Vec<(IpAddr, IpAddr)> {
        let of_link = |link: &Link| {
            let whole = link.name == Interface::LOOPBACK && family == Family::V4;
            let nets = link
                .addresses
                .iter()
                .filter(|net| Family::of(net.addr()) == family);
            let span = |net: &IpNet| match whole {
                true => (net.network(), net.broadcast()),
                false => (net.addr(), net.addr()),
            };
            nets.map(span).collect::<Vec<_>>()
        };
        self.links.iter().flat_map(of_link).collect()
    }

    /// The address that REDIRECT sends a packet to that came in there: the first of the interface,
    /// for a link-local destination the first that is link-local (`nf_nat_redirect_ipv4`,
    /// `nf_nat_redirect_ipv6`). Nothing if it has none: the packet is dropped.
    pub fn redirect_address(&self, interface: &Interface, to: IpAddr) -> Option<IpAddr> {
        let link = self.links.iter().find(|link| link.name == *interface)?;
        let of_family = |a: &&IpNet| a.addr().is_ipv4() == to.is_ipv4();
        let mut addresses = link.addresses.iter().filter(of_family).map(IpNet::addr);
        match is_link_local(to) {
            true => addresses.find(|a| is_link_local(*a)),
            false => addresses.next(),
        }
    }

    /// The address that a packet to `to` is sent from, where the sender leaves that to the kernel.
    pub fn source(&self, to: IpAddr, next_hop: &NextHop) -> Option<IpAddr> {
        match next_hop {
            NextHop::Local => Some(match to {
                IpAddr::V4(a) if a.is_loopback() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V4(_) => self.primary(to),
                IpAddr::V6(_) if !self.is_own(to) => self.global_on_lo()?,
                to => to,
            }),
            NextHop::Out {
                source: Some(source),
                ..
            } => Some(*source),
            NextHop::Out { through, .. } => {
                let link = self.links.iter().find(|link| link.name == *through)?;
                let near = link.addresses.iter().find(|net| net.contains(&to));
                let far = || {
                    let fits = |a: &IpAddr| {
                        a.is_ipv4() == to.is_ipv4() && is_link_local(*a) == is_link_local(to)
                    };
                    link.addresses.iter().map(IpNet::addr).find(fits)
                };
                near.map(IpNet::addr).or_else(far)
            }
        }
    }

    /// What a packet to an IPv4 address of this namespace is sent from: the first address of that
    /// network on its interface (`fib_add_ifaddr`).
    fn primary(&self, to: IpAddr) -> IpAddr {
        let of_link = |link: &Link| {
            let own = link.addresses.iter().find(|net| net.addr() == to)?;
            let first = link.addresses.iter().find(|net| net.trunc() == own.trunc());
            first.map(IpNet::addr)
        };
        self.links.iter().find_map(of_link).unwrap_or(to)
    }

    /// What a packet over lo to an IPv6 address of elsewhere is sent from: an address of lo that is
    /// not of this machine alone, or else of another interface (`ipv6_dev_get_saddr`).
    fn global_on_lo(&self) -> Option<IpAddr> {
        let (lo, others): (Vec<&Link>, Vec<&Link>) = self
            .links
            .iter()
            .partition(|link| link.name == Interface::LOOPBACK);
        let links = lo.into_iter().chain(others);
        let mut addresses = links.flat_map(|link| &link.addresses).map(IpNet::addr);
        addresses.find(|a| a.is_ipv6() && !a.is_loopback() && !is_link_local(*a))
    }

    /// What an address is to this namespace (`inet_dev_addr_type`).
    pub fn address_type(&self, address: IpAddr) -> AddressType {
        let is_last = |net: &IpNet| net.prefix_len() < 31 && net.broadcast() == address;
        let mut nets = self.links.iter().flat_map(|link| &link.addresses);
        match address {
            address if self.is_own(address) => AddressType::Local,
            address if address.is_multicast() => AddressType::Multicast,
            IpAddr::V4(a) if a.is_broadcast() || nets.any(is_last) => AddressType::Broadcast,
            _ => AddressType::Unicast,
        }
    }

    /// What MASQUERADE sends from: an address of the interface, or else of another one, that is not
    /// for this machine or this link alone (`inet_select_addr`); and whether it may be another one,
    /// as nothing shows in which order the kernel keeps its interfaces.
    pub fn masquerade_address(&self, through: &Interface, to: IpAddr) -> Option<(IpAddr, bool)> {
        let family = Family::of(to);
        let usable = |link: &Link| -> Vec<IpNet> {
            let far = |net: &&IpNet| {
                let address = net.addr();
                Family::of(address) == family && !address.is_loopback() && !is_link_local(address)
            };
            link.addresses.iter().filter(far).copied().collect()
        };
        let own = self.links.iter().filter(|link| link.name == *through);
        let own: Vec<IpNet> = own.flat_map(usable).collect();
        let near = own.iter().find(|net| net.contains(&to));
        if let Some(net) = near.or(own.first()) {
            return Some((net.addr(), false));
        }
        let firsts = self
            .links
            .iter()
            .filter_map(|link| usable(link).first().copied());
        let firsts: Vec<IpNet> = firsts.collect();
        firsts.first().map(|net| (net.addr(), firsts.len() > 1))
    }

    /// The interface that has the address.
    pub fn interface_of(&self, address: IpAddr) -> Option<&Interface> {
        let has = |link: &&Link| link.addresses.iter().any(|net| net.addr() == address);
        self.links.iter().find(has).map(|link| &link.name)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
