//! The annotations that Istio's injector writes for a CNI plugin (`pilot.cni.enabled`).

use crate::mesh::annotations::{Annotations, Pod, bad};
use crate::mesh::config::{ConfigError, Given, Opt, Origin};
use crate::mesh::yaml;
use serde::Deserialize;

pub(super) static ANNOTATIONS: Annotations = Annotations {
    claims,
    table: &[
        (MODE, Opt::Mode),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            Opt::OutboundCidrs,
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            Opt::OutboundExcludeCidrs,
        ),
        (
            "traffic.sidecar.istio.io/includeOutboundPorts",
            Opt::OutboundPorts,
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundPorts",
            Opt::OutboundExcludePorts,
        ),
        (
            "traffic.sidecar.istio.io/includeInboundPorts",
            Opt::InboundPorts,
        ),
        (
            "traffic.sidecar.istio.io/excludeInboundPorts",
            Opt::InboundExcludePorts,
        ),
        (
            "traffic.sidecar.istio.io/excludeInterfaces",
            Opt::ExcludeInterfaces,
        ),
        (
            "istio.io/reroute-virtual-interfaces",
            Opt::VirtualInterfaces,
        ),
        (
            "traffic.sidecar.istio.io/kubevirtInterfaces",
            Opt::VirtualInterfaces,
        ),
    ],
    variables,
    empty_is_unset: false,
    added: &[],
    defaults: &[
        (Opt::OutboundCidrs, "*"),
        (Opt::OutboundExcludePorts, "15020"),
        (Opt::InboundPorts, "*"),
        (Opt::InboundExcludePorts, ""),
    ],
    always: &[(Opt::InboundExcludePorts, "15020,15021,15090")],
};

const STATUS: &str = "sidecar.istio.io/status";
const INJECT: &str = "sidecar.istio.io/inject";
const MODE: &str = "sidecar.istio.io/interceptionMode";
const PROXY_CONFIG: &str = "proxy.istio.io/config";

/// The init container that an injector adds instead of istio-init where a CNI plugin is to redirect.
const VALIDATION: &str = "istio-validation";

/// Variables that the mesh's own plugin reads from the proxy's environment.
const VARIABLES: [(&str, Opt); 3] = [
    ("ISTIO_META_DNS_CAPTURE", Opt::RedirectDns),
    ("INVALID_DROP", Opt::DropInvalid),
    ("ISTIO_DUAL_STACK", Opt::DualStack),
];

/// What the injector says that it has added.
#[derive(Deserialize)]
struct Status {
    #[serde(default, rename = "initContainers")]
    init_containers: Option<Vec<String>>,
}

fn claims(pod: &Pod) -> Result<bool, ConfigError> {
    let Some(status) = pod.get(STATUS) else {
        return Ok(false);
    };
    let status: Status = serde_json::from_str(status).map_err(|e| {
        bad(
            STATUS,
            format!("{status:?} is not the JSON that an injector writes: {e}"),
        )
    })?;
    let validated = status.init_containers.unwrap_or_default();
    let validated = validated.iter().any(|name| name == VALIDATION);
    let none = pod
        .get(MODE)
        .is_some_and(|mode| mode.eq_ignore_ascii_case("NONE"));
    Ok(validated && !none && !is_off(pod.get(INJECT)))
}

/// Whether the pod was taken out of the mesh. Other words than those of Go's strconv.ParseBool
/// do not.
fn is_off(inject: Option<&String>) -> bool {
    let value = inject.map(|text| crate::mesh::config::parse_switch(text));
    value == Some(Ok(false))
}

/// Of the proxy's environment only what the annotation with its configuration sets.
fn variables(pod: &Pod) -> Result<Vec<Given>, ConfigError> {
    let Some(text) = pod.get(PROXY_CONFIG) else {
        return Ok(Vec::new());
    };
    let scalars = yaml::scalars(text).map_err(|e| bad(PROXY_CONFIG, e))?;
    let given = VARIABLES.into_iter().filter_map(|(name, opt)| {
        let key = format!("proxyMetadata.{name}");
        let (_, value) = scalars.iter().rev().find(|(path, _)| *path == key)?;
        Some(Given {
            opt,
            value: value.clone(),
            origin: Origin::Variable(name, PROXY_CONFIG),
        })
    });
    Ok(given.collect())
}
