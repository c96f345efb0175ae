//! Linkerd: the rules of its proxy-init.
//!
//! Everything happens in the table nat. What comes in is redirected to the proxy's inbound port, what
//! goes out to its outbound port, but for the traffic of the proxy itself, what stays on lo, and the
//! ports and subnets that are left alone.

mod annotations;
mod command_line;
pub(super) mod signature;

use super::Mesh;
use super::shared::tcp;
use crate::mesh::config::{Config, DefaultValue, Opt, Profile, Selection};
use crate::netfilter::model::{
    Chain, ChainName, Family, Interface, Match, Owner, PortRange, PortSet, Routing, Ruleset, Table,
    TableName, Target,
};
use ipnet::IpNet;

pub(super) static MESH: Mesh = Mesh {
    profile: Profile {
        name: "linkerd",
        called: &["proxy-init", "linkerd2-proxy-init"],
        options: &[
            (Opt::ProxyPort, DefaultValue::Value("4140")),
            (Opt::ProxyUid, DefaultValue::Value("2102")),
            (Opt::ProxyGid, DefaultValue::Value("")),
            (Opt::OutboundExcludeCidrs, DefaultValue::Value("")),
            (Opt::OutboundExcludePorts, DefaultValue::Value("")),
            (Opt::InboundPorts, DefaultValue::Value("*")),
            (Opt::InboundExcludePorts, DefaultValue::Value("")),
            (Opt::InboundExcludeCidrs, DefaultValue::Value("")),
            (Opt::InboundCapturePort, DefaultValue::Value("4143")),
            (Opt::PreroutingFirst, DefaultValue::Value("false")),
            (Opt::DualStack, DefaultValue::Value("true")),
        ],
        fixed: &[
            (Opt::OutboundCidrs, DefaultValue::Value("*")),
            (Opt::OwnerGroups, DefaultValue::Value("*")),
            (Opt::LoopbackCidr, DefaultValue::Value("127.0.0.1/32")),
        ],
        bare_addresses: false,
        tproxy_to_proxy_port: false,
        port_ranges: '-',
        variables: false,
        env_files: &[],
    },
    signature: &signature::SIGNATURE,
    adds_loopback_address: false,
    command_line: Some(&command_line::COMMAND_LINE),
    rules: ruleset,
    annotations: Some(&annotations::ANNOTATIONS),
};

const REDIRECT: ChainName = ChainName::fixed("PROXY_INIT_REDIRECT");
const OUTPUT: ChainName = ChainName::fixed("PROXY_INIT_OUTPUT");

/// A source or destination address.
type Side = fn(IpNet) -> Match;

fn ruleset(config: &Config) -> Ruleset {
    let families = match config.dual_stack {
        true => &Family::ALL[..],
        false => &[Family::V4],
    };
    Ruleset {
        tables: families.iter().map(|f| nat(config, *f)).collect(),
        routing: Routing::default(),
    }
}

fn nat(config: &Config, family: Family) -> Table {
    let mut table = Table::new(family, TableName::Nat);
    inbound(table.chain(REDIRECT), config, family);
    outbound(table.chain(OUTPUT), config, family);
    table.chain(ChainName::PREROUTING).rule(
        "install-proxy-init-prerouting",
        [],
        Target::Jump(REDIRECT),
    );
    table
        .chain(ChainName::OUTPUT)
        .rule("install-proxy-init-output", [], Target::Jump(OUTPUT));
    table
}

fn inbound(chain: &mut Chain, config: &Config, family: Family) {
    ignore_ports(chain, &config.inbound_exclude_ports);
    ignore_subnets(chain, &config.inbound_exclude_cidrs, family, Match::source);
    let to_proxy = Target::Redirect {
        to_port: config.inbound_capture_port,
    };
    match &config.inbound_ports {
        Selection::All => {
            chain.rule("redirect-all-incoming-to-proxy-port", [tcp()], to_proxy);
        }
        Selection::Only(ports) => {
            for port in ports {
                let id = format!("redirect-port-{port}-to-proxy-port");
                chain.rule(id, [tcp(), Match::dport(*port)], to_proxy.clone());
            }
        }
    }
}

fn outbound(chain: &mut Chain, config: &Config, family: Family) {
    for uid in &config.proxy_uids {
        let owner = Match::owner(Owner::Uid(*uid));
        chain.rule("ignore-proxy-user-id", [owner], Target::Return);
    }
    for gid in &config.proxy_gids {
        let owner = Match::owner(Owner::Gid(*gid));
        chain.rule("ignore-proxy-group-id", [owner], Target::Return);
    }
    let lo = Match::out_interface(Interface::LOOPBACK);
    chain.rule("ignore-loopback", [lo], Target::Return);
    ignore_ports(chain, &config.outbound_exclude_ports);
    let nets = &config.outbound_exclude_cidrs;
    ignore_subnets(chain, nets, family, Match::destination);
    let to_proxy = Target::Redirect {
        to_port: config.proxy_port,
    };
    chain.rule("redirect-all-outgoing-to-proxy-port", [tcp()], to_proxy);
}

/// As many ports a rule as it has room for.
fn ignore_ports(chain: &mut Chain, ports: &[PortRange]) {
    for ports in PortSet::split(ports) {
        let id = format!("ignore-port-{ports}");
        chain.rule(id, [tcp(), Match::dports(ports)], Target::Return);
    }
}

/// Each family has its own. The comment shows a subnet as it was typed, with its host bits.
fn ignore_subnets(chain: &mut Chain, nets: &[IpNet], family: Family, side: Side) {
    for net in nets.iter().filter(|n| Family::of(n.addr()) == family) {
        chain.rule(format!("ignore-subnet-{net}"), [side(*net)], Target::Return);
    }
}
