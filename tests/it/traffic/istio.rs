//! Today's Istio: outbound to 15001, inbound to 15006, the tunnel on 15008.

use super::scenario::Scenario;
use crate::lab::{PROXY, User};

/// In TPROXY mode the proxy needs capabilities, and is known by its group.
const ROOT_PROXY: User = User(0, 1337);

/// Envoy passes inbound connections on to where they were going, from an
/// address that the rules know.
const SIDECAR: &str = "15001 15006,from=127.0.0.6,from=::6 15008,to=nowhere";
/// The same under TPROXY, where the application sees the client's address.
const TPROXY: &str = "15001 15006,transparent,from=peer,mark=1337 15008,to=nowhere";

/// What the injector asks for.
const BASE: Scenario = Scenario {
    mesh: "istio",
    args: "-p 15001 -z 15006 -u 1337 -i * -b * -d 15090,15021,15020",
    resolv_conf: "nameserver 10.66.0.1\nnameserver fd66::1\n",
    proxy: (PROXY, SIDECAR),
    ..Scenario::NOTHING
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "as injected",
        flows: "
            app   tcp 203.0.113.9:443               -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app   tcp 198.51.100.9:80               -> proxy:15001 orig=198.51.100.9:80 > error=unreachable
            app   tcp 127.0.0.1:8080                -> app:8080 peer=127.0.0.1
            # One's own address is reached directly, not through the proxy.
            app   tcp 10.66.0.2:8080                -> app:8080 peer=10.66.0.2
            proxy tcp 203.0.113.9:443               -> peer:443 peer=10.66.0.2
            proxy tcp 127.0.0.1:8080                -> app:8080
            proxy tcp 10.66.0.2:8080                -> proxy:15006 orig=10.66.0.2:8080 > app:8080 peer=127.0.0.6
            # What comes from 127.0.0.6 has been through the proxy already.
            proxy tcp 10.66.0.2:8080 from 127.0.0.6 -> app:8080 peer=127.0.0.6
            peer  tcp 10.66.0.2:8080                -> proxy:15006 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080 peer=127.0.0.6
            peer  tcp 10.66.0.2:15020               -> app:15020 peer=10.66.0.1
            peer  tcp 10.66.0.2:15008               -> proxy:15008 peer=10.66.0.1
            # The tunnel to oneself is not captured either.
            proxy tcp 10.66.0.2:15008               -> proxy:15008 peer=10.66.0.2
        ",
        ..BASE
    },
    Scenario {
        name: "both families",
        env: "ISTIO_DUAL_STACK=true",
        flows: "
            app   tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app   tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 > peer:443
            app   tcp [fd66::2]:8080        -> app:8080 peer=fd66::2
            app   tcp [::1]:8080            -> app:8080
            proxy tcp [2001:db8:113::9]:443 -> peer:443 peer=fd66::2
            proxy tcp [fd66::2]:8080        -> proxy:15006 orig=[fd66::2]:8080 > app:8080 peer=::6
            peer  tcp [fd66::2]:8080        -> proxy:15006 orig=[fd66::2]:8080 peer=fd66::1 > app:8080 peer=::6
            peer  tcp [fd66::2]:15020       -> app:15020 peer=fd66::1
            peer  tcp [fd66::2]:15008       -> proxy:15008 peer=fd66::1
        ",
        ..BASE
    },
    Scenario {
        name: "one's own service: out through the proxy and in again",
        proxy: (PROXY, "15001,to=10.66.0.2:8080,to=[fd66::2]:8080 15006,from=127.0.0.6,from=::6"),
        flows: "
            app tcp 203.0.113.96:8080       -> proxy:15001 orig=203.0.113.96:8080 > proxy:15006 orig=10.66.0.2:8080 > app:8080 peer=127.0.0.6
            app tcp [2001:db8:113::96]:8080 -> proxy:15001 orig=[2001:db8:113::96]:8080 > proxy:15006 orig=[fd66::2]:8080 > app:8080 peer=::6
        ",
        ..BASE
    },
    Scenario {
        name: "excluded addresses of both families",
        args: "-u 1337 -i * -x 203.0.113.0/25,2001:db8:113:1::/64 -b *",
        flows: "
            app tcp 203.0.113.127:443       -> peer:443
            app tcp 203.0.113.128:443       -> proxy:15001 orig=203.0.113.128:443 > peer:443
            app tcp [2001:db8:113:1::9]:443 -> peer:443
            app tcp [2001:db8:113:2::9]:443 -> proxy:15001 orig=[2001:db8:113:2::9]:443 > peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "included addresses of both families",
        args: "-u 1337 -i 203.0.113.0/25,2001:db8:113:1::/64",
        flows: "
            app  tcp 203.0.113.127:443       -> proxy:15001 orig=203.0.113.127:443 > peer:443
            app  tcp 203.0.113.128:443       -> peer:443
            app  tcp [2001:db8:113:1::9]:443 -> proxy:15001 orig=[2001:db8:113:1::9]:443 > peer:443
            app  tcp [2001:db8:113:2::9]:443 -> peer:443
            # No inbound port was named.
            peer tcp 10.66.0.2:8080          -> app:8080 peer=10.66.0.1
        ",
        ..BASE
    },
    Scenario {
        name: "an excluded address inside an included one",
        args: "-u 1337 -i 203.0.113.0/24 -x 203.0.113.0/25",
        flows: "
            app tcp 203.0.113.9:443   -> peer:443
            app tcp 203.0.113.200:443 -> proxy:15001 orig=203.0.113.200:443 > peer:443
            app tcp 10.66.0.1:80      -> peer:80
        ",
        ..BASE
    },
    Scenario {
        name: "an outbound port that is left alone",
        args: "-u 1337 -i * --outbound-exclude-ports 22,443",
        flows: "
            app tcp 203.0.113.9:443      -> peer:443
            app tcp [2001:db8:113::9]:22 -> peer:22
            app tcp 203.0.113.9:80       -> proxy:15001 orig=203.0.113.9:80 > peer:80
            app tcp [2001:db8:113::9]:80 -> proxy:15001 orig=[2001:db8:113::9]:80 > peer:80
        ",
        ..BASE
    },
    Scenario {
        name: "only one outbound port",
        args: "-u 1337 --outbound-ports 443",
        flows: "
            app tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 > peer:443
            app tcp 203.0.113.9:80        -> peer:80
            app tcp [2001:db8:113::9]:80  -> peer:80
        ",
        ..BASE
    },
    Scenario {
        name: "only some inbound ports",
        args: "-u 1337 -b 8080",
        flows: "
            peer tcp 10.66.0.2:8080  -> proxy:15006 orig=10.66.0.2:8080 peer=10.66.0.1 > app:8080
            peer tcp [fd66::2]:8080  -> proxy:15006 orig=[fd66::2]:8080 peer=fd66::1 > app:8080
            peer tcp 10.66.0.2:9080  -> app:9080 peer=10.66.0.1
            peer tcp [fd66::2]:9080  -> app:9080 peer=fd66::1
            app  tcp 203.0.113.9:443 -> peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "an interface that is left alone",
        args: "-u 1337 -i * -b * -c net1",
        flows: "
            app  tcp 10.68.0.1:80   -> peer:80 peer=10.68.0.2
            app  tcp [fd68::1]:80   -> peer:80 peer=fd68::2
            peer tcp 10.68.0.2:8080 -> app:8080 peer=10.68.0.1
            peer tcp [fd68::2]:8080 -> app:8080 peer=fd68::1
            app  tcp 10.66.0.1:80   -> proxy:15001 orig=10.66.0.1:80 > peer:80
            peer tcp 10.66.0.2:8080 -> proxy:15006 orig=10.66.0.2:8080 > app:8080
            peer tcp [fd66::2]:8080 -> proxy:15006 orig=[fd66::2]:8080 > app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "a virtual machine behind a bridge",
        args: "-u 1337 -i * -b * -k br0",
        flows: "
            app   tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            guest tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 peer=10.67.0.1 > peer:443 peer=10.66.0.2
            guest tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 peer=fd67::1 > peer:443
            peer  tcp 10.66.0.2:8080        -> proxy:15006 orig=10.66.0.2:8080 > app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "a virtual machine, some addresses only",
        args: "-u 1337 -i 203.0.113.0/25 -k br0",
        flows: "
            app   tcp 203.0.113.9:443 -> proxy:15001 orig=203.0.113.9:443 > peer:443
            guest tcp 203.0.113.9:443 -> proxy:15001 orig=203.0.113.9:443 peer=10.67.0.1 > peer:443
            guest tcp 10.67.0.2:8080  -> app:8080 peer=10.67.0.1
        ",
        ..BASE
    },
    Scenario {
        name: "only some groups are captured",
        args: "-u 1337 -i * --owner-groups 202,203",
        flows: "
            1000:202 tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            1000:203 tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 > peer:443
            app      tcp 203.0.113.9:443       -> peer:443
            app      tcp [2001:db8:113::9]:443 -> peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "some groups are not captured",
        args: "-u 1337 -i * --owner-groups-exclude 202",
        flows: "
            1000:202 tcp 203.0.113.9:443       -> peer:443
            1000:202 tcp [2001:db8:113::9]:443 -> peer:443
            app      tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
            app      tcp [2001:db8:113::9]:443 -> proxy:15001 orig=[2001:db8:113::9]:443 > peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "several users and groups of the proxy",
        args: "-u 1337,1338 -g 2000 -i *",
        flows: "
            1338:1000 tcp 203.0.113.9:443       -> peer:443
            1000:2000 tcp [2001:db8:113::9]:443 -> peer:443
            1000:1337 tcp 203.0.113.9:443       -> proxy:15001 orig=203.0.113.9:443 > peer:443
        ",
        ..BASE
    },
    Scenario {
        name: "invalid packets are dropped, connections are not",
        args: "-u 1337 -i * -b * --drop-invalid",
        flows: "
            app  tcp 203.0.113.9:443 -> proxy:15001 orig=203.0.113.9:443 > peer:443
            peer tcp 10.66.0.2:8080  -> proxy:15006 orig=10.66.0.2:8080 > app:8080
        ",
        ..BASE
    },
    Scenario {
        name: "TPROXY keeps the client's address, up to the application",
        args: "-u 1337 -m TPROXY -i * -b * -d 15090,15021,15020",
        proxy: (ROOT_PROXY, TPROXY),
        flows: TPROXY_FLOWS,
        ..BASE
    },
    Scenario {
        name: "TPROXY with another mark and table",
        args: "-u 1337 -m TPROXY -i * -b * -d 15020 -t 77 -r 100",
        proxy: (ROOT_PROXY, "15001 15006,transparent,from=peer,mark=77"),
        flows: TPROXY_FLOWS,
        ..BASE
    },
    Scenario {
        name: "TPROXY for some ports, an interface left alone",
        args: "-u 1337 -m TPROXY -i * -b 8080 -c net1",
        proxy: (ROOT_PROXY, TPROXY),
        flows: "
            peer tcp 10.66.0.2:8080 -> proxy:15006 peer=10.66.0.1 local=10.66.0.2:8080 > app:8080 peer=10.66.0.1
            peer tcp [fd66::2]:8080 -> proxy:15006 peer=fd66::1 local=[fd66::2]:8080 > app:8080 peer=fd66::1
            peer tcp 10.66.0.2:9080 -> app:9080 peer=10.66.0.1
            peer tcp 10.68.0.2:8080 -> app:8080 peer=10.68.0.1
            peer tcp [fd68::2]:8080 -> app:8080 peer=fd68::1
        ",
        ..BASE
    },
    Scenario {
        name: "DNS to the name servers of resolv.conf",
        args: "-u 1337 -i * -b * --redirect-dns",
        flows: "
            app   udp 10.66.0.1:53                     -> dns:15053 from=10.66.0.1:53
            app   udp [fd66::1]:53                     -> dns:15053 from=[fd66::1]:53
            app   tcp 10.66.0.1:53                     -> dns:15053 orig=10.66.0.1:53
            app   tcp [fd66::1]:53                     -> dns:15053 orig=[fd66::1]:53
            # Other servers are asked as ever; their TCP goes as all TCP does.
            app   udp 203.0.113.53:53                  -> peer:53 from=203.0.113.53:53
            app   udp [2001:db8:113::53]:53            -> peer:53 from=[2001:db8:113::53]:53
            app   tcp 203.0.113.53:53                  -> proxy:15001 orig=203.0.113.53:53 > peer:53
            proxy udp 10.66.0.1:53                     -> peer:53 from=10.66.0.1:53
            proxy udp [fd66::1]:53                     -> peer:53 from=[fd66::1]:53
            proxy tcp 10.66.0.1:53                     -> peer:53 peer=10.66.0.2
            # One after the other on the same port: each to its own place.
            app   udp 10.66.0.1:53 from 10.66.0.2:5353 -> dns:15053 from=10.66.0.1:53
            proxy udp 10.66.0.1:53 from 10.66.0.2:5353 -> peer:53 peer=10.66.0.2:5353 from=10.66.0.1:53
            app   udp 10.66.0.1:53 from 10.66.0.2:5353 -> dns:15053 from=10.66.0.1:53
            app   udp [fd66::1]:53 from [fd66::2]:5353 -> dns:15053 from=[fd66::1]:53
            proxy udp [fd66::1]:53 from [fd66::2]:5353 -> peer:53 peer=[fd66::2]:5353 from=[fd66::1]:53
        ",
        ..BASE
    },
    Scenario {
        name: "all DNS",
        args: "-u 1337 -i * -b * --redirect-dns --capture-all-dns",
        resolv_conf: "",
        flows: "
            app   udp 203.0.113.53:53                     -> dns:15053 from=203.0.113.53:53
            app   udp [2001:db8:113::53]:53               -> dns:15053 from=[2001:db8:113::53]:53
            app   tcp 203.0.113.53:53                     -> dns:15053 orig=203.0.113.53:53
            proxy udp 203.0.113.53:53 from 10.66.0.2:5353 -> peer:53 from=203.0.113.53:53
            app   udp 203.0.113.53:53 from 10.66.0.2:5353 -> dns:15053 from=203.0.113.53:53
            proxy udp 203.0.113.53:53 from 10.66.0.2:5353 -> peer:53 from=203.0.113.53:53
            proxy tcp 203.0.113.53:53                     -> peer:53
        ",
        ..BASE
    },
    Scenario {
        name: "DNS although only some addresses are captured",
        args: "-u 1337 -i 203.0.113.0/25 --redirect-dns",
        flows: "
            app udp 10.66.0.1:53 -> dns:15053 from=10.66.0.1:53
            app tcp 10.66.0.1:53 -> dns:15053 orig=10.66.0.1:53
            app tcp 10.66.0.1:80 -> peer:80
        ",
        ..BASE
    },
    Scenario {
        name: "a name server on loopback",
        args: "-u 1337 -i * -b * --redirect-dns",
        resolv_conf: "nameserver 127.0.0.53\n",
        flows: "
            app     udp 127.0.0.53:53 -> dns:15053 from=127.0.0.53:53
            app     tcp 127.0.0.53:53 -> dns:15053 orig=127.0.0.53:53
            proxy   udp 127.0.0.53:53 -> stub:53 from=127.0.0.53:53
            proxy   tcp 127.0.0.53:53 -> stub:53
            # The stub asks on as a user of its own, and gets out.
            102:102 udp 10.66.0.1:53  -> peer:53 from=10.66.0.1:53
        ",
        ..BASE
    },
];

