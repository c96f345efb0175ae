//! How the rules of Istio's meshes are recognised, and what each rule id stands for.

use crate::mesh::signature::{Purpose, Purposes, Signature};

/// All of Istio's tools, and the meshes that replace them.
pub(in crate::mesh) static SIGNATURE: Signature = Signature {
    mesh: "istio",
    chains: "ISTIO_",
    // With --native-nftables, since 1.27.
    inet_tables: &["istio-proxy-nat", "istio-proxy-mangle", "istio-proxy-raw"],
    comments: "istio",
    purposes: PURPOSES,
};

#[rustfmt::skip]
const PURPOSES: Purposes = &[
    ("redirect-to-envoy-port", Purpose::To("the proxy")),
    ("redirect-to-inbound-port", Purpose::To("the proxy's inbound port")),
    ("tproxy-to-inbound-port", Purpose::To("the proxy's inbound port")),
    ("redirect-dns", Purpose::To("the proxy's nameserver")),
    ("bypass-envoy", Purpose::ExemptProxy),
    ("bypass-explicit-loopback", Purpose::Exempt("loopback is exempt")),
    ("bypass-app-to-itself", Purpose::Exempt("traffic of an app to itself is exempt")),
    ("bypass-inbound-passthrough", Purpose::ExemptPassed("its source is the address that the proxy uses towards the app")),
    ("bypass-marked", Purpose::ExemptPassed("its mark says that it has passed the proxy")),
    ("bypass-ssh", Purpose::Exempt("SSH is exempt")),
    ("bypass-tunnel-port", Purpose::Exempt("its destination is the proxy's tunnel port")),
    ("bypass-other-groups", Purpose::Exempt("its sender's group is not one of those captured")),
    ("bypass-default-outbound", Purpose::Exempt("its destination is not one of those captured")),
    ("bypass-ip-range-", Purpose::Exempt("{} is exempt")),
    ("bypass-outbound-port-", Purpose::Exempt("outbound port {} is exempt")),
    ("bypass-inbound-port-", Purpose::Exempt("inbound port {} is exempt")),
    ("bypass-interface-", Purpose::Exempt("interface {} is exempt")),
    ("bypass-group-", Purpose::Exempt("group {} is exempt")),
    ("bypass-virtual-interface-", Purpose::Exempt("{} is an interface of virtual machines, and the destination is not one of those captured")),
];
