//! Whether this process may change rules, and what would let it.

use crate::engine::error::Error;
use crate::mesh::config::{Host, facts};
use caps::{CapSet, Capability};
use nix::unistd::geteuid;

const POD: &str = "Grant it in the pod spec:\n    \
    securityContext:\n      capabilities: {add: [NET_ADMIN]}";

const UNIT: &str = "in the systemd unit:\n    AmbientCapabilities=CAP_NET_ADMIN";

/// Asks before the kernel does, whose EPERM would not say which capability is missing.
pub(crate) fn may_change_rules(host: &dyn Host) -> Result<(), Error> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(false) => Err(Error::NoNetAdmin {
            remedy: remedy(host),
        }),
        // Where capabilities cannot be asked for, the kernel will say.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// What would help who runs this where it runs.
fn remedy(host: &dyn Host) -> String {
    let bounding = |capability| caps::has_cap(None, CapSet::Bounding, capability);
    let may_have = bounding(Capability::CAP_NET_ADMIN).unwrap_or(false);
    // No container runtime gives that one away, and every machine's own shell could have it.
    let in_container =
        facts::is_in_kubernetes(host) || !bounding(Capability::CAP_SYS_MODULE).unwrap_or(true);
    let uid = geteuid();
    match (may_have && !uid.is_root(), in_container) {
        (true, true) => format!(
            "It is granted to this container, but a program that runs as uid {uid} does not get it: \
             run it as root (runAsUser: 0), or give the file the capability (docs/kubernetes.md)"
        ),
        (true, false) => format!("Run it as root, with sudo in front, or grant it {UNIT}"),
        (false, true) if facts::is_in_kubernetes(host) => POD.to_owned(),
        (false, _) => format!("{POD}\nor {UNIT}"),
    }
}
