//! The options that meshes have: what each is called, how it is shown, and how its value is read.
//!
//! The table below is the only place that knows. The command line, the environment, the env files,
//! the help and every error message are made from it; a new option is one row, a field of
//! [`super::Config`], and a line in the profile of each mesh that has it.

use super::reading::Reading;
use super::values::{self, *};
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
    /// Environment variables, the first one set wins (istio-iptables reads the other one first and
    /// lets this one replace it).
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

/// An option, with the type of its value.
pub(super) trait Typed {
    type Value;
    const OPT: Opt;

    /// The value that a text stands for. The error names the item that is wrong, and what is
    /// allowed.
    fn parse(text: &str, names: &Reading<'_>) -> Result<Self::Value, BadItem>;
}

/// Makes of each row a variant of [`Opt`], a [`Spec`], and a type in [`typed`] that parses.
macro_rules! options {
    ($(
        $opt:ident: $type:ty = |$text:ident, $names:pat_param| $parse:expr;
        $heading:expr, $value:expr, $help:literal;
        $short:expr, $long:literal, $alias:expr; $($env:literal),*;
    )*) => {
        /// An option that decides on rules. Its value is text until [`super::Config`] is resolved.
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

        /// Each option as a type, with the parser of its value.
        pub(super) mod typed {
            use super::*;

            $(
                pub(crate) struct $opt;

                impl Typed for $opt {
                    type Value = $type;
                    const OPT: Opt = Opt::$opt;

                    fn parse($text: &str, $names: &Reading<'_>) -> Result<$type, BadItem> {
                        $parse
                    }
                }
            )*
        }
    };
}

const PROXY: &str = "Proxy";
const OUTBOUND: &str = "Outbound";
const INBOUND: &str = "Inbound";
const BOTH: &str = "Both directions";

// NAME: type = how it is read; heading, value, help; letter, long name, Istio's; variables.
options! {
    ProxyPort: u16 = |text, _| port(text);
        PROXY, Some("PORT"), "The proxy's port for outbound TCP";
        Some('p'), "proxy-port", Some("envoy-port"); "ENVOY_PORT";

    ProxyUid: Vec<u32> = |text, names| list(text, |t| names.uid(t));
        PROXY, Some("UIDS"), "Users whose own traffic is left alone, by number or name";
        Some('u'), "proxy-uid", None; "PROXY_UID";

    ProxyGid: Vec<u32> = |text, names| list(text, |t| names.gid(t));
        PROXY, Some("GIDS"), "Groups whose own traffic is left alone, by number or name";
        Some('g'), "proxy-gid", None; "PROXY_GID";

    OutboundCidrs: Selection<IpNet> = |text, names| selection(text, |t| names.cidr(t));
        OUTBOUND, Some("CIDRS"), "Destinations that are redirected; * for all";
        Some('i'), "outbound-cidrs", Some("istio-service-cidr"); "ISTIO_SERVICE_CIDR";

    OutboundExcludeCidrs: Vec<IpNet> = |text, names| list(text, |t| names.cidr(t));
        OUTBOUND, Some("CIDRS"), "Destinations that are left alone";
        Some('x'), "outbound-exclude-cidrs", Some("istio-service-exclude-cidr"); "ISTIO_SERVICE_EXCLUDE_CIDR";

    OutboundPorts: Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        OUTBOUND, Some("PORTS"), "Destination ports that are redirected whatever the address";
        Some('q'), "outbound-ports", Some("istio-outbound-ports"); "ISTIO_OUTBOUND_PORTS";

    OutboundExcludePorts: Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        OUTBOUND, Some("PORTS"), "Destination ports that are left alone";
        Some('o'), "outbound-exclude-ports", Some("istio-local-outbound-ports-exclude"); "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE";

    OwnerGroups: Selection<u32> = |text, names| selection(text, |t| names.gid(t));
        OUTBOUND, Some("GIDS"), "Only the traffic of these groups is redirected; * for all";
        None, "owner-groups", None; "ISTIO_OUTBOUND_OWNER_GROUPS";

    OwnerGroupsExclude: Vec<u32> = |text, names| list(text, |t| names.gid(t));
        OUTBOUND, Some("GIDS"), "The traffic of these groups is left alone";
        None, "owner-groups-exclude", None; "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE";

    InboundPorts: Selection<PortRange> = |text, names| selection(text, |t| names.port_range(t));
        INBOUND, Some("PORTS"), "Local ports whose inbound TCP is redirected; * for all";
        Some('b'), "inbound-ports", Some("istio-inbound-ports"); "ISTIO_INBOUND_PORTS";

    InboundExcludePorts: Vec<PortRange> = |text, names| list(text, |t| names.port_range(t));
        INBOUND, Some("PORTS"), "Local ports that are left alone when all are redirected";
        Some('d'), "inbound-exclude-ports", Some("istio-local-exclude-ports"); "ISTIO_LOCAL_EXCLUDE_PORTS";

    InboundExcludeCidrs: Vec<IpNet> = |text, names| list(text, |t| names.cidr(t));
        INBOUND, Some("CIDRS"), "Sources whose inbound TCP is left alone";
        None, "inbound-exclude-cidrs", None; ;

    InboundCapturePort: u16 = |text, _| port(text);
        INBOUND, Some("PORT"), "The proxy's port for inbound TCP";
        Some('z'), "inbound-capture-port", None; "INBOUND_CAPTURE_PORT";

    InboundTunnelPort: u16 = |text, _| port(text);
        INBOUND, Some("PORT"), "The proxy's tunnel port, which is reached directly";
        Some('e'), "inbound-tunnel-port", None; "INBOUND_TUNNEL_PORT";

    EnableInboundIpv6: bool = |text, _| shell_switch(text);
        INBOUND, None, "Let new inbound IPv6 connections past the mesh";
        None, "enable-inbound-ipv6", None; "ENABLE_INBOUND_IPV6";

    Mode: values::Mode = |text, _| mode(text);
        INBOUND, Some("MODE"), "How inbound TCP reaches the proxy: REDIRECT, or TPROXY, which keeps the client's address";
        Some('m'), "mode", Some("istio-inbound-interception-mode"); "ISTIO_INBOUND_INTERCEPTION_MODE";

    TproxyMark: u32 = |text, _| mark(text);
        INBOUND, Some("MARK"), "TPROXY's packet mark";
        Some('t'), "tproxy-mark", Some("istio-inbound-tproxy-mark"); "ISTIO_INBOUND_TPROXY_MARK";

    TproxyRouteTable: u32 = |text, _| route_table(text);
        INBOUND, Some("TABLE"), "TPROXY's routing table, by number";
        Some('r'), "tproxy-route-table", Some("istio-inbound-tproxy-route-table"); "ISTIO_INBOUND_TPROXY_ROUTE_TABLE";

    ExcludeInterfaces: Vec<Interface> = |text, _| list(text, interface);
        BOTH, Some("NAMES"), "Interfaces whose traffic is left alone";
        Some('c'), "exclude-interfaces", Some("istio-exclude-interfaces"); "ISTIO_EXCLUDE_INTERFACES";

    VirtualInterfaces: Vec<Interface> = |text, _| list(text, interface);
        BOTH, Some("NAMES"), "Interfaces of virtual machines in the pod: what comes in there is treated as outbound";
        Some('k'), "virtual-interfaces", Some("kube-virt-interfaces"); "KUBE_VIRT_INTERFACES";

    RedirectDns: bool = |text, _| switch(text);
        BOTH, None, "Redirect DNS queries to /etc/resolv.conf's nameservers to the proxy's agent on port 15053";
        None, "redirect-dns", None; "ISTIO_META_DNS_CAPTURE", "REDIRECT_DNS";

    CaptureAllDns: bool = |text, _| switch(text);
        BOTH, None, "With --redirect-dns: redirect queries to any nameserver";
        None, "capture-all-dns", None; "CAPTURE_ALL_DNS";

    DropInvalid: bool = |text, _| switch(text);
        BOTH, None, "Drop inbound packets that conntrack finds invalid, instead of answering with a reset";
        None, "drop-invalid", None; "INVALID_DROP", "DROP_INVALID";

    DualStack: bool = |text, _| switch(text);
        BOTH, None, "IPv6 is asked for: an error where the kernel has none";
        None, "dual-stack", None; "ISTIO_DUAL_STACK", "DUAL_STACK";

    LoopbackCidr: Ipv4Net = |text, _| loopback(text);
        BOTH, Some("CIDR"), "What counts as explicit IPv4 loopback";
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
