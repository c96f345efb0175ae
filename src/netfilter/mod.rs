//! netfilter: the model of rules, packet traces, and the backends that read and write rules. Knows
//! no mesh and no option.

pub mod backend;
pub(crate) mod conntrack;
pub mod iptables;
pub mod model;
pub mod netlink;
pub mod nftables;
pub mod rtnetlink;
pub(crate) mod sock_diag;
pub mod trace;
