//! The options that meshes have: one row each.
//!
//! A row generates the option's name ([`Opt`]), what is shown of it ([`Spec`]), its field of
//! [`Config`], and the line that resolves it. The command line, the environment, the env files, the
//! help and every message are made from it. Which meshes have it, and with which default, is in their
//! profiles.

use super::reading::{Reading, Resolver};
use super::values::{self, *};
use super::{ConfigError, Dns, Ipv6, Tproxy};
use crate::netfilter::model::{Interface, PortRange};
use ipnet::{IpNet, Ipv4Net};

/// What an option is called and how it is shown.
#[derive(Debug)]
pub struct Spec {
    pub opt: Opt,
    /// The letter of the tools replaced.
    pub short: Option<char>,
    pub long: &'static str,
    /// Istio's long name.
    pub alias: Option<&'static str>,
    /// Environment variables; the first one that is set wins (istio-iptables reads the other one
    /// first and lets this one replace it).
    pub env: &'static [&'static str],
    /// The value's name in the help; `None` for a switch.
    pub value: Option<&'static str>,
    pub heading: &'static str,
    pub help: &'static str,
}

impl Opt {
    /// What the option is called and how it is shown.
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}

/// The type of a field: of an option that every mesh has or fixes, of a list or a switch, and of one
/// that a mesh can be without.
macro_rules! field {
    (must, $type:ty) => { $type };
    (list, $type:ty) => { $type };
    (optional, $type:ty) => { Option<$type> };
}

macro_rules! options {
    ($(
        $opt:ident $field:ident: $how:ident $type:ty = |$text:ident, $names:pat_param| $parse:expr;
        $heading:expr, $value:expr, $help:literal;
        $short:expr, $long:literal, $alias:expr; $($env:literal),*;
    )*) => {
        /// An option that decides on rules. Its value is text until [`Config`] is resolved.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Opt {
            $(#[doc = $help] $opt,)*
        }

        /// Every option, in the order of the help and of [`Opt`].
        pub static SPECS: &[Spec] = &[$(Spec {
            opt: Opt::$opt,
            short: $short,
            long: $long,
            alias: $alias,
            env: &[$($env),*],
            value: $value,
            heading: $heading,
            help: $help,
        }),*];

        /// Everything that decides on rules, resolved: every invariant holds. A list that a mesh has
        /// no option for is empty, a switch is off.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $(#[doc = $help] pub $field: field!($how, $type),)*
            /// Inbound TCP is handed to the proxy as it is, instead of redirected.
            pub tproxy: Option<Tproxy>,
            pub dns: Option<Dns>,
            /// DNS is captured, and docker's nameserver is among those of resolv.conf.
            pub docker_dns: bool,
            /// Behind which others may be whose DNS passes through; none unless DNS is captured.
            pub dns_passes: Vec<Interface>,
            pub ipv6: Ipv6,
        }

        impl Resolver<'_> {
            /// Each option by itself; what depends on several is still to come.
            pub(super) fn fields(&self) -> Result<Config, ConfigError> {
                Ok(Config {
                    $($field: self.$how(Opt::$opt, |$text, $names: &Reading<'_>| $parse)?,)*
                    tproxy: None,
                    dns: None,
                    docker_dns: false,
                    dns_passes: Vec::new(),
                    ipv6: self.reading.facts.ipv6()?.clone(),
                })
            }
        }
    };
}

const PROXY: &str = "Proxy";
const OUTBOUND: &str = "Outbound";
const INBOUND: &str = "Inbound";
const BOTH: &str = "Both directions";

