//! Where rules may be written: in which network namespace, and in which not.

use crate::config::{Host, facts};
use crate::error::Error;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{SFlag, stat};
use std::io;
use std::path::Path;

/// Moves this process into another network namespace; the process has one thread.
#[expect(clippy::disallowed_types, reason = "held, not read")]
pub fn enter(path: &Path) -> Result<(), Error> {
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

fn no_namespace(path: &Path) -> Error {
    Error::NoNamespace {
        path: path.to_owned(),
    }
}

/// Refuses the network of a Kubernetes node, unless that is what is wanted.
pub fn is_for_rules(allow_host_network: bool, host: &dyn Host) -> Result<(), Error> {
    match facts::is_kubernetes_node(host) && !allow_host_network {
        true => Err(Error::HostNetwork),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    /// A host of which only two things are known.
    struct Place {
        first_namespace: bool,
        kubernetes: bool,
    }

    impl Host for Place {
        fn env(&self, name: &str) -> Option<OsString> {
            (self.kubernetes && name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".into())
        }

        fn file(&self, path: &Path) -> io::Result<String> {
            let known = path.ends_with("netdev_max_backlog") && self.first_namespace;
            known
                .then(String::new)
                .ok_or(io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn only_the_network_of_a_node_is_refused_and_only_unless_allowed() {
        for (first_namespace, kubernetes, allow, refused) in [
            (true, true, false, true),
            (true, true, true, false),
            (true, false, false, false),
            (false, true, false, false),
            (false, false, false, false),
        ] {
            let place = Place {
                first_namespace,
                kubernetes,
            };
            let result = is_for_rules(allow, &place);
            assert_eq!(matches!(result, Err(Error::HostNetwork)), refused);
        }
    }
}
