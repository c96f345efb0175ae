//! What a person should know before the rules are there: options that do not do what they seem to.

use super::summary::captures_outbound;
use crate::mesh::Mesh;
use crate::mesh::config::{Config, Opt, Selection};
use crate::netfilter::model::{ChainName, Family, Match, Ruleset, Side, TableName, Target, Test};
use ipnet::IpNet;

/// The port that people log in to a host through.
const SSH: u16 = 22;

/// One sentence for each thing that looks wrong, whatever is done with the rules.
pub(super) fn cautions(mesh: &Mesh, config: &Config, wanted: &Ruleset) -> Vec<String> {
    let nothing = captures_nothing(config, wanted).then(|| {
        "nothing is captured: -b PORTS says which inbound TCP goes to the proxy, -i CIDRS which \
         outbound TCP does; '*' stands for all"
            .to_owned()
    });
    let all = [nothing, without_rules(mesh, config, wanted)];
    all.into_iter().flatten().collect()
}

/// What is said on a host that people log in to, if new connections to sshd are to go to the proxy.
pub(super) fn ssh(config: &Config, wanted: &Ruleset) -> Option<String> {
    captures_ssh(config, wanted).then(|| {
        "inbound port 22 is captured: new SSH connections go to the proxy, and without it nobody \
         logs in"
            .to_owned()
    })
}

fn captures_nothing(config: &Config, wanted: &Ruleset) -> bool {
    config.inbound_ports.is_none() && !captures_outbound(config, wanted) && config.dns.is_none()
}

/// Destinations of a family that nothing is captured of.
fn without_rules(mesh: &Mesh, config: &Config, wanted: &Ruleset) -> Option<String> {
    let Selection::Only(cidrs) = &config.outbound_cidrs else {
        return None;
    };
    let has_no_rules = |cidr: &&IpNet| !captures(wanted, Family::of(cidr.addr()));
    let others = cidrs.iter().filter(has_no_rules);
    let others: Vec<String> = others.map(IpNet::to_string).collect();
    if others.is_empty() {
        return None;
    }
    let asked_for = Config {
        dual_stack: true,
        ..config.clone()
    };
    let would = captures(&mesh.ruleset(&asked_for), Family::V6);
    Some(format!(
        "{} captures nothing: no IPv6 rules are written here{}",
        others.join(","),
        match would && mesh.profile.default_of(Opt::DualStack).is_some() {
            true => " without --dual-stack",
            false => "",
        }
    ))
}

/// Whether there are rules that redirect traffic of this family.
pub(super) fn captures(wanted: &Ruleset, family: Family) -> bool {
    wanted.of(family).any(|table| table.name == TableName::Nat)
}

/// Whether new connections to sshd go to the proxy: inbound ports have it, and no rule lets it by.
fn captures_ssh(config: &Config, wanted: &Ruleset) -> bool {
    let asked_for = match &config.inbound_ports {
        Selection::All => true,
        Selection::Only(ports) => ports.iter().any(|p| p.contains(SSH)),
    };
    let is_ssh = |m: &Match| match &m.test {
        Test::Port { side, ports } => !m.not && *side == Side::Destination && ports.contains(SSH),
        Test::Multiport { side, ports } => {
            let has = ports.as_slice().iter().any(|p| p.contains(SSH));
            !m.not && *side == Side::Destination && has
        }
        _ => false,
    };
    let chains = || wanted.tables.iter().flat_map(|t| &t.chains);
    let prerouting = chains().filter(|c| c.name == ChainName::PREROUTING);
    let inbound: Vec<&Target> = prerouting
        .flat_map(|c| &c.rules)
        .map(|r| &r.target)
        .collect();
    let let_by = chains()
        .filter(|c| inbound.contains(&&Target::Jump(c.name.clone())))
        .flat_map(|c| &c.rules)
        .any(|r| r.target == Target::Return && r.matches.iter().any(is_ssh));
    asked_for && !let_by
}
