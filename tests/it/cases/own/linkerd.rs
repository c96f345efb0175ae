//! Linkerd.

use super::{ROW, Row, V4, V6};

const MESH: Row = Row {
    mesh: "linkerd",
    ..ROW
};
const TOOL: Row = Row {
    mesh: "proxy-init",
    ..ROW
};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "no-options", ..MESH },
    Row { name: "subnets-both-ways", args: "--subnets-to-ignore 10.1.2.3/8,fd00::/8 -x 192.0.2.0/24,2001:db8::/32", addresses: &[V4, V6], ..MESH },
    Row { name: "our-names", args: "-p 1 -z 2 -u 3,4 -g 5,6 -b 80,8000-8100 -d 1-65535 -o 9 --dual-stack=false --inbound-exclude-cidrs 10.0.0.0/8", ..MESH },
    Row { name: "its-names", args: "--incoming-proxy-port 2 --outgoing-proxy-port 1 --ports-to-redirect 80 --inbound-ports-to-ignore 22 --outbound-ports-to-ignore 9 --ipv6=false", ..MESH },
    Row { name: "no-variables", env: &[("ENVOY_PORT", "nonsense"), ("PROXY_UID", "nonsense"), ("DUAL_STACK", "nonsense")], ..MESH },
    Row { name: "subnets-of-both-kinds", args: "-p 4143 -o 4140 -u 2102 --subnets-to-ignore 10.0.0.0/8 --inbound-subnets-to-ignore fd00::/8 --outbound-subnets-to-ignore 192.0.2.0/24 --subnets-to-ignore 172.16.0.0/12", addresses: &[V4, V6], ..TOOL },
    Row { name: "full-slots", args: "-p 4143 -o 4140 -u 2102 --ipv6=false --inbound-ports-to-ignore 1,2,3,4,5,6,7,8,9,10,11,12,13,14,20-30,40-40", ..TOOL },
    Row { name: "pflag", args: "-p4143 -o=4140 -u2102 -g=-1 -w --ipv6=FALSE --simulate=false -r 80,81 -r82", ..TOOL },
];
