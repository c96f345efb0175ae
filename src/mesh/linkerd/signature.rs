//! How the rules of Linkerd's mesh are recognised, and what each rule id stands for.

use crate::mesh::signature::{Purpose, Purposes, Signature};

/// Linkerd's proxy-init, which once wrote the time behind its comments
/// (`proxy-init/output/1600000000`).
pub(in crate::mesh) static SIGNATURE: Signature = Signature {
    mesh: "linkerd",
    chains: "PROXY_INIT_",
    inet_tables: &[],
    comments: "proxy-init",
    purposes: PURPOSES,
};

#[rustfmt::skip]
const PURPOSES: Purposes = &[
    ("redirect-all-incoming-to-proxy-port", Purpose::To("the proxy's inbound port")),
    ("redirect-port-", Purpose::To("the proxy's inbound port")),
    ("redirect-all-outgoing-to-proxy-port", Purpose::To("the proxy")),
    ("ignore-proxy-user-id", Purpose::ExemptProxy),
    ("ignore-proxy-group-id", Purpose::ExemptProxy),
    ("ignore-loopback", Purpose::Exempt("loopback is exempt")),
    ("ignore-port-", Purpose::Exempt("port {} is exempt")),
    ("ignore-subnet-", Purpose::Exempt("{} is exempt")),
];