// NAME field: whether a mesh can be without, type = how it is read; heading, value, help; letter, long
// name, Istio's; variables.
options! {
    ProxyPort proxy_port: must u16 = |text, _| port(text);
        PROXY, Some("PORT"), "The proxy's port for outbound TCP";
        Some('p'), "proxy-port", Some("envoy-port"); "ENVOY_PORT";

    ProxyUid proxy_uids: must Vec<u32> = |text, names| list(text, |t| names.uid(t));
        PROXY, Some("UIDS"), "Users whose traffic is exempt, by number or name";
        Some('u'), "proxy-uid", None; "PROXY_UID";

    ProxyGid proxy_gids: list Vec<u32> = |text, names| list(text, |t| names.gid(t));
        PROXY, Some("GIDS"), "Groups whose traffic is exempt, by number or name";
        Some('g'), "proxy-gid", None; "PROXY_GID";

    OutboundCidrs outbound_cidrs: must Selection<IpNet> = |text, names| selection(text, |t| names.cidr(t));
        OUTBOUND, Some("CIDRS"), "Destinations that are redirected; * for all";
        Some('i'), "outbound-cidrs", Some("istio-service-cidr"); "ISTIO_SERVICE_CIDR";

    OutboundExcludeCidrs outbound_exclude_cidrs: list Vec<IpNet> = |text, names| list(text, |t| names.cidr(t));
        OUTBOUND, Some("CIDRS"), "Destinations that are exempt";
        Some('x'), "outbound-exclude-cidrs", Some("istio-service-exclude-cidr"); "ISTIO_SERVICE_EXCLUDE_CIDR";

    OutboundPorts outbound_ports: list Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        OUTBOUND, Some("PORTS"), "Destination ports that are redirected to any address";
        Some('q'), "outbound-ports", Some("istio-outbound-ports"); "ISTIO_OUTBOUND_PORTS";

    OutboundExcludePorts outbound_exclude_ports: list Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        OUTBOUND, Some("PORTS"), "Destination ports that are exempt";
        Some('o'), "outbound-exclude-ports", Some("istio-local-outbound-ports-exclude"); "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE";

    OwnerGroups owner_groups: must Selection<u32> = |text, names| selection(text, |t| names.gid(t));
        OUTBOUND, Some("GIDS"), "Groups whose traffic is redirected; * for all";
        None, "owner-groups", None; "ISTIO_OUTBOUND_OWNER_GROUPS";

    OwnerGroupsExclude owner_groups_exclude: list Vec<u32> = |text, names| list(text, |t| names.gid(t));
        OUTBOUND, Some("GIDS"), "Groups whose traffic is exempt";
        None, "owner-groups-exclude", None; "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE";

    InboundPorts inbound_ports: must Selection<PortRange> = |text, names| selection(text, |t| names.port_range(t));
        INBOUND, Some("PORTS"), "Local ports whose inbound TCP is redirected; * for all";
        Some('b'), "inbound-ports", Some("istio-inbound-ports"); "ISTIO_INBOUND_PORTS";

    InboundExcludePorts inbound_exclude_ports: list Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        INBOUND, Some("PORTS"), "Local ports that are exempt when all are redirected";
        Some('d'), "inbound-exclude-ports", Some("istio-local-exclude-ports"); "ISTIO_LOCAL_EXCLUDE_PORTS";

    InboundExcludeCidrs inbound_exclude_cidrs: list Vec<IpNet> = |text, names| list(text, |t| names.cidr(t));
        INBOUND, Some("CIDRS"), "Sources whose inbound TCP is exempt";
        None, "inbound-exclude-cidrs", None; ;

    InboundCapturePort inbound_capture_port: must u16 = |text, _| port(text);
        INBOUND, Some("PORT"), "The proxy's port for inbound TCP";
        Some('z'), "inbound-capture-port", None; "INBOUND_CAPTURE_PORT";

    InboundTunnelPort inbound_tunnel_port: optional u16 = |text, _| port(text);
        INBOUND, Some("PORT"), "The proxy's tunnel port (HBONE), which is not redirected";
        Some('e'), "inbound-tunnel-port", None; "INBOUND_TUNNEL_PORT";

    PreroutingFirst prerouting_first: list bool = |text, _| switch(text);
        INBOUND, None, "Keep the rules in PREROUTING before foreign ones, such as docker's for published ports";
        None, "prerouting-first", None; "PREROUTING_FIRST";

    EnableInboundIpv6 enable_inbound_ipv6: list bool = |text, _| shell_switch(text);
        INBOUND, None, "Accept new inbound IPv6 connections, which bypass the proxy";
        None, "enable-inbound-ipv6", None; "ENABLE_INBOUND_IPV6";

    Mode mode: optional values::Mode = |text, _| mode(text);
        INBOUND, Some("MODE"), "How inbound TCP reaches the proxy: REDIRECT, or TPROXY, which keeps the client's address";
        Some('m'), "mode", Some("istio-inbound-interception-mode"); "ISTIO_INBOUND_INTERCEPTION_MODE";

    TproxyMark tproxy_mark: optional u32 = |text, _| mark(text);
        INBOUND, Some("MARK"), "TPROXY's packet mark";
        Some('t'), "tproxy-mark", Some("istio-inbound-tproxy-mark"); "ISTIO_INBOUND_TPROXY_MARK";

    TproxyRouteTable tproxy_route_table: optional u32 = |text, _| route_table(text);
        INBOUND, Some("TABLE"), "TPROXY's routing table, by number";
        Some('r'), "tproxy-route-table", Some("istio-inbound-tproxy-route-table"); "ISTIO_INBOUND_TPROXY_ROUTE_TABLE";

    ExcludeInterfaces exclude_interfaces: list Vec<Interface> = |text, _| list(text, interface);
        BOTH, Some("NAMES"), "Interfaces whose traffic is exempt";
        Some('c'), "exclude-interfaces", Some("istio-exclude-interfaces"); "ISTIO_EXCLUDE_INTERFACES";

    VirtualInterfaces virtual_interfaces: list Vec<Interface> = |text, _| list(text, interface);
        BOTH, Some("NAMES"), "Interfaces of virtual machines in the pod, whose traffic is treated as outbound";
        Some('k'), "virtual-interfaces", Some("kube-virt-interfaces"); "KUBE_VIRT_INTERFACES";

    RedirectDns redirect_dns: list bool = |text, _| switch(text);
        BOTH, None, "Redirect DNS queries to /etc/resolv.conf's nameservers to the proxy's agent on port 15053";
        None, "redirect-dns", None; "ISTIO_META_DNS_CAPTURE", "REDIRECT_DNS";

    CaptureAllDns capture_all_dns: list bool = |text, _| switch(text);
        BOTH, None, "With --redirect-dns: redirect queries to any nameserver";
        None, "capture-all-dns", None; "CAPTURE_ALL_DNS";

    DropInvalid drop_invalid: list bool = |text, _| switch(text);
        BOTH, None, "Drop inbound packets in conntrack state INVALID instead of answering with a reset";
        None, "drop-invalid", None; "INVALID_DROP", "DROP_INVALID";

    DualStack dual_stack: list bool = |text, _| switch(text);
        BOTH, None, "Require IPv6 rules; an error if the kernel has no IPv6";
        None, "dual-stack", None; "ISTIO_DUAL_STACK", "DUAL_STACK";

    LoopbackCidr loopback_cidr: must Ipv4Net = |text, _| loopback(text);
        BOTH, Some("CIDR"), "IPv4 destinations that count as loopback";
        None, "loopback-cidr", None; "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_is_given_twice() {
        let mut seen = HashSet::new();
        for spec in SPECS {
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
