//! nginmesh, and Istio 0.2–0.7.

use super::{ROW, Row};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "dual-stack", args: "-p 15001 -u 1337 --dual-stack", ..ROW },
    Row { name: "dual-stack-mixed-cidrs", args: "-p 15001 -u 1337 --dual-stack=true -i 10.0.0.0/8,fd00::/8", ..ROW },
    Row { name: "cidrs-of-the-other-family", args: "-p 15001 -u 1337 -i fd00::/8", ..ROW },
    Row { name: "host-bits", args: "-p 15001 -u 1337 -i 10.1.2.3/8", ..ROW },
    Row { name: "every-address", args: "-p 15001 -u 1337 --dual-stack -i 0.0.0.0/0,::/0", ..ROW },
    Row { name: "empty-items", args: "-p 15001 -u 1337 -i ,10.0.0.0/8,,172.16.0.0/12,", ..ROW },
    Row { name: "empty-list-means-all", args: "-p 15001 -u 1337 -i ''", ..ROW },
    Row { name: "several-uids", args: "-p 15001 -u 1337,0,4294967294", ..ROW },
    Row { name: "from-the-environment", env: &[("ENVOY_PORT", "25001"), ("PROXY_UID", "2102"), ("ISTIO_SERVICE_CIDR", "10.0.0.0/8")], ..ROW },
    Row { name: "flags-over-environment", args: "-p 15001", env: &[("ENVOY_PORT", "25001"), ("PROXY_UID", "1337")], ..ROW },
    Row { name: "an-empty-variable-is-unset", args: "-p 15001 -u 1337", env: &[("ISTIO_SERVICE_CIDR", "")], ..ROW },
    Row { name: "variables-of-other-meshes", args: "-p 15001 -u 1337", env: &[("ISTIO_INBOUND_PORTS", "nonsense")], ..ROW },
    Row { name: "long-names", args: "--envoy-port=15001 --proxy-uid 1337 --istio-service-cidr 10.0.0.0/8", ..ROW },
];
