//! The sentence for each warning.

use crate::actions::Event;
use crate::mesh::Warning;
use crate::mesh::config::resolv_conf;
use ipnet::IpNet;

pub(super) fn words(event: &Event) -> String {
    match event {
        Event::Checked(check) => super::verification::line(check),
        Event::Warning(warning) => warning_words(warning),
        Event::SshCaptured => {
            "SSH (port 22) will be redirected to the proxy; if the proxy is down, new SSH \
                               connections fail"
                .to_owned()
        }
        Event::WatchAtWork(watch) => format!(
            "{watch} is watching this network namespace and restores the rules of its own options: change those \
             and reload it, or stop it first (systemctl stop prepare-proxy, or SIGTERM to it)"
        ),
    }
}

fn warning_words(warning: &Warning) -> String {
    match warning {
        Warning::NothingCaptured => {
            "nothing is captured: -b PORTS selects the inbound TCP that is redirected, \
                                     -i CIDRS the outbound TCP; '*' selects all"
                .to_owned()
        }
        Warning::NoRulesFor { cidrs, dual_stack } => {
            let cidrs: Vec<String> = cidrs.iter().map(IpNet::to_string).collect();
            let remedy = match dual_stack {
                true => " without --dual-stack",
                false => "",
            };
            format!(
                "{} captures nothing: no IPv6 rules are written here{remedy}",
                cidrs.join(",")
            )
        }
        Warning::HostBits { typed, used } => {
            format!("{typed}: the host bits are ignored, {used} is used")
        }
        Warning::RootExempt => {
            "uid 0 is exempt: all traffic of root bypasses the proxy, not only the proxy's own"
                .to_owned()
        }
        Warning::NoNameserver => format!(
            "{} names no nameserver: DNS is not redirected",
            resolv_conf::PATH
        ),
        Warning::NoGlobalIpv6 => {
            "IPv6 rules are written, but no interface has a global IPv6 address".to_owned()
        }
    }
}
