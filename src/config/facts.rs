//! What the host says. Everything that the resolving of options asks of the system goes through
//! [`Host`]; tests answer from a table.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// The system as the configuration sees it: three questions, no side effects.
pub trait Host {
    /// An environment variable, whatever its bytes.
    fn env(&self, name: &str) -> Option<OsString>;

    /// A small text file, whole. An absent one is [`io::ErrorKind::NotFound`].
    fn file(&self, path: &Path) -> io::Result<String>;

    /// The addresses of all interfaces of the network namespace, in the kernel's order.
    fn addresses(&self) -> io::Result<Vec<IpAddr>>;
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

    fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let address = |a: nix::ifaddrs::InterfaceAddress| {
            let storage = a.address?;
            let v4 = storage.as_sockaddr_in().map(|s| s.ip().into());
            v4.or_else(|| storage.as_sockaddr_in6().map(|s| s.ip().into()))
        };
        Ok(nix::ifaddrs::getifaddrs()?.filter_map(address).collect())
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

/// Whether the kernel has IPv6 and the namespace has not switched it off (`ipv6.disable=1`,
/// `net.ipv6.conf.all.disable_ipv6=1`).
pub fn has_ipv6(host: &dyn Host) -> bool {
    let read = |path| host.file(Path::new(path)).ok();
    let off = read("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_some_and(|v| v.trim() == "1");
    read("/proc/net/if_inet6").is_some() && !off
}

/// What Istio's meshes put on lo, so that the proxy can bind to it (::6).
pub const OWN_LOOPBACK: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// Whether some interface has an IPv6 address that others can reach: neither loopback nor
/// link-local, nor the one we put on lo ourselves.
pub fn has_global_ipv6(host: &dyn Host) -> io::Result<bool> {
    let global = |a: &IpAddr| match a {
        IpAddr::V6(a) => {
            let local = a.is_loopback() || a.is_unicast_link_local() || a.is_multicast();
            !local && *a != OWN_LOOPBACK
        }
        IpAddr::V4(_) => false,
    };
    Ok(host.addresses()?.iter().any(global))
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
