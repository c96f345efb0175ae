//! Linkerd's own command line: `prepare-proxy proxy-init …`, also under the names of its program.
//!
//! Flags are read as pflag does: a list may be repeated, and its parts add up. There are no
//! environment variables.

use super::mesh_options::switch;
use super::{Cli, invalid};
use crate::actions::{Choice, CloseWait};
use crate::frontend::log_format::LogFormat;
use crate::mesh::config::{Given, Host, Opt, Origin, parse_switch};
use clap::{Arg, ArgAction, ArgMatches, Command, Error, ValueEnum};
use log::LevelFilter;
use std::path::PathBuf;

/// Its names for our options; the first one of an option is also taken with `--mesh linkerd`.
pub(super) const NAMES: &[(Opt, &str)] = &[
    (Opt::InboundCapturePort, "incoming-proxy-port"),
    (Opt::ProxyPort, "outgoing-proxy-port"),
    (Opt::InboundPorts, "ports-to-redirect"),
    (Opt::InboundExcludePorts, "inbound-ports-to-ignore"),
    (Opt::OutboundExcludePorts, "outbound-ports-to-ignore"),
    (Opt::InboundExcludeCidrs, "subnets-to-ignore"),
    (Opt::OutboundExcludeCidrs, "outbound-subnets-to-ignore"),
    (Opt::DualStack, "ipv6"),
];

#[rustfmt::skip]
const NUMBERS: [(&str, char, &str, &str); 4] = [
    ("incoming-proxy-port", 'p', "PORT", "Where incoming TCP goes; required"),
    ("outgoing-proxy-port", 'o', "PORT", "Where outgoing TCP goes; required"),
    ("proxy-uid", 'u', "UID", "The user whose own traffic is left alone; -1 for none"),
    ("proxy-gid", 'g', "GID", "The group whose own traffic is left alone; -1 for none"),
];

#[rustfmt::skip]
const LISTS: [(&str, &str, &str); 6] = [
    ("ports-to-redirect", "PORTS", "Incoming ports that are redirected; all if none is given"),
    ("inbound-ports-to-ignore", "PORTS", "Incoming ports and ranges (8000-8100) that are left alone"),
    ("outbound-ports-to-ignore", "PORTS", "Outgoing ports and ranges that are left alone"),
    ("subnets-to-ignore", "CIDRS", "Sources whose incoming TCP is left alone"),
    ("inbound-subnets-to-ignore", "CIDRS", "The same; proxy-init has no such flag yet"),
    ("outbound-subnets-to-ignore", "CIDRS", "Destinations that are left alone; proxy-init has no such flag yet"),
];

#[rustfmt::skip]
const SWITCHES: [(&str, &str); 3] = [
    ("simulate", "Print the rules, touch nothing"),
    ("ipv6", "IPv6 as well [default: true]"),
    ("use-wait-flag", "Wait for the xtables lock; always done"),
];

