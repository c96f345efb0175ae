//! proxy-init's command line. Flags are read as pflag does: a list may be repeated, and its parts add
//! up. There are no environment variables.

use crate::mesh::compat::{CommandLine, Flag, Means, Takes};
use crate::mesh::config::Opt;

const MODES: &[(&str, &str)] = &[
    ("legacy", "iptables-legacy"),
    ("nft", "netlink"),
    ("plain", "netlink"),
];

const PROGRAMS: &[(&str, &str)] = &[
    ("iptables-legacy", "iptables-legacy"),
    ("iptables-nft", "netlink"),
    ("iptables", "netlink"),
];

const SAVE_PROGRAMS: &[&str] = &["iptables-legacy-save", "iptables-nft-save", "iptables-save"];

pub(super) static COMMAND_LINE: CommandLine = CommandLine {
    about: "Linkerd's program of that name: apply --mesh linkerd, with its flags",
    options: &[],
    flags: FLAGS,
    required: &["incoming-proxy-port", "outgoing-proxy-port"],
    one_of: Some((
        &["proxy-uid", "proxy-gid"],
        "without the proxy's user or group its own connections would be redirected to itself",
    )),
    exclusive: &[],
    backend: Some("iptables-legacy"),
    variables: false,
    fails_with_1: true,
};

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    short('p', "incoming-proxy-port", Takes::Value("PORT"), Means::Option(Opt::InboundCapturePort), "Port that inbound TCP is redirected to; required"),
    short('o', "outgoing-proxy-port", Takes::Value("PORT"), Means::Option(Opt::ProxyPort), "Port that outbound TCP is redirected to; required"),
    short('u', "proxy-uid", Takes::Number("UID"), Means::Option(Opt::ProxyUid), "User whose traffic is exempt; 0 or less for none"),
    short('g', "proxy-gid", Takes::Number("GID"), Means::Option(Opt::ProxyGid), "Group whose traffic is exempt; 0 or less for none"),
    short('r', "ports-to-redirect", Takes::Ports("PORTS"), Means::Option(Opt::InboundPorts), "Inbound ports that are redirected; all if none is given"),
    flag("inbound-ports-to-ignore", Takes::List("PORTS"), Means::Option(Opt::InboundExcludePorts), "Inbound ports and ranges (8000-8100) that are exempt"),
    flag("outbound-ports-to-ignore", Takes::List("PORTS"), Means::Option(Opt::OutboundExcludePorts), "Outbound ports and ranges that are exempt"),
    flag("subnets-to-ignore", Takes::List("CIDRS"), Means::Option(Opt::InboundExcludeCidrs), "Sources whose inbound TCP is exempt"),
    flag("inbound-subnets-to-ignore", Takes::List("CIDRS"), Means::Option(Opt::InboundExcludeCidrs), "Same as --subnets-to-ignore; not in Linkerd's program"),
    flag("outbound-subnets-to-ignore", Takes::List("CIDRS"), Means::Option(Opt::OutboundExcludeCidrs), "Destinations that are exempt; not in Linkerd's program"),
    flag("ipv6", Takes::Switch, Means::Option(Opt::DualStack), "IPv6 rules too [default: true]"),
    flag("simulate", Takes::Switch, Means::DryRun, "Print the rules, change nothing"),
    short('w', "use-wait-flag", Takes::Switch, Means::Nothing, "Wait for the xtables lock; always done"),
    flag("netns", Takes::Value("PATH"), Means::NetworkNamespace, "Enter this network namespace first"),
    flag("timeout-close-wait-secs", Takes::Value("SECONDS"), Means::CloseWait, "Set net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    flag("log-format", Takes::Value("FORMAT"), Means::LogFormat, "plain or json [default: plain]"),
    flag("log-level", Takes::Value("LEVEL"), Means::LogLevel, "panic, fatal, error, warn, info, debug or trace [default: info]"),
    flag("iptables-mode", Takes::Value("MODE"), Means::Backend(MODES), "legacy, nft or plain; overrides the next two [default: legacy]"),
    flag("firewall-bin-path", Takes::Value("PROGRAM"), Means::Backend(PROGRAMS), "iptables-legacy, iptables-nft or iptables, as the mode"),
    flag("firewall-save-bin-path", Takes::Value("PROGRAM"), Means::NothingOf(SAVE_PROGRAMS), "No effect"),
];

const fn flag(name: &'static str, takes: Takes, means: Means, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        takes,
        means,
        help,
    }
}

const fn short(
    letter: char,
    name: &'static str,
    takes: Takes,
    means: Means,
    help: &'static str,
) -> Flag {
    Flag {
        short: Some(letter),
        ..flag(name, takes, means, help)
    }
}
