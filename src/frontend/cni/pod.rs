//! The facts of a pod that does not run yet: nothing of the node's may pass for the pod's.

use crate::mesh::config::{Host, facts::Ipv6, resolv_conf};
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// A pod, as far as a runtime describes it.
pub(super) struct PodHost<'a> {
    /// Of the process, which is in the pod's network namespace.
    pub kernel: &'a dyn Host,
    pub nameservers: &'a [IpAddr],
}

impl Host for PodHost<'_> {
    /// A pod of Kubernetes; what else is in its environment, annotations say.
    fn env(&self, name: &str) -> Option<OsString> {
        (name == "KUBERNETES_SERVICE_HOST").then(OsString::new)
    }

    /// The files of its image are not known.
    fn file(&self, path: &Path) -> io::Result<String> {
        if path == Path::new(resolv_conf::PATH) {
            let line = |server: &IpAddr| format!("nameserver {server}\n");
            return Ok(self.nameservers.iter().map(line).collect());
        }
        match path.starts_with("/proc") {
            true => self.kernel.file(path),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn ipv6(&self) -> io::Result<Ipv6> {
        self.kernel.ipv6()
    }
}