const TPROXY_FLOWS: &str = "
    peer   tcp 10.66.0.2:8080                  -> proxy:15006 peer=10.66.0.1 local=10.66.0.2:8080 > app:8080 peer=10.66.0.1
    peer   tcp [fd66::2]:8080                  -> proxy:15006 peer=fd66::1 local=[fd66::2]:8080 > app:8080 peer=fd66::1
    peer   tcp 10.66.0.2:8080 from 203.0.113.7 -> proxy:15006 peer=203.0.113.7 > app:8080 peer=203.0.113.7
    peer   tcp 10.66.0.2:15020                 -> app:15020 peer=10.66.0.1
    app    tcp 203.0.113.9:443                 -> proxy:15001 orig=203.0.113.9:443 > peer:443 peer=10.66.0.2
    app    tcp [2001:db8:113::9]:443           -> proxy:15001 orig=[2001:db8:113::9]:443 > peer:443 peer=fd66::2
    app    tcp 10.66.0.2:8080                  -> app:8080 peer=10.66.0.2
    0:1337 tcp 203.0.113.9:443                 -> peer:443 peer=10.66.0.2
    # The proxy to itself: in, once.
    0:1337 tcp 10.66.0.2:8080                  -> proxy:15006 peer=10.66.0.2 > app:8080 peer=10.66.0.2
    0:1337 tcp 10.66.0.2:8080 from 127.0.0.6   -> app:8080 peer=127.0.0.6
    0:1337 tcp 127.0.0.1:8080                  -> app:8080 peer=127.0.0.1
";
