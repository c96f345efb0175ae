//! The annotations that Linkerd's injector leaves on a pod (`cniEnabled`).

use crate::mesh::annotations::{Annotations, Pod};
use crate::mesh::config::{ConfigError, Opt};

pub(super) static ANNOTATIONS: Annotations = Annotations {
    claims,
    table: &[
        ("config.linkerd.io/proxy-uid", Opt::ProxyUid),
        ("config.linkerd.io/proxy-gid", Opt::ProxyGid),
        (
            "config.linkerd.io/skip-inbound-ports",
            Opt::InboundExcludePorts,
        ),
        (
            "config.linkerd.io/skip-outbound-ports",
            Opt::OutboundExcludePorts,
        ),
        ("config.linkerd.io/skip-subnets", Opt::InboundExcludeCidrs),
    ],
    variables: |_| Ok(Vec::new()),
    empty_is_unset: true,
    added: &[Opt::InboundExcludePorts],
    // The proxy's own ports, which the injector names on the command line of proxy-init.
    defaults: &[(Opt::InboundExcludePorts, "4190,4191")],
    always: &[],
};

/// The injector writes it into every pod that it gives a proxy.
const INJECTED: &str = "linkerd.io/proxy-version";

fn claims(pod: &Pod) -> Result<bool, ConfigError> {
    Ok(pod.contains_key(INJECTED))
}
