//! What the host says. Everything that the resolving of options asks of the system goes through
//! [`Host`]; tests answer from a table.
//!
//! Only "not found" means no. What cannot be read for another reason is an error that says what
//! could not be told: a fact that is guessed wrong lets traffic past the proxy.

use super::values;
use crate::mesh::managed::PASSTHROUGH;
use std::ffi::OsString;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

/// The system as the configuration sees it: three questions, no side effects.
pub trait Host {
    /// An environment variable, whatever its bytes.
    fn env(&self, name: &str) -> Option<OsString>;

    /// A small text file, whole; bytes that are no UTF-8 come as U+FFFD. An absent one is
    /// [`io::ErrorKind::NotFound`].
    fn file(&self, path: &Path) -> io::Result<String>;

    /// What there is of IPv6 in the network namespace.
    fn ipv6(&self) -> io::Result<Ipv6>;
}

/// IPv6 in the network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6 {
    /// The kernel has it, and it is not switched off at every interface (`ipv6.disable=1`,
    /// `net.ipv6.conf.*.disable_ipv6=1`).
    pub enabled: bool,
    /// lo has it too, so that it can be given an address.
    pub on_loopback: bool,
    /// The addresses of all interfaces.
    pub addresses: Vec<Ipv6Addr>,
}

impl Ipv6 {
    /// Whether some interface has an address that others can reach: neither loopback nor link-local,
    /// nor the one we put on lo ourselves.
    pub fn is_global(&self) -> bool {
        self.addresses.iter().any(is_global)
    }
}

fn is_global(address: &Ipv6Addr) -> bool {
    let local = address.is_loopback() || address.is_unicast_link_local();
    !local && !address.is_multicast() && *address != PASSTHROUGH
}

/// A user's or group's number from /etc/passwd or /etc/group themselves, `None` if the file is not
/// there or does not have the name. The name service is never asked: one that hangs has held pods up
/// for a minute, and a static binary cannot load it.
///
/// # Errors
/// When the file cannot be read, or has a number for the name that no user can have.
pub fn look_up(host: &dyn Host, path: &str, name: &str) -> io::Result<Option<u32>> {
    // In the file, too, this stands for bytes that are no text, whichever they are.
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(io::Error::other(format!("the name {name:?} is not UTF-8")));
    }
    let Some(text) = found(host.file(Path::new(path)))? else {
        return Ok(None);
    };
    let entry = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1).unwrap_or_default())
    });
    entry.map(|field| number(field, path, name)).transpose()
}

/// The group that /etc/passwd names for a user.
///
/// # Errors
/// As those of [`look_up`].
pub fn primary_group(host: &dyn Host, uid: u32) -> io::Result<Option<u32>> {
    const PATH: &str = "/etc/passwd";
    let Some(text) = found(host.file(Path::new(PATH)))? else {
        return Ok(None);
    };
    let entry = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_of = values::id_number(fields.nth(1)?) == Some(uid);
        is_of.then(|| (name, fields.next().unwrap_or_default()))
    });
    entry
        .map(|(name, field)| number(field, PATH, name))
        .transpose()
}

/// The number in a line of such a file: as the C library would read `+0` is not good enough for
/// something that exempts its owner.
fn number(field: &str, path: &str, name: &str) -> io::Result<u32> {
    values::id_number(field).ok_or_else(|| {
        io::Error::other(format!(
            "{path} has no valid number for {name:?}: {field:?}"
        ))
    })
}

/// What was read, or nothing where there is no such file.
fn found(text: io::Result<String>) -> io::Result<Option<String>> {
    match text {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// Whether this runs in a container of Kubernetes, as opposed to a host of one's own.
pub fn is_in_kubernetes(host: &dyn Host) -> bool {
    host.env("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether this is a container that shares its node's network: the kernel's first network
/// namespace, seen from inside Kubernetes.
///
/// `netdev_max_backlog` exists in that namespace only, `somaxconn` in every one: where that is not
/// to be seen either, something hides both.
///
/// # Errors
/// When that cannot be told.
pub fn is_kubernetes_node(host: &dyn Host) -> io::Result<bool> {
    const FIRST_ONLY: &str = "/proc/sys/net/core/netdev_max_backlog";
    const EVERY: &str = "/proc/sys/net/core/somaxconn";
    if !is_in_kubernetes(host) {
        return Ok(false);
    }
    let told = |path: &str, e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
    let first = found(host.file(Path::new(FIRST_ONLY))).map_err(|e| told(FIRST_ONLY, e))?;
    if first.is_none() {
        host.file(Path::new(EVERY)).map_err(|e| told(EVERY, e))?;
    }
    Ok(first.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_addresses_are_told_from_local_ones() {
        for (address, global) in [
            ("fd00:10:244::17", true),
            ("2001:db8::1", true),
            ("fe80::a8bb:ccff:fedd:11", false),
            ("::1", false),
            ("::6", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_global(&address.parse().unwrap()), global, "{address}");
        }
    }

    /// A host with one file, or none.
    struct OneFile(Result<&'static str, io::ErrorKind>);

    impl Host for OneFile {
        fn env(&self, _: &str) -> Option<OsString> {
            None
        }

        fn file(&self, _: &Path) -> io::Result<String> {
            self.0.map(str::to_owned).map_err(io::Error::from)
        }

        fn ipv6(&self) -> io::Result<Ipv6> {
            Ok(Ipv6::default())
        }
    }

    #[test]
    fn only_an_absent_name_or_file_is_a_no() {
        let file =
            "root:x:0:0::/root:/bin/sh\n+::::::\nzero:x:+0:0\nnobody:x:4294967295:1\nlast:x:7:8";
        let of = |name| look_up(&OneFile(Ok(file)), "/etc/passwd", name);
        assert_eq!(of("root").unwrap(), Some(0));
        assert_eq!(of("last").unwrap(), Some(7));
        assert_eq!(of("absent").unwrap(), None);
        for bad in ["zero", "nobody", "+"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let without = |kind| look_up(&OneFile(Err(kind)), "/etc/passwd", "root");
        assert_eq!(without(io::ErrorKind::NotFound).unwrap(), None);
        assert!(without(io::ErrorKind::PermissionDenied).is_err());
        assert_eq!(primary_group(&OneFile(Ok(file)), 7).unwrap(), Some(8));
    }
}
