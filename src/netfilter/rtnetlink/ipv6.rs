//! The state of IPv6 in a network namespace, over rtnetlink. Needs no privilege and no /proc, which
//! may be hidden or show another namespace.

use super::message::{self, Address, LOOPBACK};
use super::{Router, RoutingError};
use crate::netfilter::model::Family;
use crate::netfilter::netlink::Transport;
use std::net::{IpAddr, Ipv6Addr};

/// IPv6 in this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6 {
    /// Available, and enabled on some interface.
    pub enabled: bool,
    /// Enabled on lo.
    pub on_loopback: bool,
    /// The addresses of all interfaces, usable or not.
    pub addresses: Vec<Ipv6Addr>,
}

impl<T: Transport> Router<T> {
    /// The state of IPv6. A kernel without it (`ipv6.disable=1`) replies for other families, which is
    /// not an error.
    ///
    /// # Errors
    /// If the kernel does not reply.
    pub fn ipv6(&mut self) -> Result<Ipv6, RoutingError> {
        let v6 = Some(Family::V6);
        let read = message::read_address;
        let found = self.dump(v6, "addresses", message::GET_ADDRESS, read)?;
        let is_los = |a: &Address| a.interface == LOOPBACK && a.net.addr().is_loopback();
        // lo has its address while it is up and has IPv6.
        self.loopback_is_up = found.iter().any(is_los);
        let addresses = found.into_iter().filter_map(|a| match a.net.addr() {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        let addresses: Vec<Ipv6Addr> = addresses.collect();
        if self.loopback_is_up {
            return Ok(Ipv6 {
                enabled: true,
                on_loopback: true,
                addresses,
            });
        }
        let switches = self.dump(
            v6,
            "interfaces",
            message::GET_LINK,
            message::read_ipv6_switch,
        )?;
        Ok(Ipv6 {
            // gVisor does not report the setting.
            enabled: switches.iter().any(|s| s.on) || !addresses.is_empty(),
            on_loopback: switches.iter().all(|s| s.on || !s.is_loopback),
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::netlink::Writer;
    use crate::netfilter::rtnetlink::message::GET_LINK;
    use std::io;

    /// A kernel whose interfaces have these values of disable_ipv6, and no addresses; one without
    /// IPv6 replies for AF_UNSPEC.
    struct Kernel {
        family: u8,
        disabled: &'static [u32],
        answer: Option<Vec<u8>>,
    }

    impl Transport for Kernel {
        fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
            const DONE: u16 = 3;
            const MULTI: u16 = 2;
            let request = parts.concat();
            let kind = u16::from_ne_bytes([request[4], request[5]]);
            let sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
            let mut w = Writer::default();
            for disabled in self.disabled.iter().filter(|_| kind == GET_LINK) {
                w.message(kind - 2, MULTI, sequence, |w| {
                    w.raw(&[self.family]);
                    w.raw(&[0; 15]);
                    let mut conf = [0; 4 * 27];
                    conf[4 * 26..].copy_from_slice(&disabled.to_ne_bytes());
                    w.nest(12, |w| w.bytes(2, &conf));
                });
            }
            w.message(DONE, MULTI, sequence, |w| w.raw(&[0; 4]));
            self.answer = Some(w.as_slice().to_vec());
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let answer = self.answer.take().ok_or(io::ErrorKind::WouldBlock)?;
            buffer[..answer.len()].copy_from_slice(&answer);
            Ok(answer.len())
        }

        fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
            Ok(wanted)
        }
    }

    #[test]
    fn one_interface_that_has_it_switched_on_is_enough() {
        const V6: u8 = 10;
        for (family, disabled, enabled) in [
            (V6, &[0, 0][..], true),
            (V6, &[1, 0], true),
            (V6, &[1, 1], false),
            (V6, &[], false),
            // ipv6.disable=1: interfaces are listed without IPv6 data.
            (0, &[0, 0], false),
        ] {
            let answer = None;
            let kernel = Kernel {
                family,
                disabled,
                answer,
            };
            let ipv6 = Router::new(kernel).ipv6().unwrap();
            assert_eq!(ipv6.enabled, enabled, "{family} {disabled:?}");
        }
    }
}
