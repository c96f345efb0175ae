//! istio-iptables' command line.

use crate::mesh::compat::{CommandLine, Flag, Means, Takes};
use crate::mesh::config::Opt;

/// The binaries of `--force-iptables-binary`.
const BINARIES: &[(&str, &str)] = &[("legacy", "iptables-legacy"), ("nft", "netlink")];

pub(super) static COMMAND_LINE: CommandLine = CommandLine {
    about: "Istio's program of that name: apply --mesh istio, with its flags",
    options: OPTIONS,
    flags: FLAGS,
    required: &[],
    one_of: None,
    exclusive: &[["force-iptables-binary", "native-nftables"]],
    backend: None,
    variables: true,
    fails_with_1: false,
};

/// Not among them are three for which istio-iptables has a variable but no flag: the owner groups
/// and the loopback prefix.
const OPTIONS: &[Opt] = &[
    Opt::ProxyPort,
    Opt::ProxyUid,
    Opt::ProxyGid,
    Opt::OutboundCidrs,
    Opt::OutboundExcludeCidrs,
    Opt::OutboundPorts,
    Opt::OutboundExcludePorts,
    Opt::InboundPorts,
    Opt::InboundExcludePorts,
    Opt::InboundCapturePort,
    Opt::InboundTunnelPort,
    Opt::Mode,
    Opt::TproxyMark,
    Opt::TproxyRouteTable,
    Opt::ExcludeInterfaces,
    Opt::VirtualInterfaces,
    Opt::RedirectDns,
    Opt::CaptureAllDns,
    Opt::DropInvalid,
    Opt::DualStack,
];

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    flag("cleanup-only", Takes::Switch, Means::Clean, "Remove the rules, install none"),
    flag("skip-rule-apply", Takes::Switch, Means::Check, "Check the options, leave the rules as they are"),
    flag("run-validation", Takes::Switch, Means::Verify, "Verify the rules with real connections; exit status 126 if they do not hold"),
    flag("native-nftables", Takes::Switch, Means::BackendIs("nftables"), "Same as --backend nftables"),
    Flag { name: "dry-run", short: Some('n'), takes: Takes::Switch, means: Means::DryRun, help: "Print the rules, change nothing" },
    flag("reconcile", Takes::Switch, Means::Nothing, "Replace managed rules that differ; always done"),
    flag("force-apply", Takes::Switch, Means::Nothing, "Install the rules whatever is there; always done"),
    flag("cni-mode", Takes::Switch, Means::Nothing, "No effect"),
    flag("restore-format", Takes::Switch, Means::Nothing, "No effect (istio-iptables 1.2 to 1.22)"),
    flag("iptables-trace-logging", Takes::Switch, Means::Nothing, "No effect (istio-iptables 1.5 to 1.22)"),
    flag("force-iptables-binary", Takes::Value("VARIANT"), Means::Backend(BINARIES), "legacy or nft: same as --backend iptables-legacy or netlink"),
    flag("network-namespace", Takes::Value("PATH"), Means::NetworkNamespace, "Enter this network namespace first"),
    flag("iptables-probe-port", Takes::Value("PORT"), Means::ProbePort, "Port that --run-validation connects to [default: 15002]"),
    flag("probe-timeout", Takes::Value("DURATION"), Means::ProbeTimeout, "How long --run-validation retries what does not hold [default: 5s]"),
    flag("log_output_level", Takes::Value("LEVELS"), Means::LogLevel, "Such as info or default:debug"),
    flag("log_as_json", Takes::Switch, Means::LogJson, "Same as --log-format json"),
    flag("log_target", Takes::Value("TEXT"), Means::Nothing, "No effect"),
    flag("log_caller", Takes::Value("TEXT"), Means::Nothing, "No effect"),
    flag("log_stacktrace_level", Takes::Value("TEXT"), Means::Nothing, "No effect"),
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
