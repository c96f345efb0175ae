//! A laboratory for tests against the real kernel: network namespaces that look
//! like a pod and its neighbour, programs that run in them, servers that end
//! with the test.
//!
//! A namespace is held by nothing but an open file of the test process, and
//! whatever has to run inside is started from a thread that has entered it. So
//! there is no process to clean up, and a test that panics or is killed leaves
//! nothing: its namespaces go with it, and its servers end when their stdin, a
//! pipe from the test, is closed.
//!
//! All of this needs root and iproute2. Where they are missing a test fails and
//! says so; it is never skipped.

mod done;
mod net;
mod process;
mod saved;

pub use done::Done;
pub use net::{Lab, Namespace};
pub use process::{APP, PROXY, ROOT, Server, User, lab, product};
pub use saved::{SavedChain, without_comments};

use prepare_proxy::netfilter::model::Family;
use std::fmt;
use std::net::SocketAddr;

/// Which of the two implementations of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Nft,
    Legacy,
}

/// Whether all is to be tried (`THOROUGH=1`: `scripts/faults`, `scripts/bench`), or a sample.
pub fn is_thorough() -> bool {
    std::env::var_os("THOROUGH").is_some()
}

/// The address of a socket alone; anything else as it is.
pub fn without_port(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => address.to_owned(),
    }
}

/// Every backend that writes.
pub const BACKENDS: [&str; 3] = ["netlink", "nftables", "iptables-legacy"];

impl Variant {
    /// The iptables that sees the rules of a backend.
    pub fn of(backend: &str) -> Self {
        match backend {
            "iptables-legacy" => Self::Legacy,
            _ => Self::Nft,
        }
    }

    /// `iptables-legacy`, `ip6tables-nft-save`…
    pub fn tool(self, family: Family, suffix: &str) -> String {
        let stem = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{stem}-{self}{suffix}")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

/// Fails unless both are the same.
pub fn same<T: PartialEq + fmt::Display + ?Sized>(
    wanted: &T,
    found: &T,
    what: &str,
) -> Result<(), String> {
    match wanted == found {
        true => Ok(()),
        false => Err(format!("{what}\n--- wanted\n{wanted}--- found\n{found}")),
    }
}
