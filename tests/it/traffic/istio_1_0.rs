//! Istio 1.0: one port both ways, users and groups of the proxy, and no new
//! inbound IPv6 past it.

use super::scenario::Scenario;
use crate::lab::{PROXY, User};

const BASE: Scenario = Scenario {
    mesh: "istio-1.0",
    args: "-p 15001 -u 1337 -m REDIRECT -i * -x '' -b 8080 -d ''",
    proxy: (PROXY, "15001,to=loopback"),
    ..Scenario::NOTHING
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "as injected",
        flows: "
            app       tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app       tcp 198.51.100.9:443      -> proxy:15001 orig=198.51.100.9:443 > error=unreachable
            app       tcp 10.66.0.2:8080        -> proxy:15001 orig=10.66.0.2:8080 > app:8080 peer=127.0.0.1
            app       tcp 127.0.0.1:8080        -> app:8080
            proxy     tcp 203.0.113.9:443       -> peer:443
            proxy     tcp 10.66.0.2:8080        -> proxy:15001 orig=10.66.0.2:8080 > app:8080
            1000:1337 tcp 203.0.113.9:443       -> peer:443
            peer      tcp 10.66.0.2:8080        -> proxy:15001 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer      tcp 10.66.0.2:9080        -> app:9080 peer=10.66.0.1
            # IPv6 goes out as ever, and does not come in past the mesh.
            app       tcp [2001:db8:113::9]:443 -> peer:443
            app       tcp [::1]:8080            -> app:8080
            peer      tcp [fd66::2]:8080        -> error=refused
            peer      tcp [fd66::2]:22          -> sshd:22
        ",
        ..BASE
    },
    Scenario {
        name: "all inbound ports but those named, and 22",
        args: "-u 1337 -i * -b * -d 9080",
        flows: "
            peer tcp 10.66.0.2:8080 -> proxy:15001 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer tcp 10.66.0.2:9080 -> app:9080 peer=10.66.0.1
            peer tcp 10.66.0.2:22   -> sshd:22 peer=10.66.0.1
        ",
        ..BASE
    },
    Scenario {
        name: "addresses left alone",
        args: "-u 1337 -i * -x 203.0.113.0/25 -b ''",
        flows: "
            app  tcp 203.0.113.9:443   -> peer:443
            app  tcp 203.0.113.200:443 -> proxy:15001 orig=203.0.113.200:443 > peer:443
            peer tcp 10.66.0.2:8080    -> app:8080 peer=10.66.0.1
        ",
        ..BASE
    },
    Scenario {
        name: "a virtual machine's settings",
        args: "",
        env: "ISTIO_INBOUND_PORTS=3306,8080 ISTIO_SERVICE_CIDR=203.0.113.0/25",
        flows: "
            app  tcp 203.0.113.9:443   -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app  tcp 203.0.113.200:443 -> peer:443
            0:0  tcp 203.0.113.9:443   -> peer:443
            peer tcp 10.66.0.2:8080    -> proxy:15001 orig=10.66.0.2:8080 > app:8080
            peer tcp 10.66.0.2:9080    -> app:9080
        ",
        ..BASE
    },
    Scenario {
        name: "inbound IPv6 is wanted",
        args: "-u 1337 -i * -b 8080",
        env: "ENABLE_INBOUND_IPV6=true",
        flows: "
            app  tcp 203.0.113.9:443 -> proxy:15001 orig=203.0.113.9:443 > peer:443
            peer tcp [fd66::2]:8080  -> app:8080 peer=fd66::1
        ",
        ..BASE
    },
    Scenario {
        name: "TPROXY keeps the client's address",
        args: "-u 1337 -m TPROXY -i * -b 8080",
        proxy: (User(0, 1337), "15001,transparent,to=loopback"),
        flows: "
            peer tcp 10.66.0.2:8080                  -> proxy:15001 peer=10.66.0.1 local=10.66.0.2:8080 > app:8080 peer=127.0.0.1
            peer tcp 10.66.0.2:8080 from 203.0.113.7 -> proxy:15001 peer=203.0.113.7 > app:8080
            peer tcp 10.66.0.2:9080                  -> app:9080 peer=10.66.0.1
            app  tcp 203.0.113.9:443                 -> proxy:15001 orig=203.0.113.9:443 > peer:443
        ",
        ..BASE
    },
];
