//! Istio 1.0, pods and virtual machines.

use super::{ROW, Row, V4, V6};

const BASE: Row = Row {
    mesh: "istio-1.0",
    ..ROW
};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "no-options", ..BASE },
    Row { name: "uids", args: "-p 15001 -u 1337,2000 -i * -b 80", ..BASE },
    Row { name: "uid-from-the-environment", args: "-i * -b 80", env: &[("PROXY_UID", "1337")], ..BASE },
    Row { name: "gid-of-the-default-user", args: "-g 5 -i * -b 80", env: &[("ENVOY_USER", "daemon")], ..BASE },
    Row { name: "unknown-envoy-user", env: &[("ENVOY_USER", "nobody-of-that-name")], ..BASE },
    Row { name: "ids-by-name", args: "-u daemon -g daemon", ..BASE },
    Row { name: "empty-ids", args: "-u '' -g ''", ..BASE },
    Row { name: "inbound-capture-port", args: "-p 25001 -z 25006 -u 1337 -b 80", ..BASE },
    Row { name: "all-inbound-but", args: "-u 1337 -b * -d 15090,15021,", ..BASE },
    Row { name: "exclusions-without-all", args: "-u 1337 -b 80,443 -d 443", ..BASE },
    Row { name: "port-range", args: "-u 1337 -b 8000:8100,9090", ..BASE },
    Row { name: "several-cidrs", args: "-u 1337 -i 10.0.0.0/8,192.168.0.0/16 -x 10.1.0.0/16", ..BASE },
    Row { name: "netmasks-as-cidrs", args: "-u 1337 -i 10.0.0.0/255.240.0.0 -x 10.1.2.3/255.255.0.0", ..BASE },
    Row { name: "doubles", args: "-u 3,4,3 -g 1,2,1 -b 80,443,80 -i 10.0.0.0/8,11.0.0.0/8,10.0.0.0/8", ..BASE },
    Row { name: "addresses-as-cidrs", args: "-u 1337 -i 10.0.0.1 -x 10.0.0.2", ..BASE },
    Row { name: "cidrs-of-the-other-family", args: "-u 1337 -i fd00::/8 -x fd00:1::/32", ..BASE },
    Row { name: "exclusions-without-inclusions", args: "-u 1337 -x 10.1.0.0/16", ..BASE },
    Row { name: "tproxy-all", args: "-p 15001 -u 1337 -m TPROXY -i * -b * -d 9090", ..BASE },
    Row { name: "tproxy-none", args: "-p 15001 -u 1337 -m TPROXY -i *", ..BASE },
    Row { name: "tproxy-mark-and-table", args: "-u 1337 -m TPROXY -b 80 -t 0x2a -r 200", ..BASE },
    Row { name: "tproxy-inbound-capture-port", args: "-u 1337 -m TPROXY -b 80", env: &[("INBOUND_CAPTURE_PORT", "25006")], ..BASE },
    Row { name: "tproxy-inbound-capture-port-by-flag", args: "-u 1337 -m TPROXY -b 80 -z 25006", env: &[("INBOUND_CAPTURE_PORT", "25007")], ..BASE },
    Row { name: "tproxy-from-the-environment", args: "-u 1337 -b 80", env: &[("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY"), ("ISTIO_INBOUND_TPROXY_MARK", "42"), ("ISTIO_INBOUND_TPROXY_ROUTE_TABLE", "200")], ..BASE },
    Row { name: "empty-mode", args: "-u 1337 -m '' -b 80", ..BASE },
    Row { name: "inbound-ipv6-let-in", args: "-u 1337 -b 80 --enable-inbound-ipv6", addresses: &[V4, V6], ..BASE },
    Row { name: "inbound-ipv6-not-let-in", args: "-u 1337 -b 80", env: &[("ENABLE_INBOUND_IPV6", "false")], addresses: &[V4, V6], ..BASE },
    Row { name: "flags-over-environment", args: "-u 1337 -b 80 -i ''", env: &[("ISTIO_INBOUND_PORTS", "*"), ("ISTIO_SERVICE_CIDR", "10.0.0.0/8")], ..BASE },
    Row { name: "long-names", args: "--proxy-port 15001 --proxy-uid 1337 --proxy-gid 5 --outbound-cidrs * --outbound-exclude-cidrs 10.1.0.0/16 --inbound-ports * --inbound-exclude-ports 9090 --mode TPROXY --inbound-capture-port 15006 --tproxy-mark 42 --tproxy-route-table 200", ..BASE },
];
