//! Linkerd: one port for what comes in, another for what goes out, in both families.

use super::scenario::Scenario;
use crate::lab::User;

const BASE: Scenario = Scenario {
    mesh: "linkerd",
    args: "",
    proxy: (User(2102, 2102), "4140,to=loopback 4143,to=loopback"),
    ..Scenario::NOTHING
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "as injected",
        args: "-d 4190,4191,4567,4568,9080 -o 4567,4568,80",
        flows: "
            app       tcp 203.0.113.9:443             -> proxy:4140 orig=203.0.113.9:443 peer=10.66.0.2 > peer:443
            app       tcp [2001:db8:113::9]:443       -> proxy:4140 orig=[2001:db8:113::9]:443 peer=fd66::2 > peer:443
            peer      tcp 10.66.0.2:8080              -> proxy:4143 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer      tcp [fd66::2]:8080              -> proxy:4143 orig=[fd66::2]:8080 peer=fd66::1 > app:8080
            # Ports left alone.
            app       tcp 10.66.0.1:80                -> peer:80 peer=10.66.0.2
            app       tcp [fd66::1]:80                -> peer:80
            peer      tcp 10.66.0.2:9080              -> app:9080 peer=10.66.0.1
            peer      tcp [fd66::2]:9080              -> app:9080
            # The proxy's own, and what stays on lo.
            2102:2102 tcp 203.0.113.9:443             -> peer:443 peer=10.66.0.2
            2102:2102 tcp [2001:db8:113::9]:443       -> peer:443
            app       tcp 127.0.0.1:8080              -> app:8080 peer=127.0.0.1
            app       tcp [::1]:8080                  -> app:8080
            app       tcp 10.66.0.2:8080              -> app:8080 peer=10.66.0.2
            1000:2102 tcp 203.0.113.9:443             -> proxy:4140 orig=203.0.113.9:443 > peer:443
            # Not TCP.
            app       udp 10.66.0.1:53                -> peer:53
        ",
        ..BASE
    },
    Scenario {
        name: "subnets left alone, each family its own",
        args: "--subnets-to-ignore 203.0.113.0/24,fd66::/64 --outbound-exclude-cidrs 203.0.113.0/25,2001:db8::/32",
        flows: "
            peer tcp 10.66.0.2:8080 from 203.0.113.7 -> app:8080 peer=203.0.113.7
            peer tcp 10.66.0.2:8080                  -> proxy:4143 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer tcp [fd66::2]:8080                  -> app:8080
            app  tcp 203.0.113.9:443                 -> peer:443
            app  tcp 203.0.113.200:443               -> proxy:4140 orig=203.0.113.200:443 > peer:443
            app  tcp [2001:db8:113::9]:443           -> peer:443
            app  tcp [fd66::1]:443                   -> proxy:4140 orig=[fd66::1]:443 > peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "some ports and ranges, a group, IPv4 alone",
        args: "-b 8080 -o 440-450 -u '' -g 2102 --ipv6=false",
        flows: "
            peer      tcp 10.66.0.2:8080        -> proxy:4143 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer      tcp 10.66.0.2:9080        -> app:9080 peer=10.66.0.1
            peer      tcp [fd66::2]:8080        -> app:8080
            app       tcp 203.0.113.9:443       -> peer:443 peer=10.66.0.2
            app       tcp 10.66.0.1:80          -> proxy:4140 orig=10.66.0.1:80 > peer:80
            app       tcp [2001:db8:113::9]:443 -> peer:443
            1000:2102 tcp 10.66.0.1:80          -> peer:80
        ",
        ..BASE
    },
];
