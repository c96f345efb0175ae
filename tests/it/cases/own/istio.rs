//! Istio today, by our own command line and by Istio's.

use super::{LINK_LOCAL, ROW, Row, V4, V6};

const BASE: Row = Row {
    mesh: "istio",
    ..ROW
};

const DUAL: Row = Row {
    addresses: &[V4, V6],
    ..BASE
};

/// With two nameservers, one of each family.
const DNS: Row = Row {
    resolv_conf: "# nameserver 1.1.1.1\nsearch svc\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5\n",
    ..DUAL
};

const ISTIO_IPTABLES: Row = Row {
    mesh: "istio-iptables",
    ..ROW
};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "no-options", ..BASE },
    Row { name: "empty-lists", args: "-i '' -x '' -b '' -d '' -o '' -q '' -c '' -k '' -u '' -g '' -m ''", ..BASE },
    Row { name: "empty-items", args: "-u 1337 -b * -d 15090,15021, -i ,10.0.0.0/8,,", ..BASE },
    Row { name: "envoy-user", env: &[("ENVOY_USER", "daemon")], ..BASE },
    Row { name: "ids-by-name", args: "-u daemon,0 -g daemon,5 -i *", ..BASE },
    Row { name: "long-names", args: "--proxy-port 25001 --inbound-capture-port 25006 --inbound-tunnel-port 25008 --proxy-uid 5 --proxy-gid 6 --outbound-cidrs 10.0.0.0/8 --outbound-exclude-cidrs 10.1.0.0/16 --outbound-ports 80 --outbound-exclude-ports 81 --inbound-ports 82 --inbound-exclude-ports 83 --mode REDIRECT --exclude-interfaces net1 --virtual-interfaces net2", ..BASE },
    Row { name: "flags-over-environment", args: "-u 1337 -b 80 -i '' --drop-invalid=false", env: &[("ISTIO_INBOUND_PORTS", "*"), ("ISTIO_SERVICE_CIDR", "*"), ("INVALID_DROP", "true")], ..BASE },
    Row { name: "all-from-the-environment", env: &[("ENVOY_PORT", "25001"), ("INBOUND_CAPTURE_PORT", "25006"), ("INBOUND_TUNNEL_PORT", "25008"), ("PROXY_UID", "5"), ("PROXY_GID", "6"), ("ISTIO_SERVICE_CIDR", "10.0.0.0/8"), ("ISTIO_SERVICE_EXCLUDE_CIDR", "10.1.0.0/16"), ("ISTIO_OUTBOUND_PORTS", "80"), ("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "81"), ("ISTIO_INBOUND_PORTS", "*"), ("ISTIO_LOCAL_EXCLUDE_PORTS", "83"), ("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY"), ("ISTIO_INBOUND_TPROXY_MARK", "42"), ("ISTIO_INBOUND_TPROXY_ROUTE_TABLE", "200"), ("ISTIO_EXCLUDE_INTERFACES", "net1"), ("KUBE_VIRT_INTERFACES", "net2"), ("REDIRECT_DNS", "true"), ("CAPTURE_ALL_DNS", "true"), ("DROP_INVALID", "true"), ("DUAL_STACK", "false"), ("ISTIO_OUTBOUND_OWNER_GROUPS", "*"), ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "7"), ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.0/16")], ..BASE },
    Row { name: "later-names-win", args: "-u 1337", env: &[("DROP_INVALID", "false"), ("INVALID_DROP", "true"), ("REDIRECT_DNS", "true"), ("ISTIO_META_DNS_CAPTURE", "false")], ..BASE },

    // Families.
    Row { name: "a-second-address-is-ipv6", args: "-u 1337 -b * -i *", ..DUAL },
    Row { name: "ipv6-address-first", args: "-u 1337 -b * -i *", addresses: &[V6, V4], ..BASE },
    Row { name: "link-local-only", args: "-u 1337 -b * -i *", addresses: &[V4, LINK_LOCAL], ..BASE },
    Row { name: "dual-stack-without-ipv6-address", args: "-u 1337 -b * -i * --dual-stack", ..BASE },
    Row { name: "no-address", args: "-u 1337 -b * -i *", addresses: &[], ..BASE },
    Row { name: "mixed-cidrs", args: "-u 1337 -i 10.0.0.0/8,fd00::/8 -x fd00:1::/32,10.1.0.0/16", ..DUAL },
    Row { name: "mixed-cidrs-ipv4-only", args: "-u 1337 -i 10.0.0.0/8,fd00::/8 -x fd00:1::/32,10.1.0.0/16", ..BASE },

    // Inbound.
    Row { name: "inbound-range", args: "-u 1337 -b 8000:8100,9090", ..DUAL },
    Row { name: "exclusions-without-all", args: "-u 1337 -b 80 -d 80,15090", ..BASE },
    Row { name: "sixteen-excluded-ports", args: "-u 1337 -b * -d 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", ..BASE },

    // Outbound.
    Row { name: "outbound-ports-excluded", args: "-u 1337 -i * -o 1234,2000:2010", ..DUAL },
    Row { name: "outbound-everything", args: "-u 1337 -i 10.0.0.0/8 -x 10.1.0.0/16 -q 80,443 -o 81", ..DUAL },
    Row { name: "tunnel-port-dns", args: "-u 1337 -e 25008 -i * --redirect-dns --capture-all-dns", ..DUAL },
    Row { name: "loopback-range", args: "-u 1337 -i 127.0.0.0/8,10.0.0.0/8", ..DUAL },
    Row { name: "loopback-ipv6", args: "-u 1337 -i ::1/128", ..DUAL },
    Row { name: "loopback-cidr", args: "-u 1337 -i * --loopback-cidr 127.0.0.0/8", ..DUAL },
    Row { name: "groups", args: "-u 1337 -i * --owner-groups 202,daemon", ..DUAL },
    Row { name: "groups-excluded", args: "-u 1337 -i * --owner-groups-exclude 888,daemon", ..DUAL },
    Row { name: "groups-and-groups-excluded", args: "-u 1337 -i * --owner-groups 202 --owner-groups-exclude 203", ..BASE },
    Row { name: "no-groups", args: "-u 1337 -i *", env: &[("ISTIO_OUTBOUND_OWNER_GROUPS", "")], ..BASE },
    Row { name: "forty-eight-groups", args: "-u 1337 -i * --owner-groups 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48", ..BASE },

    Row { name: "loopback-with-host-bits", args: "-u 1337 -i ::1/64,127.0.0.0/7", ..DUAL },

    // Items that come twice have their rules twice.
    Row { name: "doubles", args: "-u 3,4,3 -g 1,2,1 -b 80,443,80 -o 53,54,53 -q 90,91,90 -i 10.0.0.0/8,11.0.0.0/8,10.1.2.3/8 -x 10.1.0.0/16,10.2.0.0/16,10.1.0.0/16 -c net1,net2,net1 -k eth1,eth2,eth1 --owner-groups 5,6,5", ..DUAL },
    Row { name: "doubles-tproxy", args: "-u 3,4,3 -b * -d 80,443,80 -m TPROXY -c net1,net2,net1 --owner-groups-exclude 5,6,5", ..DUAL },
    Row { name: "doubles-of-nameservers", args: "-u 1337 --redirect-dns", resolv_conf: "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.1\nnameserver 127.0.0.1%lo\n", ..BASE },

    // Interfaces.
    Row { name: "excluded-interfaces", args: "-u 1337 -i * -b * -c docker0,veth+", ..DUAL },
    Row { name: "virtual-interfaces-cidrs", args: "-u 1337 -b * -k eth1,eth2 -i 10.0.0.0/8,fd00::/8,192.168.0.0/16", ..DUAL },
    Row { name: "virtual-interfaces-no-outbound", args: "-u 1337 -b * -k eth1,eth2", ..BASE },
    Row { name: "virtual-and-excluded-interfaces", args: "-u 1337 -i * -b 80 -k eth1 -c net1", ..BASE },

    // DNS.
    Row { name: "dns", args: "-u 1337 -i * -b * --redirect-dns", ..DNS },
    Row { name: "dns-ipv4-only-pod", args: "-u 1337 -i * --redirect-dns", addresses: &[V4], ..DNS },
    Row { name: "dns-ipv4-servers-dual", args: "-u 1337 -i * --redirect-dns", resolv_conf: "nameserver 10.96.0.10\n", ..DUAL },
    Row { name: "dns-ipv6-servers-only", args: "-u 1337 -i * --redirect-dns", resolv_conf: "nameserver fe80::1%eth0\nnameserver fd00::a\n", ..BASE },
    Row { name: "dns-all-dual", args: "-u 3,4 -g 1,2 -i * --redirect-dns --capture-all-dns", ..DNS },
    Row { name: "dns-all-alone-does-nothing", args: "-u 1337 -i * --capture-all-dns", ..DNS },
    Row { name: "dns-owners", args: "-u 3,4 -g 1,2 --redirect-dns", ..DNS },
    Row { name: "dns-and-cidrs", args: "-u 1337 -i 10.0.0.0/8 -x 10.1.0.0/16 --redirect-dns", ..DNS },
    Row { name: "dns-groups", args: "-u 1337 -i * --redirect-dns --owner-groups 202,203", ..DNS },
    Row { name: "dns-groups-excluded", args: "-u 1337 -i * --redirect-dns --owner-groups-exclude 202", ..DNS },
    Row { name: "dns-loopback-captured", args: "-u 1337 -i 127.0.0.0/8 --redirect-dns", ..DNS },
    Row { name: "dns-three-servers", args: "-u 1337 -i * --redirect-dns", resolv_conf: "nameserver 10.96.0.10 # first\nnameserver 10.96.0.11\n;nameserver 1.1.1.1\nnameserver 10.96.0.12\nnameserver dns.example\n", ..BASE },

    Row { name: "dns-docker", args: "-u 1337 -i * -c net1 --redirect-dns", resolv_conf: "nameserver 127.0.0.11\n", ..BASE },
    Row { name: "dns-docker-all", args: "-u 1337 -i * --redirect-dns --capture-all-dns", resolv_conf: "nameserver 127.0.0.11\n", ..DUAL },

    // Order.
    Row { name: "prerouting-first", args: "-u 1337 -i * -b * -c net1 -k eth1 --redirect-dns", env: &[("PREROUTING_FIRST", "true")], ..DNS },
    Row { name: "prerouting-first-tproxy", args: "-u 1337 -m TPROXY -b * --drop-invalid --prerouting-first", ..DUAL },

    // TPROXY.
    Row { name: "tproxy-all-but", args: "-u 1337 -m TPROXY -i * -b * -d 15090,15021", ..DUAL },
    Row { name: "tproxy-list-dual", args: "-u 1337 -m TPROXY -i * -b 80,8000:8100 -d 90", ..DUAL },
    Row { name: "tproxy-none", args: "-u 1337 -m TPROXY -i *", ..DUAL },
    Row { name: "tproxy-owners", args: "-u 3,4 -g 1,2 -m TPROXY -b *", ..BASE },
    Row { name: "tproxy-mark-and-table", args: "-u 1337 -m TPROXY -b * -t 0x2a -r 200", ..DUAL },
    Row { name: "tproxy-interfaces", args: "-u 1337 -m TPROXY -i * -b * -c net1,net2 -k eth1 --drop-invalid", ..DUAL },
    Row { name: "tproxy-dns", args: "-u 1337 -m TPROXY -i * -b * --redirect-dns", ..DNS },
    Row { name: "tproxy-loopback-cidr", args: "-u 1337 -m TPROXY -i * -b * --loopback-cidr 127.0.0.0/16", ..DUAL },
    Row { name: "tproxy-tunnel-port", args: "-u 1337 -m TPROXY -b 80 -e 25008", ..BASE },

    Row { name: "drop-invalid-dual", args: "-u 1337 --drop-invalid", ..DUAL },

    // Istio's own command line, as its templates write it.
    Row { name: "injected", args: "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x '' -b * -d 15090,15021,15020 --log_output_level=default:info", ..ISTIO_IPTABLES },
    Row { name: "injected-every-annotation", args: "-p 15001 -z 15006 -u 1337 -m REDIRECT -i 10.0.0.0/8 -x 10.1.0.0/16 -b * -d 15090,15021,15020 -q 8443 -o 9999 -k eth1 -c net1 --log_as_json --force-apply", ..ISTIO_IPTABLES },
    Row { name: "other-flags", args: "-p=15001 -u1337 --reconcile --cni-mode=false --probe-timeout 5s --iptables-probe-port=15002 --log_output_level default:debug,ads:none --run-validation=false --cleanup-only=false --skip-rule-apply=F --force-iptables-binary ''", ..ISTIO_IPTABLES },
    Row { name: "long-names", args: "--envoy-port 25001 --inbound-capture-port=25006 --istio-service-cidr * --istio-service-exclude-cidr 10.1.0.0/16 --istio-inbound-ports * --istio-local-exclude-ports 83 --istio-inbound-interception-mode TPROXY --istio-inbound-tproxy-mark 42 --istio-inbound-tproxy-route-table 200 --istio-outbound-ports 80 --istio-local-outbound-ports-exclude 81 --istio-exclude-interfaces net1 --kube-virt-interfaces net2 --dual-stack=false", ..ISTIO_IPTABLES },
    Row { name: "the-last-one-counts", args: "-u 1337 -b 80 -b 90 --drop-invalid --drop-invalid=false", ..ISTIO_IPTABLES },
];
