//! Which network namespace rules may be written in.

use crate::engine::error::Error;
use crate::engine::host;
use crate::engine::request::Request;
use crate::mesh::config::TextFile;
use crate::netfilter::sock_diag;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{SFlag, stat};
use std::io;
use std::path::Path;

/// Moves this process into another network namespace; the process has one thread.
///
/// # Errors
/// [`Error::Namespace`], [`Error::NotANamespace`].
#[expect(clippy::disallowed_types, reason = "held, not read")]
pub(crate) fn enter(path: &Path) -> Result<(), Error> {
    let error = |source| Error::Namespace {
        path: path.to_owned(),
        source,
    };
    // Opening a FIFO or a device can block, or have an effect.
    let kind = SFlag::S_IFMT.bits() & stat(path).map_err(error)?.st_mode;
    if kind != SFlag::S_IFREG.bits() {
        return Err(not_a_namespace(path));
    }
    let io = |e: io::Error| error(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
    let file = std::fs::File::open(path).map_err(io)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| match e {
        nix::Error::EINVAL => not_a_namespace(path),
        e => error(e),
    })
}

/// Whether a path is the network namespace that this process is in.
pub(crate) fn is_own(path: &Path) -> bool {
    let inode = |path: &Path| stat(path).map(|s| (s.st_dev, s.st_ino));
    let own = inode(Path::new("/proc/self/ns/net"));
    own.is_ok() && inode(path) == own
}

fn not_a_namespace(path: &Path) -> Error {
    Error::NotANamespace {
        path: path.to_owned(),
    }
}

/// Refuses the network namespace of a Kubernetes node, unless allowed by option.
///
/// # Errors
/// [`Error::HostNetwork`]; [`Error::HostNetworkUnknown`] where it cannot be determined.
pub(crate) fn check_not_a_node(request: &Request) -> Result<(), Error> {
    if request.allow_host_network || !request.facts.in_kubernetes() {
        return Ok(());
    }
    let is_node = match is_initial(host::exists) {
        Ok(false) => runs_containers(host::file),
        initial => initial,
    };
    match is_node {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::HostNetwork),
        Err(e) => Err(Error::HostNetworkUnknown(e)),
    }
}

/// Whether SSH sessions come in here: on a machine, or where a socket listens on port 22. False if
/// sockets cannot be listed.
pub(crate) fn has_ssh(request: &Request) -> bool {
    let listens = || {
        let listeners = sock_diag::tcp_listeners().unwrap_or_default();
        listeners.iter().any(|socket| socket.local.port() == 22)
    };
    !request.facts.in_kubernetes() && (is_initial(host::exists).unwrap_or(true) || listens())
}

/// Whether kubelet or a container runtime listens here: the network namespace of a node that is
/// itself a container (kind, k3d) is not the initial one. Docker inside a pod does not count.
fn runs_containers(read: impl Fn(&Path) -> io::Result<TextFile>) -> io::Result<bool> {
    const SOCKETS: &str = "/proc/net/unix";
    const NAMES: [&str; 3] = ["kubelet.sock", "containerd.sock", "crio.sock"];
    let sockets = match read(Path::new(SOCKETS)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        sockets => sockets?,
    };
    let paths = sockets
        .text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    let mut paths = paths.filter(|path| path.starts_with('/') && !path.contains("/docker/"));
    Ok(paths.any(|path| NAMES.iter().any(|name| path.ends_with(&format!("/{name}")))))
}

/// Whether this is the kernel's initial network namespace. `netdev_max_backlog` exists there only,
/// `somaxconn` in every one: if that is absent too, both are hidden.
fn is_initial(exists: impl Fn(&Path) -> io::Result<bool>) -> io::Result<bool> {
    const INITIAL_ONLY: &str = "/proc/sys/net/core/netdev_max_backlog";
    const EVERY: &str = "/proc/sys/net/core/somaxconn";
    let named = |path: &str, e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
    let exists = |path| exists(Path::new(path)).map_err(|e| named(path, e));
    match exists(INITIAL_ONLY)? {
        true => Ok(true),
        false if exists(EVERY)? => Ok(false),
        false => Err(named(EVERY, io::ErrorKind::NotFound.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_a_container_is_recognised_by_its_sockets() {
        let head = "Num RefCount Protocol Flags Type St Inode Path\n";
        for (path, node) in [
            ("/run/containerd/containerd.sock", true),
            ("/var/lib/kubelet/device-plugins/kubelet.sock", true),
            ("/run/docker/containerd/containerd.sock", false),
            ("@/run/crio/crio.sock", false),
            ("/run/app.sock", false),
            ("", false),
        ] {
            let line = format!("{head}0000000000000000: 2 0 00010000 0001 01 4242 {path}\n");
            assert_eq!(
                runs_containers(|_| Ok(line.clone().into())).ok(),
                Some(node),
                "{path}"
            );
        }
    }

    #[test]
    fn the_initial_namespace_is_recognised_and_hidden_files_are_an_error() {
        const NODE: &[&str] = &["netdev_max_backlog", "somaxconn"];
        const POD: &[&str] = &["somaxconn"];
        for (files, initial) in [(NODE, Some(true)), (POD, Some(false)), (&[][..], None)] {
            let exists = |path: &Path| Ok(files.iter().any(|name| path.ends_with(name)));
            assert_eq!(is_initial(exists).ok(), initial, "{files:?}");
        }
    }
}
