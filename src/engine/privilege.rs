//! Whether this process may change rules, and what would let it.

use crate::engine::error::{Error, Grant};
use caps::{CapSet, Capability};
use nix::unistd::geteuid;

/// Checks before the kernel does, whose EPERM does not say which capability is missing.
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
