//! Istio today: the rules of istio-iptables.
//!
//! Inbound and outbound go to two ports of the proxy. Everything is there for both families; what
//! differs between them is in the values.

mod annotations;
mod command_line;
mod dns;
pub(super) mod leftovers;
pub(super) mod signature;
mod tproxy;

use super::Mesh;
use super::shared::{
    Capture, IN_REDIRECT, INBOUND, OUTPUT, REDIRECT, bypass_cidrs, inbound, policy_routes,
    redirect_cidrs, redirects, tcp,
};
use crate::mesh::config::{Config, DefaultValue, Opt, Profile, Selection};
use crate::mesh::managed::PASSTHROUGH;
use crate::netfilter::model::{
    Chain, ChainName, ConnState, Family, Interface, LoopbackAddress, Match, Owner, PortSet,
    Protocol, Routing, Rule, Ruleset, Table, TableName, Target,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

pub(super) static MESH: Mesh = Mesh {
    profile: Profile {
        name: "istio",
        called: &["istio-iptables"],
        options: &[
            (Opt::ProxyPort, DefaultValue::Value("15001")),
            (Opt::ProxyUid, DefaultValue::EnvoyUser { and: &[] }),
            (Opt::ProxyGid, DefaultValue::Same(Opt::ProxyUid)),
            (Opt::OutboundCidrs, DefaultValue::Value("")),
            (Opt::OutboundExcludeCidrs, DefaultValue::Value("")),
            (Opt::OutboundPorts, DefaultValue::Value("")),
            (Opt::OutboundExcludePorts, DefaultValue::Value("")),
            (Opt::OwnerGroups, DefaultValue::Value("*")),
            (Opt::OwnerGroupsExclude, DefaultValue::Value("")),
            (Opt::InboundPorts, DefaultValue::Value("")),
            (Opt::InboundExcludePorts, DefaultValue::Value("")),
            (Opt::InboundCapturePort, DefaultValue::Value("15006")),
            (Opt::InboundTunnelPort, DefaultValue::Value("15008")),
            (Opt::PreroutingFirst, DefaultValue::Value("false")),
            (Opt::Mode, DefaultValue::Value("REDIRECT")),
            (Opt::TproxyMark, DefaultValue::Value("1337")),
            (Opt::TproxyRouteTable, DefaultValue::Value("133")),
            (Opt::ExcludeInterfaces, DefaultValue::Value("")),
            (Opt::VirtualInterfaces, DefaultValue::Value("")),
            (Opt::RedirectDns, DefaultValue::Value("false")),
            (Opt::CaptureAllDns, DefaultValue::Value("false")),
            (Opt::DropInvalid, DefaultValue::Value("false")),
            (Opt::DualStack, DefaultValue::Value("false")),
            (Opt::LoopbackCidr, DefaultValue::Value("127.0.0.1/32")),
        ],
        fixed: &[],
        bare_addresses: false,
        tproxy_to_proxy_port: false,
        port_ranges: ':',
        variables: true,
        // Those of a mesh-expansion VM: its start script reads them in this order.
        env_files: &[
            ("ISTIO_SIDECAR_CONFIG", "/var/lib/istio/envoy/sidecar.env"),
            ("ISTIO_CLUSTER_CONFIG", "/var/lib/istio/envoy/cluster.env"),
        ],
    },
    signature: &signature::SIGNATURE,
    adds_loopback_address: true,
    command_line: Some(&command_line::COMMAND_LINE),
    rules: ruleset,
    annotations: Some(&annotations::ANNOTATIONS),
};

const DROP: ChainName = ChainName::fixed("ISTIO_DROP");

fn ruleset(config: &Config) -> Ruleset {
    let families = match config.ipv6.enabled && config.ipv6.is_global() {
        true => &Family::ALL[..],
        false => &[Family::V4],
    };
    let tables = families.iter().flat_map(|f| tables(config, *f));
    let v6 = families.contains(&Family::V6) && config.ipv6.on_loopback;
    Ruleset {
        tables: tables.filter(|t| !t.chains.is_empty()).collect(),
        routing: Routing {
            policy_routes: policy_routes(config, families),
            loopback_addresses: v6
                .then(|| LoopbackAddress(passthrough(Family::V6)))
                .into_iter()
                .collect(),
        },
    }
}

fn tables(config: &Config, family: Family) -> [Table; 3] {
    [
        dns::raw(config, family),
        mangle(config, family),
        nat(config, family),
    ]
}

/// What the proxy binds to when it connects to the app: such packets are not captured again. IPv4
/// has the address on lo anyway, IPv6 is given it.
fn passthrough(family: Family) -> IpNet {
    match family {
        Family::V4 => IpAddr::from(Ipv4Addr::new(127, 0, 0, 6)).into(),
        Family::V6 => IpAddr::from(PASSTHROUGH).into(),
    }
}

/// The users of the proxy, then its groups.
fn owners(config: &Config) -> impl Iterator<Item = Owner> {
    let uids = config.proxy_uids.iter().copied().map(Owner::Uid);
    uids.chain(config.proxy_gids.iter().copied().map(Owner::Gid))
}

fn mangle(config: &Config, family: Family) -> Table {
    let mut table = Table::new(family, TableName::Mangle);
    if config.tproxy.is_some() {
        exclude_interfaces(&mut table, config);
    }
    if config.drop_invalid {
        table.chain(DROP).rule("drop-invalid", [], Target::Drop);
        table.chain(ChainName::PREROUTING).rule(
            "install-istio-drop",
            [Match::state([ConnState::Invalid])],
            Target::Jump(DROP),
        );
    }
    if let Some(tproxy) = config.tproxy {
        tproxy::rules(&mut table, config, tproxy);
    }
    table
}

fn nat(config: &Config, family: Family) -> Table {
    let mut table = Table::new(family, TableName::Nat);
    redirects(&mut table, config);
    if let Some(port) = config.inbound_tunnel_port {
        let tunnel = [tcp(), Match::dport(port)];
        table
            .chain(INBOUND)
            .rule("bypass-tunnel-port", tunnel, Target::Return);
    }
    output(table.chain(OUTPUT), config, family);
    dns::redirect(&mut table, config);
    virtual_interfaces(&mut table, config);
    exclude_interfaces(&mut table, config);
    if config.tproxy.is_none() && !config.inbound_ports.is_none() {
        inbound(table.chain(INBOUND), config, &Capture::redirect());
        table.chain(ChainName::PREROUTING).rule(
            "install-istio-prerouting",
            [tcp()],
            Target::Jump(INBOUND),
        );
    }
    table
        .chain(ChainName::OUTPUT)
        .rule("install-istio-output", [], Target::Jump(OUTPUT));
    if config.docker_dns {
        table.chain(ChainName::OUTPUT).keep_first();
    }
    table
}

/// What leaves the pod: exempt first, then what is left is captured.
fn output(chain: &mut Chain, config: &Config, family: Family) {
    for port in &config.outbound_exclude_ports {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            chain.rule(
                format!("bypass-outbound-port-{port}"),
                [Match::protocol(protocol), Match::dport(*port)],
                Target::Return,
            );
        }
    }
    let lo = Match::out_interface(Interface::LOOPBACK);
    chain.rule(
        "bypass-inbound-passthrough",
        [lo, Match::source(passthrough(family))],
        Target::Return,
    );
    for owner in owners(config) {
        proxy_traffic(chain, config, family, owner);
    }
    owner_groups(chain, config);
    if dns::captures(config, family) {
        chain.rule("install-istio-output-dns", [], Target::Jump(dns::OUTPUT));
    }
    let loopback = Match::destination(config.loopback(family));
    chain.rule("bypass-explicit-loopback", [loopback], Target::Return);
    bypass_cidrs(chain, &config.outbound_exclude_cidrs, family);
    for port in &config.outbound_ports {
        chain.rule(
            format!("redirect-outbound-port-{port}"),
            [tcp(), Match::dport(*port)],
            Target::Jump(REDIRECT),
        );
    }
    redirect_cidrs(chain, &config.outbound_cidrs, family);
}

