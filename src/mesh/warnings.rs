//! Options that do not do what they seem to, as values.

use super::Mesh;
use super::config::{Config, DefaultValue, EnvFiles, Mode, Opt, Options, Selection, misspelt};
use crate::netfilter::model::{ChainName, Family, Match, Ruleset, Side, TableName, Target, Test};
use ipnet::IpNet;
use std::path::PathBuf;

/// The port of SSH.
const SSH: u16 = 22;

/// Something that a person should know before the rules are installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Neither inbound nor outbound traffic, nor DNS.
    NothingCaptured,
    /// Destinations of a family for which no rules are written; whether `--dual-stack` would help.
    NoRulesFor { cidrs: Vec<IpNet>, dual_stack: bool },
    /// A CIDR with host bits, and the prefix that is used.
    HostBits { typed: IpNet, used: IpNet },
    /// Root is exempt, and so everything that runs as root.
    RootExempt,
    /// DNS was to be captured, and /etc/resolv.conf names no nameserver.
    NoNameserver,
    /// IPv6 was asked for, and no interface has a global address.
    NoGlobalIpv6,
    /// IPv6 is disabled on lo, which therefore cannot be given the address that the proxy connects
    /// to the app from.
    NoIpv6OnLoopback,
    /// A variable that nothing reads, the file with it, and the name that is read.
    UnreadVariable {
        name: String,
        file: PathBuf,
        read: &'static str,
    },
    /// An option that the script of this mesh does not have, and that of a later release does.
    LaterScript { option: String },
    /// TPROXY with a proxy that is known by a user other than root alone.
    TproxyAsUser { uids: Vec<u32> },
}

/// Everything that looks wrong with a configuration.
pub(super) fn warnings(
    mesh: &Mesh,
    options: &Options,
    files: &EnvFiles,
    config: &Config,
    desired: &Ruleset,
) -> Vec<Warning> {
    let dns = config.redirect_dns && config.dns.is_none();
    let off = Some(DefaultValue::Value("false"));
    let asked_for = config.dual_stack && mesh.profile.default_of(Opt::DualStack) == off;
    let v6 = asked_for && !config.ipv6.is_global();
    let root = exempts_root(mesh, config);
    let v6_rules = captures(desired, Family::V6);
    let passthrough = mesh.adds_loopback_address && v6_rules && !config.ipv6.on_loopback;
    let simple = [
        (passthrough, Warning::NoIpv6OnLoopback),
        (captures_nothing(config, desired), Warning::NothingCaptured),
        (root, Warning::RootExempt),
        (dns, Warning::NoNameserver),
        (v6, Warning::NoGlobalIpv6),
    ];
    let simple = simple.into_iter().filter_map(|(is, w)| is.then_some(w));
    let without_rules = without_rules(mesh, config, desired);
    host_bits(config)
        .chain(simple)
        .chain(without_rules)
        .chain(unread_variables(files))
        .chain(later_script(mesh, options))
        .chain(tproxy_as_user(config))
        .collect()
}

/// Whether root is exempt because that was asked for, and not by the mesh's default.
fn exempts_root(mesh: &Mesh, config: &Config) -> bool {
    let uids = &config.proxy_uids;
    match mesh.profile.default_of(Opt::ProxyUid) {
        Some(DefaultValue::EnvoyUser { and }) if and.contains(&0) => uids.first() == Some(&0),
        _ => uids.contains(&0),
    }
}

fn captures_nothing(config: &Config, desired: &Ruleset) -> bool {
    config.inbound_ports.is_none() && !config.captures_outbound(desired) && config.dns.is_none()
}

fn unread_variables(files: &EnvFiles) -> impl Iterator<Item = Warning> {
    let found = misspelt(files).into_iter();
    found.map(|(name, file, read)| Warning::UnreadVariable { name, file, read })
}

/// Istio 1.1 to 1.3 had a script of the same name, with `-z` and other rules.
fn later_script(mesh: &Mesh, options: &Options) -> Option<Warning> {
    let given = options.get(Opt::InboundCapturePort)?;
    let script = mesh.profile.called.contains(&"istio-iptables.sh");
    script.then(|| Warning::LaterScript {
        option: given.to_string(),
    })
}

