//! Privileges of this process.

use crate::engine::error::{Error, Grant};
use caps::{CapSet, Capability};
use nix::unistd::geteuid;

/// Checks CAP_NET_ADMIN in advance, as the kernel's EPERM does not name the capability.
///
/// # Errors
/// [`Error::NoNetAdmin`]. Where capabilities cannot be read, the kernel decides.
pub(crate) fn require_net_admin() -> Result<(), Error> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(false) => Err(Error::NoNetAdmin(grant())),
        Ok(true) | Err(_) => Ok(()),
    }
}

fn grant() -> Grant {
    let bounding = |capability| caps::has_cap(None, CapSet::Bounding, capability);
    Grant {
        bounded: bounding(Capability::CAP_NET_ADMIN).unwrap_or(false),
        in_container: !bounding(Capability::CAP_SYS_MODULE).unwrap_or(true),
        uid: geteuid().as_raw(),
    }
}
