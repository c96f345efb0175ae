//! Options as typed: which there are, what they are called, and what was given for them.
//!
//! The table below is the only place that knows an option's names. The command line, the
//! environment, the env files, the help and every error message are made from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// An option that decides on rules. Its value is text until [`super::Config`] is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opt {
    ProxyPort,
    ProxyUid,
    ProxyGid,
    OutboundCidrs,
    OutboundExcludeCidrs,
    OutboundPorts,
    OutboundExcludePorts,
    OwnerGroups,
    OwnerGroupsExclude,
    InboundPorts,
    InboundExcludePorts,
    InboundCapturePort,
    InboundTunnelPort,
    EnableInboundIpv6,
    Mode,
    TproxyMark,
    TproxyRouteTable,
    ExcludeInterfaces,
    VirtualInterfaces,
    RedirectDns,
    CaptureAllDns,
    DropInvalid,
    DualStack,
    LoopbackCidr,
}

/// What an option is called and how it is shown.
#[derive(Debug)]
pub struct Spec {
    pub opt: Opt,
    /// The letter of the tools replaced.
    pub short: Option<char>,
    pub long: &'static str,
    /// Istio's long name.
    pub alias: Option<&'static str>,
    /// Environment variables, the first one set wins (istio-iptables reads the other one first and
    /// lets this one replace it).
    pub env: &'static [&'static str],
    /// The value's name in the help; `None` for a switch.
    pub value: Option<&'static str>,
    pub heading: &'static str,
    pub help: &'static str,
}

const PROXY: &str = "Proxy";
const OUTBOUND: &str = "Outbound";
const INBOUND: &str = "Inbound";
const BOTH: &str = "Both directions";

/// Shorthand for one row of the table.
const fn row(
    opt: Opt,
    names: (Option<char>, &'static str, Option<&'static str>),
    env: &'static [&'static str],
    value: Option<&'static str>,
    heading: &'static str,
    help: &'static str,
) -> Spec {
    let (short, long, alias) = names;
    Spec {
        opt,
        short,
        long,
        alias,
        env,
        value,
        heading,
        help,
    }
}

