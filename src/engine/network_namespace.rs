//! Where rules may be written: in which network namespace, and in which not.

use crate::engine::error::Error;
use crate::mesh::config::{Host, facts};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{SFlag, stat};
use std::io;
use std::path::Path;

/// Moves this process into another network namespace; the process has one thread.
#[expect(clippy::disallowed_types, reason = "held, not read")]
pub(crate) fn enter(path: &Path) -> Result<(), Error> {
    let error = |source| Error::Namespace {
        path: path.to_owned(),
        source,
    };
    // Anything else might hang when it is opened, or do something: a FIFO, a device.
    let kind = SFlag::S_IFMT.bits() & stat(path).map_err(error)?.st_mode;
    if kind != SFlag::S_IFREG.bits() {
        return Err(no_namespace(path));
    }
    let io = |e: io::Error| error(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
    let file = std::fs::File::open(path).map_err(io)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| match e {
        nix::Error::EINVAL => no_namespace(path),
        e => error(e),
    })
}

/// Whether a path is the network namespace that this process is in.
pub(crate) fn is_own(path: &Path) -> bool {
    let inode = |path: &Path| stat(path).map(|s| (s.st_dev, s.st_ino));
    let own = inode(Path::new("/proc/self/ns/net"));
    own.is_ok() && inode(path) == own
}

fn no_namespace(path: &Path) -> Error {
    Error::NoNamespace {
        path: path.to_owned(),
    }
}

/// Refuses the network of a Kubernetes node, unless that is what is wanted; also where it cannot be
/// told whether it is one.
pub(crate) fn is_for_rules(allow_host_network: bool, host: &dyn Host) -> Result<(), Error> {
    if allow_host_network {
        return Ok(());
    }
    match facts::is_kubernetes_node(host) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::HostNetwork),
        Err(e) => Err(Error::PlaceUnknown(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    /// A host of which only two things are known: what /proc/sys/net/core holds, and where it is.
    struct Place {
        core: &'static [&'static str],
        kubernetes: bool,
    }

    impl Host for Place {
        fn env(&self, name: &str) -> Option<OsString> {
            (self.kubernetes && name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".into())
        }

        fn file(&self, path: &Path) -> io::Result<String> {
            let known = self.core.iter().any(|name| path.ends_with(name));
            known
                .then(String::new)
                .ok_or(io::ErrorKind::NotFound.into())
        }

        fn ipv6(&self) -> io::Result<facts::Ipv6> {
            Ok(facts::Ipv6::default())
        }
    }

    #[test]
    fn only_the_network_of_a_node_is_refused_and_only_unless_allowed() {
        const NODE: &[&str] = &["netdev_max_backlog", "somaxconn"];
        const POD: &[&str] = &["somaxconn"];
        const MASKED: &[&str] = &[];
        for (core, kubernetes, allow, refused) in [
            (NODE, true, false, true),
            (NODE, true, true, false),
            (NODE, false, false, false),
            (POD, true, false, false),
            (POD, false, false, false),
            (MASKED, true, false, true),
            (MASKED, true, true, false),
            (MASKED, false, false, false),
        ] {
            let result = is_for_rules(allow, &Place { core, kubernetes });
            assert_eq!(result.is_err(), refused, "{core:?} {kubernetes} {allow}");
            let unknown = matches!(result, Err(Error::PlaceUnknown(_)));
            assert_eq!(unknown, refused && core == MASKED);
        }
    }
}
