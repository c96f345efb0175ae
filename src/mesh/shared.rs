//! Rules that several meshes write in the same way, under the same names.

use super::of_family;
use crate::mesh::config::{Config, Selection, Tproxy};
use crate::netfilter::model::{
    Chain, ChainName, ConnState, Family, Match, PolicyRoute, PortRange, Protocol, Rule, Table,
    Target,
};
use ipnet::IpNet;

/// To the proxy's outbound port.
pub(super) const REDIRECT: ChainName = ChainName::fixed("ISTIO_REDIRECT");
/// To the proxy's inbound capture port.
pub(super) const IN_REDIRECT: ChainName = ChainName::fixed("ISTIO_IN_REDIRECT");
pub(super) const INBOUND: ChainName = ChainName::fixed("ISTIO_INBOUND");
pub(super) const OUTPUT: ChainName = ChainName::fixed("ISTIO_OUTPUT");
/// TPROXY: to the proxy's transparent socket.
pub(super) const TPROXY: ChainName = ChainName::fixed("ISTIO_TPROXY");
/// TPROXY: to a socket that is there already.
pub(super) const DIVERT: ChainName = ChainName::fixed("ISTIO_DIVERT");

pub(super) fn tcp() -> Match {
    Match::protocol(Protocol::Tcp)
}

/// The two chains that redirect, which everything else jumps to.
pub(super) fn redirects(nat: &mut Table, config: &Config) {
    nat.chain(REDIRECT).rule(
        "redirect-to-envoy-port",
        [tcp()],
        Target::Redirect {
            to_port: config.proxy_port,
        },
    );
    nat.chain(IN_REDIRECT).rule(
        "redirect-to-inbound-port",
        [tcp()],
        Target::Redirect {
            to_port: config.inbound_capture_port,
        },
    );
}

/// One step of what happens to inbound TCP that is captured.
pub(super) struct Capture {
    id: &'static str,
    /// What the step asks for besides TCP and the port.
    also: Option<Match>,
    to: ChainName,
}

impl Capture {
    /// REDIRECT mode: to the proxy's port.
    pub(super) fn redirect() -> Vec<Capture> {
        vec![Capture {
            id: "redirect-inbound",
            also: None,
            to: IN_REDIRECT,
        }]
    }

    /// TPROXY mode: what `established` finds goes to its socket, everything else is new and goes
    /// to the proxy.
    pub(super) fn tproxy(established: Match) -> Vec<Capture> {
        vec![
            Capture {
                id: "divert-established-inbound",
                also: Some(established),
                to: DIVERT,
            },
            Capture {
                id: "redirect-inbound",
                also: None,
                to: TPROXY,
            },
        ]
    }

    fn rule(&self, port: Option<PortRange>) -> Rule {
        let id = match port {
            Some(port) => format!("{}-port-{port}", self.id),
            None => self.id.to_owned(),
        };
        let mut matches = vec![tcp()];
        matches.extend(port.map(Match::dport));
        matches.extend(self.also.clone());
        Rule::new(id, matches, Target::Jump(self.to.clone()))
    }
}

/// Which inbound TCP is captured: the ports listed, or all but the excluded ones.
pub(super) fn inbound(chain: &mut Chain, config: &Config, steps: &[Capture]) {
    let ports: Vec<Option<PortRange>> = match &config.inbound_ports {
        Selection::All => {
            for port in &config.inbound_exclude_ports {
                let matches = [tcp(), Match::dport(*port)];
                let id = format!("bypass-inbound-port-{port}");
                chain.rule(id, matches, Target::Return);
            }
            vec![None]
        }
        Selection::Only(ports) => ports.iter().copied().map(Some).collect(),
    };
    for port in ports {
        chain.rules.extend(steps.iter().map(|step| step.rule(port)));
    }
}

/// The chains of TPROXY mode that the inbound chain jumps to.
pub(super) fn tproxy_targets(mangle: &mut Table, config: &Config, tproxy: Tproxy) {
    let family = mangle.family;
    mangle
        .chain(DIVERT)
        .rule("mark-for-tproxy", [], Target::mark(tproxy.mark))
        .rule("accept-marked", [], Target::Accept);
    let loopback = Match::destination(config.loopback(family));
    mangle.chain(TPROXY).rule(
        "tproxy-to-inbound-port",
        [tcp(), !loopback],
        Target::Tproxy {
            on_port: tproxy.port,
            on_ip: family.unspecified(),
            value: tproxy.mark,
            mask: u32::MAX,
        },
    );
}

/// TPROXY, if it captures anything: in that mode, with some inbound port.
pub(super) fn tproxy_captures(config: &Config) -> Option<Tproxy> {
    config.tproxy.filter(|_| !config.inbound_ports.is_none())
}

/// What delivers TPROXY's marked packets here.
pub(super) fn policy_routes(config: &Config, families: &[Family]) -> Vec<PolicyRoute> {
    let Some(tproxy) = tproxy_captures(config) else {
        return Vec::new();
    };
    let route = |family: &Family| PolicyRoute {
        family: *family,
        mark: tproxy.mark,
        table: tproxy.route_table,
    };
    families.iter().map(route).collect()
}

/// Leaves these destinations alone, as far as they are of this family.
pub(super) fn bypass_cidrs(chain: &mut Chain, cidrs: &[IpNet], family: Family) {
    chain.rules.reserve_exact(cidrs.len());
    for cidr in of_family(cidrs, family) {
        chain.rule(
            format!("bypass-ip-range-{cidr}"),
            [Match::destination(cidr)],
            Target::Return,
        );
    }
}

/// Redirects what is left, or these destinations of it.
pub(super) fn redirect_cidrs(chain: &mut Chain, cidrs: &Selection<IpNet>, family: Family) {
    match cidrs {
        Selection::All => {
            chain.rule("redirect-default-outbound", [], Target::Jump(REDIRECT));
        }
        Selection::Only(cidrs) => {
            for cidr in of_family(cidrs, family) {
                chain.rule(
                    format!("redirect-ip-range-{cidr}"),
                    [Match::destination(cidr)],
                    Target::Jump(REDIRECT),
                );
            }
        }
    }
}

/// Connections that conntrack knows.
pub(super) fn established() -> Match {
    Match::state([ConnState::Related, ConnState::Established])
}