/// Every option, in the order of the help.
#[rustfmt::skip]
pub static SPECS: [Spec; 24] = [
    row(Opt::ProxyPort, (Some('p'), "proxy-port", Some("envoy-port")), &["ENVOY_PORT"], Some("PORT"), PROXY,
        "The proxy's port for outbound TCP"),
    row(Opt::ProxyUid, (Some('u'), "proxy-uid", None), &["PROXY_UID"], Some("UIDS"), PROXY,
        "Users whose own traffic is left alone, by number or name"),
    row(Opt::ProxyGid, (Some('g'), "proxy-gid", None), &["PROXY_GID"], Some("GIDS"), PROXY,
        "Groups whose own traffic is left alone, by number or name"),
    row(Opt::OutboundCidrs, (Some('i'), "outbound-cidrs", Some("istio-service-cidr")), &["ISTIO_SERVICE_CIDR"], Some("CIDRS"), OUTBOUND,
        "Destinations that are redirected; * for all"),
    row(Opt::OutboundExcludeCidrs, (Some('x'), "outbound-exclude-cidrs", Some("istio-service-exclude-cidr")), &["ISTIO_SERVICE_EXCLUDE_CIDR"], Some("CIDRS"), OUTBOUND,
        "Destinations that are left alone"),
    row(Opt::OutboundPorts, (Some('q'), "outbound-ports", Some("istio-outbound-ports")), &["ISTIO_OUTBOUND_PORTS"], Some("PORTS"), OUTBOUND,
        "Destination ports that are redirected whatever the address"),
    row(Opt::OutboundExcludePorts, (Some('o'), "outbound-exclude-ports", Some("istio-local-outbound-ports-exclude")), &["ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE"], Some("PORTS"), OUTBOUND,
        "Destination ports that are left alone"),
    row(Opt::OwnerGroups, (None, "owner-groups", None), &["ISTIO_OUTBOUND_OWNER_GROUPS"], Some("GIDS"), OUTBOUND,
        "Only the traffic of these groups is redirected; * for all"),
    row(Opt::OwnerGroupsExclude, (None, "owner-groups-exclude", None), &["ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"], Some("GIDS"), OUTBOUND,
        "The traffic of these groups is left alone"),
    row(Opt::InboundPorts, (Some('b'), "inbound-ports", Some("istio-inbound-ports")), &["ISTIO_INBOUND_PORTS"], Some("PORTS"), INBOUND,
        "Local ports whose inbound TCP is redirected; * for all"),
    row(Opt::InboundExcludePorts, (Some('d'), "inbound-exclude-ports", Some("istio-local-exclude-ports")), &["ISTIO_LOCAL_EXCLUDE_PORTS"], Some("PORTS"), INBOUND,
        "Local ports that are left alone when all are redirected"),
    row(Opt::InboundCapturePort, (Some('z'), "inbound-capture-port", None), &["INBOUND_CAPTURE_PORT"], Some("PORT"), INBOUND,
        "The proxy's port for inbound TCP"),
    row(Opt::InboundTunnelPort, (Some('e'), "inbound-tunnel-port", None), &["INBOUND_TUNNEL_PORT"], Some("PORT"), INBOUND,
        "The proxy's tunnel port, which is reached directly"),
    row(Opt::EnableInboundIpv6, (None, "enable-inbound-ipv6", None), &["ENABLE_INBOUND_IPV6"], None, INBOUND,
        "Let new inbound IPv6 connections past the mesh"),
    row(Opt::Mode, (Some('m'), "mode", Some("istio-inbound-interception-mode")), &["ISTIO_INBOUND_INTERCEPTION_MODE"], Some("MODE"), INBOUND,
        "How inbound TCP reaches the proxy: REDIRECT, or TPROXY, which keeps the client's address"),
    row(Opt::TproxyMark, (Some('t'), "tproxy-mark", Some("istio-inbound-tproxy-mark")), &["ISTIO_INBOUND_TPROXY_MARK"], Some("MARK"), INBOUND,
        "TPROXY's packet mark"),
    row(Opt::TproxyRouteTable, (Some('r'), "tproxy-route-table", Some("istio-inbound-tproxy-route-table")), &["ISTIO_INBOUND_TPROXY_ROUTE_TABLE"], Some("TABLE"), INBOUND,
        "TPROXY's routing table, by number"),
    row(Opt::ExcludeInterfaces, (Some('c'), "exclude-interfaces", Some("istio-exclude-interfaces")), &["ISTIO_EXCLUDE_INTERFACES"], Some("NAMES"), BOTH,
        "Interfaces whose traffic is left alone"),
    row(Opt::VirtualInterfaces, (Some('k'), "virtual-interfaces", Some("kube-virt-interfaces")), &["KUBE_VIRT_INTERFACES"], Some("NAMES"), BOTH,
        "Interfaces of virtual machines in the pod: what comes in there is treated as outbound"),
    row(Opt::RedirectDns, (None, "redirect-dns", None), &["ISTIO_META_DNS_CAPTURE", "REDIRECT_DNS"], None, BOTH,
        "Redirect DNS queries to /etc/resolv.conf's nameservers to the proxy's agent on port 15053"),
    row(Opt::CaptureAllDns, (None, "capture-all-dns", None), &["CAPTURE_ALL_DNS"], None, BOTH,
        "With --redirect-dns: redirect queries to any nameserver"),
    row(Opt::DropInvalid, (None, "drop-invalid", None), &["INVALID_DROP", "DROP_INVALID"], None, BOTH,
        "Drop inbound packets that conntrack finds invalid, instead of answering with a reset"),
    row(Opt::DualStack, (None, "dual-stack", None), &["ISTIO_DUAL_STACK", "DUAL_STACK"], None, BOTH,
        "IPv6 is asked for: an error where the kernel has none"),
    row(Opt::LoopbackCidr, (None, "loopback-cidr", None), &["ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"], Some("CIDR"), BOTH,
        "What counts as explicit IPv4 loopback"),
];

impl Opt {
    /// What the option is called and how it is shown.
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The option's long name on that command line.
    Flag(&'static str),
    Env(&'static str),
    File(&'static str, PathBuf),
    Default,
}

/// A value as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub opt: Opt,
    pub value: String,
    pub origin: Origin,
}

impl Given {
    /// Whether it is an empty variable, which means no more than one that is not there; but no owner
    /// groups at all is not the same as the default, every group.
    pub fn is_unset(&self) -> bool {
        let variable = matches!(self.origin, Origin::Env(_) | Origin::File(..));
        variable && self.value.is_empty() && self.opt != Opt::OwnerGroups
    }
}

/// The name under which the value was given: what an error message points at.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::Default => write!(f, "--{}", self.opt.spec().long),
            Origin::Env(name) => f.write_str(name),
            Origin::File(name, path) => write!(f, "{name} in {}", path.display()),
        }
    }
}

/// What was given, option by option. Layers are added from the strongest to the weakest.
#[derive(Clone, Debug, Default)]
pub struct Options(BTreeMap<Opt, Given>);

impl Options {
    /// Takes the value unless a stronger layer has set the option already.
    pub fn offer(&mut self, given: Given) {
        self.0.entry(given.opt).or_insert(given);
    }

    /// What was given for an option, if anything was.
    pub fn get(&self, opt: Opt) -> Option<&Given> {
        self.0.get(&opt)
    }

    /// Everything that was given, in the order of [`Opt`].
    pub fn iter(&self) -> impl Iterator<Item = &Given> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, spec) in SPECS.iter().enumerate() {
            assert_eq!(spec.opt as usize, i, "{}", spec.long);
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut seen = HashSet::new();
        for spec in &SPECS {
            let short = spec.short.map(String::from);
            let names = [
                Some(spec.long.to_owned()),
                spec.alias.map(String::from),
                short,
            ];
            for name in names.into_iter().flatten() {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
    }
}
