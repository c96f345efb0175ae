//! Istio 1.0, pods and virtual machines: the rules of its istio-iptables.sh.
//!
//! IPv4 goes through the proxy. For new inbound IPv6, which could otherwise get past it, there is a
//! chain of our own in the filter table; INPUT keeps everything else that is in it.

pub(super) mod flushed;

use super::Mesh;
use super::shared::{
    Capture, INBOUND, OUTPUT, REDIRECT, bypass_cidrs, established, inbound, policy_routes,
    redirect_cidrs, redirects, tcp, tproxy_captures, tproxy_targets,
};
use crate::mesh::config::{Config, DefaultValue, Opt, Profile, Selection, Tproxy};
use crate::mesh::istio::signature::SIGNATURE;
use crate::netfilter::model::{
    Chain, ChainName, Family, Interface, Match, Owner, Protocol, RejectWith, Routing, Rule,
    Ruleset, Table, TableName, Target,
};
use ipnet::Ipv6Net;
use std::net::Ipv6Addr;

pub(super) static MESH: Mesh = Mesh {
    profile: Profile {
        name: "istio-1.0",
        called: &["istio-iptables.sh"],
        options: &[
            (Opt::ProxyPort, DefaultValue::Value("15001")),
            (Opt::ProxyUid, DefaultValue::EnvoyUser { and: &[0] }),
            (Opt::ProxyGid, DefaultValue::Same(Opt::ProxyUid)),
            (Opt::OutboundCidrs, DefaultValue::Value("")),
            (Opt::OutboundExcludeCidrs, DefaultValue::Value("")),
            (Opt::InboundPorts, DefaultValue::Value("")),
            (Opt::InboundExcludePorts, DefaultValue::Value("")),
            (Opt::InboundCapturePort, DefaultValue::Same(Opt::ProxyPort)),
            (Opt::PreroutingFirst, DefaultValue::Value("false")),
            (Opt::EnableInboundIpv6, DefaultValue::Value("false")),
            (Opt::Mode, DefaultValue::Value("REDIRECT")),
            (Opt::TproxyMark, DefaultValue::Value("1337")),
            (Opt::TproxyRouteTable, DefaultValue::Value("133")),
        ],
        fixed: &[
            (Opt::OwnerGroups, DefaultValue::Value("*")),
            (Opt::LoopbackCidr, DefaultValue::Value("127.0.0.1/32")),
        ],
        bare_addresses: true,
        tproxy_to_proxy_port: true,
        port_ranges: ':',
        variables: true,
        env_files: &[
            ("ISTIO_CLUSTER_CONFIG", "/var/lib/istio/envoy/cluster.env"),
            ("ISTIO_SIDECAR_CONFIG", "/var/lib/istio/envoy/sidecar.env"),
        ],
    },
    signature: &SIGNATURE,
    adds_loopback_address: false,
    command_line: None,
    rules: ruleset,
    annotations: None,
};

/// What comes in over IPv6.
const INPUT: ChainName = ChainName::fixed("ISTIO_INPUT");

const SSH: u16 = 22;
const DHCPV6_CLIENT: u16 = 546;
/// Where a link's own servers and relays answer from.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

fn ruleset(config: &Config) -> Ruleset {
    let mut tables = Vec::new();
    if let Some(tproxy) = tproxy_captures(config) {
        tables.push(mangle(config, tproxy));
    }
    tables.push(nat(config));
    if config.ipv6.enabled && !config.enable_inbound_ipv6 {
        tables.push(filter());
    }
    Ruleset {
        tables,
        routing: Routing {
            policy_routes: policy_routes(config, &[Family::V4]),
            loopback_addresses: Vec::new(),
        },
    }
}

fn mangle(config: &Config, tproxy: Tproxy) -> Table {
    let mut table = Table::new(Family::V4, TableName::Mangle);
    tproxy_targets(&mut table, config, tproxy);
    capture_inbound(&mut table, config, &Capture::tproxy(Match::socket()));
    table
}

fn nat(config: &Config) -> Table {
    let mut table = Table::new(Family::V4, TableName::Nat);
    redirects(&mut table, config);
    if !config.inbound_ports.is_none() && config.tproxy.is_none() {
        capture_inbound(&mut table, config, &Capture::redirect());
    }
    let output = table.chain(OUTPUT);
    exemptions(output, config);
    redirect_cidrs(output, &config.outbound_cidrs, Family::V4);
    if matches!(config.outbound_cidrs, Selection::Only(_)) && !config.outbound_cidrs.is_none() {
        output.rule("bypass-default-outbound", [], Target::Return);
    }
    table
        .chain(ChainName::OUTPUT)
        .rule("install-istio-output", [tcp()], Target::Jump(OUTPUT));
    table
}

/// The inbound chain and the jump to it. SSH is never captured with "all": it is how one gets at a
/// virtual machine.
fn capture_inbound(table: &mut Table, config: &Config, steps: &[Capture]) {
    let chain = table.chain(INBOUND);
    if config.inbound_ports == Selection::All {
        chain.rule("bypass-ssh", [tcp(), Match::dport(SSH)], Target::Return);
    }
    inbound(chain, config, steps);
    table.chain(ChainName::PREROUTING).rule(
        "install-istio-prerouting",
        [tcp()],
        Target::Jump(INBOUND),
    );
}

/// What is left alone, after the one case that must not be: a connection to an address of the pod's
/// own, which leaves through lo, is meant for the proxy.
fn exemptions(output: &mut Chain, config: &Config) {
    let loopback = Match::destination(config.loopback(Family::V4));
    output.rule(
        "redirect-implicit-loopback",
        [!loopback.clone(), Match::out_interface(Interface::LOOPBACK)],
        Target::Jump(REDIRECT),
    );
    let uids = config.proxy_uids.iter().copied().map(Owner::Uid);
    let gids = config.proxy_gids.iter().copied().map(Owner::Gid);
    for owner in uids.chain(gids) {
        output.rule("bypass-envoy", [Match::owner(owner)], Target::Return);
    }
    output.rule("bypass-explicit-loopback", [loopback], Target::Return);
    bypass_cidrs(output, &config.outbound_exclude_cidrs, Family::V4);
}

/// New inbound IPv6 is refused before any other rule can let it in. What it lets through goes on to
/// the other rules of INPUT.
fn filter() -> Table {
    let mut table = Table::new(Family::V6, TableName::Filter);
    table
        .chain(INPUT)
        .rule(
            "bypass-loopback",
            [Match::in_interface(Interface::LOOPBACK)],
            Target::Return,
        )
        .rule("bypass-established", [established()], Target::Return)
        // Neighbour discovery, without which there is no IPv6 at all.
        .rule(
            "bypass-icmpv6",
            [Match::protocol(Protocol::Icmpv6)],
            Target::Return,
        )
        .rule("bypass-ssh", [tcp(), Match::dport(SSH)], Target::Return)
        // To conntrack the answers to a multicast query are new connections. Without
        // them the machine loses its address when the lease ends.
        .rule(
            "bypass-dhcpv6",
            [
                Match::source(LINK_LOCAL),
                Match::protocol(Protocol::Udp),
                Match::dport(DHCPV6_CLIENT),
            ],
            Target::Return,
        )
        .rule(
            "reject-inbound-ipv6",
            [],
            Target::Reject(RejectWith::Icmp6PortUnreachable),
        );
    let jump = Rule::new("install-istio-input", [], Target::Jump(INPUT));
    table.chain(ChainName::INPUT).rules.push(jump.at_head());
    table
}
