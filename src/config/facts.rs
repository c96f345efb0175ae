//! What the host says. Everything that the resolving of options asks of the system goes through
//! [`Host`]; tests answer from a table.
#![expect(
    clippy::disallowed_methods,
    reason = "asks the host, for everybody else"
)]

use crate::ownership::PASSTHROUGH;
use std::ffi::OsString;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

/// The system as the configuration sees it: two questions, no side effects.
pub trait Host {
    /// An environment variable, whatever its bytes.
    fn env(&self, name: &str) -> Option<OsString>;

    /// A small text file, whole. An absent one is [`io::ErrorKind::NotFound`].
    fn file(&self, path: &Path) -> io::Result<String>;
}

/// The host we run on.
pub struct System;

impl Host for System {
    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// A user's or group's number from /etc/passwd or /etc/group themselves. The name service is never
/// asked: one that hangs has held pods up for a minute, and a static binary cannot load it.
pub fn look_up(host: &dyn Host, path: &str, name: &str) -> Option<u32> {
    let text = host.file(Path::new(path)).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}

/// The group that /etc/passwd names for a user.
pub fn primary_group(host: &dyn Host, uid: u32) -> Option<u32> {
    let text = host.file(Path::new("/etc/passwd")).ok()?;
    text.lines().find_map(|line| {
        let mut numbers = line.split(':').skip(2);
        let is_of = numbers.next()?.parse() == Ok(uid);
        is_of.then(|| numbers.next()?.parse().ok()).flatten()
    })
}

/// What there is of IPv6 in the network namespace.
pub struct Ipv6 {
    /// The kernel has it, and the namespace has not switched it off (`ipv6.disable=1`,
    /// `net.ipv6.conf.all.disable_ipv6=1`).
    pub enabled: bool,
    /// Some interface has an address that others can reach: neither loopback nor link-local, nor
    /// the one we put on lo ourselves.
    pub global: bool,
}

/// Asks for it.
pub fn ipv6(host: &dyn Host) -> Ipv6 {
    let read = |path| host.file(Path::new(path)).ok();
    let off = read("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_some_and(|v| v.trim() == "1");
    let addresses = read("/proc/net/if_inet6");
    Ipv6 {
        enabled: addresses.is_some() && !off,
        global: addresses.is_some_and(|text| text.lines().any(is_global)),
    }
}

/// Whether a line of /proc/net/if_inet6 (the address in 32 hexadecimal digits, then more) is about
/// an address that others can reach.
fn is_global(line: &str) -> bool {
    let digits = line.split(' ').next().unwrap_or_default();
    u128::from_str_radix(digits, 16).is_ok_and(|bits| {
        let address = Ipv6Addr::from(bits);
        let local = address.is_loopback() || address.is_unicast_link_local();
        !local && !address.is_multicast() && address != PASSTHROUGH
    })
}

/// Whether this runs in a container of Kubernetes, as opposed to a host of one's own.
pub fn is_in_kubernetes(host: &dyn Host) -> bool {
    host.env("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether this is a container that shares its node's network: the kernel's first network
/// namespace, seen from inside Kubernetes. `netdev_max_backlog` exists in that namespace only.
pub fn is_kubernetes_node(host: &dyn Host) -> bool {
    let first = host
        .file(Path::new("/proc/sys/net/core/netdev_max_backlog"))
        .is_ok();
    first && is_in_kubernetes(host)
}

#[cfg(test)]
mod tests {
    use super::is_global;

    #[test]
    fn global_addresses_are_told_from_local_ones() {
        for (line, global) in [
            (
                "fd001024400000000000000000000017 02 40 00 80     eth0",
                true,
            ),
            (
                "20010db8000000000000000000000001 02 40 00 80     eth0",
                true,
            ),
            (
                "fe80000000000000a8bbccfffedd0011 02 40 20 80     eth0",
                false,
            ),
            (
                "00000000000000000000000000000001 01 80 10 80       lo",
                false,
            ),
            (
                "00000000000000000000000000000006 01 80 00 82       lo",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_global(line), global, "{line}");
        }
    }
}