#[rustfmt::skip]
const VALUES: [(&str, &str, &str); 7] = [
    ("netns", "PATH", "Enter this network namespace first"),
    ("timeout-close-wait-secs", "SECONDS", "Set net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    ("log-format", "FORMAT", "plain or json [default: plain]"),
    ("log-level", "LEVEL", "panic, fatal, error, warn, info, debug or trace [default: info]"),
    ("iptables-mode", "MODE", "legacy, nft or plain; stronger than the next two [default: legacy]"),
    ("firewall-bin-path", "PROGRAM", "iptables-legacy, iptables-nft or iptables: as the mode"),
    ("firewall-save-bin-path", "PROGRAM", "Taken for Linkerd's sake; changes nothing"),
];

/// Linkerd's flags.
pub(super) fn command(command: Command) -> Command {
    let arg = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let numbers = NUMBERS.map(|(name, short, value, help)| {
        let number = arg(name, help).short(short).value_name(value);
        number.allow_negative_numbers(true)
    });
    let lists = LISTS.map(|(name, value, help)| {
        let list = arg(name, help).value_name(value).action(ArgAction::Append);
        match name {
            "ports-to-redirect" => list.short('r'),
            _ => list,
        }
    });
    let switches = SWITCHES.map(|(name, help)| match name {
        "use-wait-flag" => switch(arg(name, help).short('w')),
        _ => switch(arg(name, help)),
    });
    let values = VALUES.map(|(name, value, help)| {
        let arg = arg(name, help).value_name(value);
        arg.allow_negative_numbers(true)
    });
    command
        .about("The same as Linkerd's program of that name: apply --mesh linkerd, with its flags")
        .args(
            numbers
                .into_iter()
                .chain(lists)
                .chain(switches)
                .chain(values),
        )
}

/// What the flags ask for, on top of what was said before the tool's name.
pub(super) fn read(before: Cli, matches: &ArgMatches, _: &dyn Host) -> Result<Cli, Error> {
    let line = Line { matches };
    let mut cli = before;
    let invocation = &mut cli.invocation;
    for given in line.options()? {
        invocation.options.offer(given);
    }
    invocation.dry_run |= line.on("simulate")?.unwrap_or_default();
    line.on("use-wait-flag")?;
    if let Some(path) = line.value("netns").filter(|path| !path.is_empty()) {
        invocation.network_namespace = Some(PathBuf::from(path));
    }
    invocation.close_wait = line.close_wait()?;
    let backend = line.backend()?;
    if invocation.backend == Choice::Auto {
        invocation.backend = backend;
    }
    if line.value("log-format") == Some("json") {
        cli.log_format = LogFormat::Json;
    }
    if let Some(level) = line.log_level()? {
        cli.log_level = level;
    }
    Ok(cli)
}

/// The flags.
struct Line<'a> {
    matches: &'a ArgMatches,
}