/// One user or group of the proxy. Over lo to an address of the pod's own it comes from an app that
/// called its own service, and goes to the proxy's inbound side. An app that calls itself over lo
/// is left alone, unless loopback was asked for. Everything else from the proxy is left alone.
fn proxy_traffic(chain: &mut Chain, config: &Config, family: Family, owner: Owner) {
    let lo = Match::out_interface(Interface::LOOPBACK);
    let loopback = Match::destination(config.loopback(family));
    let tunnel = config.inbound_tunnel_port;
    // The agent asks a nameserver on the pod's own address directly.
    let asks = matches!(owner, Owner::Uid(_)) && config.dns.is_some();
    let direct = match (asks, tunnel) {
        (true, Some(tunnel)) => Some(Match::dports(PortSet::from([dns::PORT, tunnel]))),
        (true, None) => Some(Match::dport(dns::PORT)),
        (false, tunnel) => tunnel.map(Match::dport),
    };
    let to_own_address = [lo.clone(), !loopback, tcp()].into_iter();
    let others = to_own_address.chain(direct.map(|ports| !ports));
    chain.rule(
        "redirect-implicit-loopback",
        others.chain([Match::owner(owner)]),
        Target::Jump(IN_REDIRECT),
    );
    if !captures_loopback(config) {
        let mut matches = vec![lo];
        if config.dns.is_some() {
            // A nameserver on a loopback address is captured further down.
            matches.extend([tcp(), !Match::dport(53)]);
        }
        matches.push(!Match::owner(owner));
        chain.rule("bypass-app-to-itself", matches, Target::Return);
    }
    chain.rule("bypass-envoy", [Match::owner(owner)], Target::Return);
}

