//! Beside the rules of somebody else: theirs go on working, and so do ours,
//! whoever came first and whichever way they were written.

use super::nginmesh;
use super::scenario::Scenario;

/// They send queries for port 5300 to a name server, and refuse one address.
const LEGACY: &str = "
    iptables-legacy -t nat -A OUTPUT -p udp --dport 5300 -j DNAT --to-destination 10.66.0.1:53
    iptables-legacy -A OUTPUT -p tcp -d 203.0.113.77 -j REJECT --reject-with tcp-reset
";
const XT: &str = "
    iptables-nft -t nat -A OUTPUT -p udp --dport 5300 -j DNAT --to-destination 10.66.0.1:53
    iptables-nft -A OUTPUT -p tcp -d 203.0.113.77 -j REJECT --reject-with tcp-reset
";
const NATIVE: &str = "
    nft 'table inet other {
        chain nat { type nat hook output priority -100; udp dport 5300 dnat ip to 10.66.0.1:53; }
        chain filter { type filter hook output priority 0; ip daddr 203.0.113.77 meta l4proto tcp reject with tcp reset; }
    }'
";

const BASE: Scenario = Scenario {
    flows: "
        app   tcp 203.0.113.9:443    -> proxy:15001 orig=203.0.113.9:443 > peer:443
        peer  tcp 10.66.0.2:8080     -> proxy:15001 orig=10.66.0.2:8080 > app:8080
        proxy tcp 203.0.113.9:443    -> peer:443
        # Theirs.
        app   udp 203.0.113.53:5300  -> peer:53 from=203.0.113.53:5300
        proxy tcp 203.0.113.77:443   -> error=refused
        # Both: to the proxy it is, and it is the proxy that is refused.
        app   tcp 203.0.113.77:443   -> proxy:15001 orig=203.0.113.77:443 > error=refused
    ",
    ..nginmesh::BASE
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "iptables-legacy first",
        before: LEGACY,
        ..BASE
    },
    Scenario {
        name: "iptables-legacy later",
        after: LEGACY,
        ..BASE
    },
    Scenario {
        name: "iptables-nft first",
        before: XT,
        ..BASE
    },
    Scenario {
        name: "iptables-nft later",
        after: XT,
        ..BASE
    },
    Scenario {
        name: "nft first",
        before: NATIVE,
        ..BASE
    },
    Scenario {
        name: "nft later",
        after: NATIVE,
        ..BASE
    },
];
