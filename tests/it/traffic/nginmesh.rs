//! nginmesh: one port takes everything, both ways.

use super::scenario::Scenario;
use crate::lab::{APP, PROXY};

/// Own addresses are served over loopback, everything else where it was going.
pub const BASE: Scenario = Scenario {
    mesh: "nginmesh",
    args: "-p 15001 -u 1337",
    proxy: (PROXY, "15001,to=loopback"),
    ..Scenario::NOTHING
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "everything",
        flows: "
            app   tcp 10.66.0.1:80                    -> proxy:15001 orig=10.66.0.1:80 > peer:80
            app   tcp 203.0.113.9:443                 -> proxy:15001 orig=203.0.113.9:443 peer=10.66.0.2 > peer:443
            # Nobody is there, and still it is the proxy that finds out.
            app   tcp 198.51.100.9:443                -> proxy:15001 orig=198.51.100.9:443 > error=unreachable
            app   tcp 10.66.0.2:8080                  -> proxy:15001 orig=10.66.0.2:8080 > app:8080 peer=127.0.0.1
            app   tcp 127.0.0.1:8080                  -> app:8080 peer=127.0.0.1
            proxy tcp 203.0.113.9:443                 -> peer:443 peer=10.66.0.2
            proxy tcp 127.0.0.1:8080                  -> app:8080
            # The proxy's own address is the one thing that is captured from it.
            proxy tcp 10.66.0.2:8080                  -> proxy:15001 orig=10.66.0.2:8080 > app:8080
            peer  tcp 10.66.0.2:8080                  -> proxy:15001 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer  tcp 10.66.0.2:8080 from 203.0.113.7 -> proxy:15001 orig=10.66.0.2:8080 peer=203.0.113.7 > app:8080
            # IPv6 was not asked for.
            app   tcp [2001:db8:113::9]:443           -> peer:443
            peer  tcp [fd66::2]:8080                  -> app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "only some addresses",
        args: "-p 15001 -u 1337 -i 203.0.113.0/25,10.0.0.0/8",
        flows: "
            app   tcp 203.0.113.9:443   -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app   tcp 203.0.113.127:443 -> proxy:15001 orig=203.0.113.127:443 > peer:443
            app   tcp 10.66.0.1:80      -> proxy:15001 orig=10.66.0.1:80 > peer:80
            app   tcp 203.0.113.128:443 -> peer:443 peer=10.66.0.2
            app   tcp 127.0.0.1:8080    -> app:8080
            proxy tcp 203.0.113.9:443   -> peer:443
            peer  tcp 10.66.0.2:8080    -> proxy:15001 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "another port and user",
        args: "-p 25001 -u 1000",
        proxy: (APP, "25001,to=loopback"),
        flows: "
            proxy tcp 203.0.113.9:443 -> proxy:25001 orig=203.0.113.9:443 > peer:443
            app   tcp 203.0.113.9:443 -> peer:443
            peer  tcp 10.66.0.2:8080  -> proxy:25001 orig=10.66.0.2:8080 > app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "both families",
        args: "-p 15001 -u 1337 --dual-stack",
        flows: "
            app   tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app   tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 peer=fd66::2 > peer:443
            app   tcp [fd66::2]:8080        -> proxy:15001 orig=[fd66::2]:8080 > app:8080 peer=::1
            app   tcp [::1]:8080            -> app:8080
            proxy tcp [2001:db8:113::9]:443 -> peer:443
            peer  tcp [fd66::2]:8080        -> proxy:15001 orig=[fd66::2]:8080 peer=fd66::1 > app:8080
        ",
        ..BASE
    },
];