/// With TPROXY the proxy connects to the app from the client's address: as another user than root it
/// is captured again, by Istio's own rules too.
fn tproxy_as_user(config: &Config) -> Option<Warning> {
    let user = config.mode == Some(Mode::Tproxy) && !config.proxy_uids.contains(&0);
    let by_group = config
        .proxy_gids
        .iter()
        .any(|gid| !config.proxy_uids.contains(gid));
    (user && !by_group).then(|| Warning::TproxyAsUser {
        uids: config.proxy_uids.clone(),
    })
}

fn host_bits(config: &Config) -> impl Iterator<Item = Warning> {
    let captured = match &config.outbound_cidrs {
        Selection::All => &[],
        Selection::Only(cidrs) => cidrs.as_slice(),
    };
    let all = [
        captured,
        &config.outbound_exclude_cidrs,
        &config.inbound_exclude_cidrs,
    ];
    let all = all.into_iter().flatten().filter(|net| **net != net.trunc());
    all.map(|net| Warning::HostBits {
        typed: *net,
        used: net.trunc(),
    })
}

/// Destinations of a family that nothing is captured of.
fn without_rules(mesh: &Mesh, config: &Config, desired: &Ruleset) -> Option<Warning> {
    let Selection::Only(cidrs) = &config.outbound_cidrs else {
        return None;
    };
    let has_no_rules = |cidr: &&IpNet| !captures(desired, Family::of(cidr.addr()));
    let others: Vec<IpNet> = cidrs.iter().filter(has_no_rules).copied().collect();
    if others.is_empty() {
        return None;
    }
    let asked_for = Config {
        dual_stack: true,
        ..config.clone()
    };
    let would = captures(&mesh.ruleset(&asked_for), Family::V6);
    Some(Warning::NoRulesFor {
        cidrs: others,
        dual_stack: would && mesh.profile.default_of(Opt::DualStack).is_some(),
    })
}

/// Whether there are rules that redirect traffic of this family.
pub(crate) fn captures(desired: &Ruleset, family: Family) -> bool {
    desired.of(family).any(|table| table.name == TableName::Nat)
}

impl Config {
    /// Whether any outbound TCP is redirected.
    pub(crate) fn captures_outbound(&self, desired: &Ruleset) -> bool {
        let by_address = match &self.outbound_cidrs {
            Selection::All => true,
            Selection::Only(_) => !self.captured_cidrs(desired).is_empty(),
        };
        by_address || !self.outbound_ports.is_empty()
    }

    /// The destinations listed, as far as there are rules for their family.
    pub(crate) fn captured_cidrs(&self, desired: &Ruleset) -> Vec<IpNet> {
        match &self.outbound_cidrs {
            Selection::All => Vec::new(),
            Selection::Only(cidrs) => with_rules(cidrs, desired),
        }
    }

    /// Whether new connections to sshd are redirected: the inbound ports include it, and no rule
    /// exempts it.
    pub(crate) fn captures_ssh(&self, desired: &Ruleset) -> bool {
        let asked_for = match &self.inbound_ports {
            Selection::All => true,
            Selection::Only(ports) => ports.iter().any(|p| p.contains(SSH)),
        };
        let prerouting = desired.chains().filter(|c| c.name == ChainName::PREROUTING);
        let rules = prerouting.flat_map(|c| &c.rules);
        let inbound: Vec<&Target> = rules.map(|r| &r.target).collect();
        let exempt = desired
            .chains()
            .filter(|c| inbound.contains(&&Target::Jump(c.name.clone())))
            .flat_map(|c| &c.rules)
            .any(|r| r.target == Target::Return && r.matches.iter().any(is_ssh));
        asked_for && !exempt
    }
}

/// Those prefixes for whose family there are rules.
pub(crate) fn with_rules(cidrs: &[IpNet], desired: &Ruleset) -> Vec<IpNet> {
    let has_rules = |cidr: &&IpNet| captures(desired, Family::of(cidr.addr()));
    cidrs.iter().filter(has_rules).copied().collect()
}

fn is_ssh(m: &Match) -> bool {
    let (side, has) = match &m.test {
        Test::Port { side, ports } => (side, ports.contains(SSH)),
        Test::Multiport { side, ports } => (side, ports.as_slice().iter().any(|p| p.contains(SSH))),
        _ => return false,
    };
    !m.not && *side == Side::Destination && has
}