impl<'a> Line<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.matches.get_one::<String>(name).map(String::as_str)
    }

    /// A switch, if it was given.
    fn on(&self, name: &str) -> Result<Option<bool>, Error> {
        let value = self.value(name).map(parse_switch).transpose();
        value.map_err(|e| invalid(&format!("--{name}"), e))
    }

    /// A list with its repetitions, the white space around its items cut off; `None` if there is
    /// nothing in it.
    fn list(&self, name: &str) -> Option<String> {
        let given = self.matches.get_many::<String>(name)?;
        let items = given.flat_map(|text| text.split(',')).map(str::trim);
        let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
        (!items.is_empty()).then(|| items.join(","))
    }

    /// What decides on the rules.
    fn options(&self) -> Result<Vec<Given>, Error> {
        let mut options = vec![
            self.port(Opt::InboundCapturePort, "incoming-proxy-port")?,
            self.port(Opt::ProxyPort, "outgoing-proxy-port")?,
        ];
        options.extend(self.owners()?);
        let ports = self.list("ports-to-redirect");
        if ports.as_ref().is_some_and(|ports| ports.contains('-')) {
            let problem = "ports alone are taken here, no ranges";
            return Err(invalid("--ports-to-redirect", problem));
        }
        let inbound = [
            self.list("subnets-to-ignore"),
            self.list("inbound-subnets-to-ignore"),
        ];
        let inbound: Vec<String> = inbound.into_iter().flatten().collect();
        let inbound = (!inbound.is_empty()).then(|| inbound.join(","));
        let lists = [
            (Opt::InboundPorts, ports),
            (
                Opt::InboundExcludePorts,
                self.list("inbound-ports-to-ignore"),
            ),
            (
                Opt::OutboundExcludePorts,
                self.list("outbound-ports-to-ignore"),
            ),
            (Opt::InboundExcludeCidrs, inbound),
            (
                Opt::OutboundExcludeCidrs,
                self.list("outbound-subnets-to-ignore"),
            ),
            (Opt::DualStack, self.on("ipv6")?.map(|on| on.to_string())),
        ];
        let given = lists
            .into_iter()
            .filter_map(|(opt, value)| Some((opt, value?)));
        options.extend(given.map(|(opt, value)| flag(opt, value)));
        Ok(options)
    }

    /// A port that has no default here.
    fn port(&self, opt: Opt, name: &'static str) -> Result<Given, Error> {
        let problem = "must be given: a port (1–65535)";
        let value = self
            .value(name)
            .ok_or_else(|| invalid(&format!("--{name}"), problem))?;
        Ok(flag(opt, value.to_owned()))
    }

    /// Whose traffic is left alone. proxy-init takes a negative number for none.
    fn owners(&self) -> Result<[Given; 2], Error> {
        let [uid, gid] = ["proxy-uid", "proxy-gid"].map(|name| {
            let value = self.value(name).unwrap_or_default();
            let negative = value.strip_prefix('-').is_some_and(is_number);
            if negative { "" } else { value }
        });
        if uid.is_empty() && gid.is_empty() {
            let problem = "give the proxy's user or, with --proxy-gid, its group: otherwise its own connections \
                           would be redirected to itself";
            return Err(invalid("--proxy-uid", problem));
        }
        Ok([
            flag(Opt::ProxyUid, uid.to_owned()),
            flag(Opt::ProxyGid, gid.to_owned()),
        ])
    }

    /// proxy-init sets nothing where this is 0.
    fn close_wait(&self) -> Result<Option<CloseWait>, Error> {
        let name = "timeout-close-wait-secs";
        match self.value(name) {
            None | Some("0") => Ok(None),
            Some(value) => {
                let seconds = is_number(value).then(|| value.parse().ok()).flatten();
                let problem = format!("\"{value}\" is not a number of seconds");
                seconds
                    .map(|s| Some(CloseWait(s)))
                    .ok_or_else(|| invalid(&format!("--{name}"), problem))
            }
        }
    }

    /// The legacy tables where those are asked for, and by default. The others are the tables that
    /// netlink writes.
    fn backend(&self) -> Result<Choice, Error> {
        let save = self.value("firewall-save-bin-path");
        if let Some(other) = save.filter(|p| {
            !PROGRAMS
                .iter()
                .any(|(name, _)| Some(*name) == p.strip_suffix("-save"))
        }) {
            let problem = format!(
                "\"{other}\" is not iptables-legacy-save, iptables-nft-save or iptables-save"
            );
            return Err(invalid("--firewall-save-bin-path", problem));
        }
        let program = self.value("firewall-bin-path").unwrap_or("iptables-legacy");
        let by_program = PROGRAMS.iter().find(|(name, _)| *name == program);
        let (_, mode) = by_program.ok_or_else(|| {
            let problem = format!("\"{program}\" is not iptables-legacy, iptables-nft or iptables");
            invalid("--firewall-bin-path", problem)
        })?;
        let name = match self.value("iptables-mode").unwrap_or(mode) {
            "legacy" => "iptables-legacy",
            "nft" | "plain" => "netlink",
            other => {
                let problem = format!("\"{other}\" is not legacy, nft or plain");
                return Err(invalid("--iptables-mode", problem));
            }
        };
        Choice::from_str(name, false).map_err(|_| {
            let problem = format!("this program was built without the backend {name}");
            invalid("--iptables-mode", problem)
        })
    }

    /// logrus' levels.
    fn log_level(&self) -> Result<Option<LevelFilter>, Error> {
        let Some(level) = self.value("log-level") else {
            return Ok(None);
        };
        Ok(Some(match level.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => LevelFilter::Error,
            "warn" | "warning" => LevelFilter::Warn,
            "info" => LevelFilter::Info,
            "debug" => LevelFilter::Debug,
            "trace" => LevelFilter::Trace,
            _ => {
                let problem =
                    format!("\"{level}\" is not panic, fatal, error, warn, info, debug or trace");
                return Err(invalid("--log-level", problem));
            }
        }))
    }
}

/// The programs that the flags may name, and the mode that each stands for.
const PROGRAMS: [(&str, &str); 3] = [
    ("iptables-legacy", "legacy"),
    ("iptables-nft", "nft"),
    ("iptables", "plain"),
];

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn flag(opt: Opt, value: String) -> Given {
    let named = NAMES.iter().find(|(o, _)| *o == opt);
    Given {
        opt,
        value,
        origin: Origin::Flag(named.map_or(opt.spec().long, |(_, name)| name)),
    }
}