/// Whether a loopback address is among the destinations that are captured by name. It counts as
/// typed: `::1/64` is one.
fn captures_loopback(config: &Config) -> bool {
    match &config.outbound_cidrs {
        Selection::All => false,
        Selection::Only(cidrs) => cidrs.iter().any(|c| c.addr().is_loopback()),
    }
}

/// Whose traffic is captured: everybody's but some groups', or only some groups'.
fn owner_groups(chain: &mut Chain, config: &Config) {
    match &config.owner_groups {
        Selection::All => {
            for gid in &config.owner_groups_exclude {
                chain.rule(
                    format!("bypass-group-{gid}"),
                    [Match::owner(Owner::Gid(*gid))],
                    Target::Return,
                );
            }
        }
        Selection::Only(gids) => {
            let others = gids.iter().map(|gid| !Match::owner(Owner::Gid(*gid)));
            chain.rule("bypass-other-groups", others, Target::Return);
        }
    }
}

/// What comes in from a virtual machine in the pod is on its way out: captured like outbound
/// traffic, never like inbound. Stands before all other rules, the last one first, as a row of
/// `iptables -I` leaves them.
fn virtual_interfaces(table: &mut Table, config: &Config) {
    let names = &config.virtual_interfaces;
    let from = |name: &Interface| Match::in_interface(name.clone());
    let mut rules: Vec<Rule> = names
        .iter()
        .map(|name| {
            let id = format!("bypass-virtual-interface-{name}");
            Rule::new(id, [from(name)], Target::Return)
        })
        .collect();
    let destinations: Vec<Option<IpNet>> = match &config.outbound_cidrs {
        Selection::All => vec![None],
        Selection::Only(cidrs) => super::of_family(cidrs, table.family).map(Some).collect(),
    };
    for cidr in destinations {
        rules.extend(names.iter().map(|name| {
            let id = format!("redirect-virtual-interface-{name}");
            let to = cidr.map(Match::destination);
            let matches = [from(name)].into_iter().chain(to);
            Rule::new(id, matches, Target::Jump(REDIRECT))
        }));
    }
    if !rules.is_empty() {
        let rules = rules.into_iter().rev().map(Rule::at_head);
        table.chain(ChainName::PREROUTING).rules.extend(rules);
    }
}

/// Neither what comes in nor what goes out on these interfaces is captured.
fn exclude_interfaces(table: &mut Table, config: &Config) {
    for name in &config.exclude_interfaces {
        let id = format!("bypass-interface-{name}");
        table.chain(ChainName::PREROUTING).rule(
            id.clone(),
            [Match::in_interface(name.clone())],
            Target::Return,
        );
        table.chain(ChainName::OUTPUT).rule(
            id,
            [Match::out_interface(name.clone())],
            Target::Return,
        );
    }
}
