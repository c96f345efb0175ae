//! What the kernel has: rules as values, what they do to a packet, and the ways in which they are read
//! and written. Knows no mesh and no option.

pub mod backend;
pub(crate) mod conntrack;
pub mod iptables;
pub mod model;
pub mod netlink;
pub mod nftables;
pub mod rtnetlink;
pub(crate) mod sock_diag;
pub mod trace;
