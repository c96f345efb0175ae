//! The sentence for each warning.

use super::errors;
use crate::actions::Event;
use crate::mesh::Warning;
use crate::mesh::config::resolv_conf;
use ipnet::IpNet;

/// A stable kind for programs.
pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::Warning(warning) => match warning {
            Warning::NothingCaptured => "nothing-captured",
            Warning::NoRulesFor { .. } => "no-rules-for-family",
            Warning::HostBits { .. } => "host-bits",
            Warning::RootExempt => "root-exempt",
            Warning::NoNameserver => "no-nameserver",
            Warning::NoGlobalIpv6 => "no-global-ipv6",
            Warning::NoIpv6OnLoopback => "no-ipv6-on-loopback",
            Warning::UnreadVariable { .. } => "unread-variable",
            Warning::LaterScript { .. } => "later-script",
            Warning::TproxyAsUser { .. } => "tproxy-as-user",
        },
        Event::Unmapped(_) => "unmapped-owner",
        Event::SshCaptured => "ssh-captured",
        Event::Ahead(_) => "rule-ahead",
        Event::WatchRunning(_) => "watch-at-work",
        Event::Watch(_) => "watch",
        Event::Checked(_) => "checked",
    }
}

pub(super) fn words(event: &Event) -> String {
    match event {
        Event::Checked(check) => super::verification::line(check),
        Event::Warning(warning) => warning_words(warning),
        Event::Unmapped(owners) => errors::unmapped(owners),
        Event::SshCaptured => {
            "SSH (port 22) will be redirected to the proxy; if the proxy is down, new SSH \
                               connections fail"
                .to_owned()
        }
        Event::Ahead(rule) => super::verification::ahead(rule, ""),
        Event::Watch(_) => String::new(),
        Event::WatchRunning(watch) => format!(
            "a watch (pid {watch}) is running in this network namespace and restores the rules of its own options: change those \
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
        Warning::NoIpv6OnLoopback => {
            "IPv6 is disabled on lo (net.ipv6.conf.lo.disable_ipv6): ::6 cannot be added, \
                                      and the proxy cannot connect to the app from it"
                .to_owned()
        }
        Warning::UnreadVariable { name, file, read } => format!(
            "{}: nothing reads {name}; the variable is called {read}",
            file.display()
        ),
        Warning::LaterScript { option } => format!(
            "{option} is an option of the istio-iptables.sh of Istio 1.1 to 1.3, whose rules differ (127.0.0.6): \
             run istio-iptables, or --mesh istio, for those"
        ),
        Warning::TproxyAsUser { uids } => {
            let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
            format!(
                "TPROXY requires the proxy to run as uid 0 and gid 1337: as uid {} alone, its connections to the \
                 app are captured again",
                uids.join(",")
            )
        }
    }
}
