//! nginmesh, and Istio 0.2–0.7: the rules of prepare_proxy.sh.
//!
//! One port takes everything. Inbound, every TCP connection goes to it. Outbound, the proxy's own
//! traffic and explicit loopback are left alone, the rest goes to it if its destination is covered.

use super::Mesh;
use super::shared::{OUTPUT, REDIRECT, redirect_cidrs};
use crate::mesh::config::{Config, DefaultValue, Opt, Profile, Selection};
use crate::mesh::istio::signature::SIGNATURE;
use crate::netfilter::model::{
    Chain, ChainName, Family, Interface, Match, Owner, Protocol, Routing, Ruleset, Table,
    TableName, Target,
};

pub(super) static MESH: Mesh = Mesh {
    profile: Profile {
        name: "nginmesh",
        called: &["prepare_proxy.sh"],
        options: &[
            (Opt::ProxyPort, DefaultValue::Required),
            (Opt::ProxyUid, DefaultValue::Required),
            (Opt::OutboundCidrs, DefaultValue::Value("*")),
            (Opt::PreroutingFirst, DefaultValue::Value("false")),
            (Opt::DualStack, DefaultValue::Value("false")),
        ],
        fixed: &[
            (Opt::InboundPorts, DefaultValue::Value("*")),
            (Opt::InboundCapturePort, DefaultValue::Same(Opt::ProxyPort)),
            (Opt::OwnerGroups, DefaultValue::Value("*")),
            (Opt::LoopbackCidr, DefaultValue::Value("127.0.0.1/32")),
        ],
        bare_addresses: true,
        tproxy_to_proxy_port: false,
        port_ranges: ':',
        variables: true,
        env_files: &[],
    },
    signature: &SIGNATURE,
    adds_loopback_address: false,
    command_line: None,
    rules: ruleset,
    annotations: None,
};

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
    let tcp = Match::protocol(Protocol::Tcp);
    let mut table = Table::new(family, TableName::Nat);
    table.chain(REDIRECT).rule(
        "redirect-to-envoy-port",
        [tcp.clone()],
        Target::Redirect {
            to_port: config.proxy_port,
        },
    );
    exemptions(table.chain(OUTPUT), config, family);
    capture(table.chain(OUTPUT), config, family);
    table
        .chain(ChainName::PREROUTING)
        .rule("install-istio-prerouting", [], Target::Jump(REDIRECT));
    table
        .chain(ChainName::OUTPUT)
        .rule("install-istio-output", [tcp], Target::Jump(OUTPUT));
    table
}

/// What is left alone, after the one case that must not be: a connection to an address of the pod's
/// own, which leaves through lo, is meant for the proxy's inbound side.
fn exemptions(output: &mut Chain, config: &Config, family: Family) {
    let loopback = Match::destination(config.loopback(family));
    output.rule(
        "redirect-implicit-loopback",
        [!loopback.clone(), Match::out_interface(Interface::LOOPBACK)],
        Target::Jump(REDIRECT),
    );
    for uid in &config.proxy_uids {
        output.rule(
            "bypass-envoy",
            [Match::owner(Owner::Uid(*uid))],
            Target::Return,
        );
    }
    output.rule("bypass-explicit-loopback", [loopback], Target::Return);
}

/// What is redirected of the rest. With a list that has nothing for this family, nothing is.
fn capture(output: &mut Chain, config: &Config, family: Family) {
    redirect_cidrs(output, &config.outbound_cidrs, family);
    if matches!(config.outbound_cidrs, Selection::Only(_)) {
        output.rule("bypass-default-outbound", [], Target::Return);
    }
}
