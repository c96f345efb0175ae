//! DNS capture: queries go to the proxy's agent on port 15053.
//!
//! App and agent may ask the same nameserver from the same port, so the two conversations are kept
//! apart by conntrack zones: agent and nameserver talk in zone 1, app and agent in zone 2. Every answer of
//! a nameserver is in zone 1: so are the queries of containers and virtual machines that pass through.
//!
//! Docker's nameserver is in this network namespace and answers from another port than 53; its rules in
//! nat OUTPUT would take the queries before the agent gets them.

use super::owners;
use crate::mesh::config::resolv_conf::DOCKER;
use crate::mesh::config::{Config, Dns};
use crate::mesh::shared::INBOUND;
use crate::netfilter::model::{ChainName, Family, Match, Protocol, Table, TableName, Target};
use ipnet::{IpNet, Ipv4Net};

/// What decides on outgoing DNS.
pub(super) const OUTPUT: ChainName = ChainName::fixed("ISTIO_OUTPUT_DNS");

pub(super) const PORT: u16 = 53;
pub(super) const AGENT_PORT: u16 = 15053;

const AGENT_AND_SERVER: Target = Target::CtZone(1);
const APP_AND_AGENT: Target = Target::CtZone(2);

/// The nameservers of one family whose queries are captured; `None` stands for any.
fn servers(config: &Config, family: Family) -> Vec<Option<IpNet>> {
    match &config.dns {
        None => Vec::new(),
        Some(Dns::All) => vec![None],
        Some(Dns::Servers(servers)) => servers
            .iter()
            .filter(|server| Family::of(**server) == family)
            .map(|server| Some(IpNet::from(*server)))
            .collect(),
    }
}

/// Whether any query is captured in this family.
pub(super) fn captures(config: &Config, family: Family) -> bool {
    !servers(config, family).is_empty()
}

/// Redirects the queries, TCP and UDP. The proxy's own have left the path before.
pub(super) fn redirect(nat: &mut Table, config: &Config) {
    let servers = servers(config, nat.family);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for server in &servers {
            let query = [Match::protocol(protocol), Match::dport(PORT)];
            let to = server.map(Match::destination);
            nat.chain(OUTPUT).rule(
                format!("redirect-dns-{protocol}"),
                query.into_iter().chain(to),
                Target::Redirect {
                    to_port: AGENT_PORT,
                },
            );
        }
    }
}

/// The zones of UDP. They are needed in both families even if the nameservers are of one.
pub(super) fn raw(config: &Config, family: Family) -> Table {
    let mut table = Table::new(family, TableName::Raw);
    if config.dns.is_none() {
        return table;
    }
    zones_of_agent(&mut table, config);
    for server in servers(config, family) {
        zones_of_server(&mut table, config, server);
    }
    if config.docker_dns && family == Family::V4 {
        table.chain(OUTPUT).rule(
            "zone-docker-answer",
            [udp(), Match::source(Ipv4Net::from(DOCKER))],
            AGENT_AND_SERVER,
        );
    }
    if captures(config, family) {
        table.chain(ChainName::PREROUTING).rule(
            "install-istio-prerouting",
            [],
            Target::Jump(INBOUND),
        );
    }
    table
        .chain(ChainName::OUTPUT)
        .rule("install-istio-output-dns", [], Target::Jump(OUTPUT));
    table
}

fn udp() -> Match {
    Match::protocol(Protocol::Udp)
}

/// What the agent sends: queries to the nameservers, answers to the app.
fn zones_of_agent(table: &mut Table, config: &Config) {
    for owner in owners(config) {
        let owner = Match::owner(owner);
        table
            .chain(OUTPUT)
            .rule(
                "zone-agent-query",
                [udp(), Match::dport(PORT), owner.clone()],
                AGENT_AND_SERVER,
            )
            .rule(
                "zone-agent-answer",
                [udp(), Match::sport(AGENT_PORT), owner],
                APP_AND_AGENT,
            );
    }
}

/// Queries of the app to a nameserver, its answers, and queries that pass through.
fn zones_of_server(table: &mut Table, config: &Config, server: Option<IpNet>) {
    let query = || {
        let to = server.map(Match::destination);
        [udp(), Match::dport(PORT)].into_iter().chain(to)
    };
    table
        .chain(OUTPUT)
        .rule("zone-app-query", query(), APP_AND_AGENT);
    let answer = [udp(), Match::sport(PORT)];
    table.chain(INBOUND).rule(
        "zone-server-answer",
        answer.into_iter().chain(server.map(Match::source)),
        AGENT_AND_SERVER,
    );
    for interface in &config.dns_passes {
        let interface = Match::in_interface(interface.clone());
        table.chain(INBOUND).rule(
            "zone-passing-query",
            [interface].into_iter().chain(query()),
            AGENT_AND_SERVER,
        );
    }
}
