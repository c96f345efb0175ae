//! Istio's own command line: `prepare-proxy istio-iptables …`, also under that program's name.
//!
//! Every flag has istio-iptables' name, and every flag but those of the log has its environment
//! variable too (`--skip-rule-apply`, `SKIP_RULE_APPLY`). Flags about things that `apply` does
//! anyway are taken and change nothing.

use super::general::namespace;
use super::mesh_options::{self, switch};
use super::{Cli, invalid};
use crate::actions::{Action, Choice, verify};
use crate::frontend::log_format::LogFormat;
use crate::mesh::Mesh;
use crate::mesh::config::{Host, Opt, SPECS, Spec, parse_duration, parse_port, parse_switch};
use clap::{Arg, ArgMatches, Command, Error, ValueEnum};
use log::LevelFilter;

const HEADING: &str = "istio-iptables";

/// Options for which istio-iptables has a variable but no flag.
const VARIABLE_ONLY: [Opt; 3] = [Opt::OwnerGroups, Opt::OwnerGroupsExclude, Opt::LoopbackCidr];

#[rustfmt::skip]
const SWITCHES: [(&str, &str); 8] = [
    ("cleanup-only", "Remove the rules and write none"),
    ("skip-rule-apply", "Check the options and leave the rules as they are"),
    ("run-validation", "Prove by connections that the rules hold; status 126 if they do not"),
    ("native-nftables", "As --backend nftables"),
    ("dry-run", "Print the rules, touch nothing"),
    ("reconcile", "Replace other rules of ours; always done"),
    ("force-apply", "Write the rules whatever is there; always done"),
    ("cni-mode", "Taken for Istio's sake; changes nothing"),
];

#[rustfmt::skip]
const VALUES: [(&str, &str, &str); 4] = [
    ("force-iptables-binary", "VARIANT", "legacy or nft: as --backend iptables-legacy or netlink"),
    ("network-namespace", "PATH", "Enter this network namespace first"),
    ("iptables-probe-port", "PORT", "The port that the connections of --run-validation are made to [default: 15002]"),
    ("probe-timeout", "DURATION", "How long --run-validation tries what does not hold [default: 5s]"),
];

/// The log's flags, which have no variables. Those without effect are the last three.
const LOG: [&str; 4] = [
    "log_output_level",
    "log_target",
    "log_caller",
    "log_stacktrace_level",
];

/// Istio's flags.
pub(super) fn command(command: Command) -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(value).help(help);
        arg.help_heading(HEADING)
    };
    let log = |name: &'static str| match name {
        "log_output_level" => value(name, "LEVELS", "Such as info or default:debug"),
        _ => value(name, "TEXT", "Taken for Istio's sake; changes nothing").hide(true),
    };
    let switches = SWITCHES.iter().map(|(name, help)| {
        let arg = switch(Arg::new(*name).long(*name).help(*help));
        match *name {
            "dry-run" => arg.short('n').help_heading(HEADING),
            _ => arg.help_heading(HEADING),
        }
    });
    let as_json = Arg::new("log_as_json").long("log_as_json");
    let as_json = switch(as_json.help("As --log-format json")).help_heading(HEADING);
    let istio = ["istio"];
    command
        .about("The same as Istio's program of that name: apply --mesh istio, with its flags")
        .args(specs().map(|(spec, name)| {
            mesh_options::explained(mesh_options::arg(spec, name), spec, &istio)
        }))
        .args(switches)
        .args(VALUES.map(|(name, shown, help)| value(name, shown, help)))
        .args(LOG.map(log))
        .arg(as_json)
}

/// The options that istio-iptables has flags for, with its names.
fn specs() -> impl Iterator<Item = (&'static Spec, &'static str)> {
    let flags = SPECS.iter().filter(|spec| {
        let has = Mesh::having(spec.opt).any(|mesh| mesh == "istio");
        has && !VARIABLE_ONLY.contains(&spec.opt)
    });
    flags.map(|spec| (spec, spec.alias.unwrap_or(spec.long)))
}

/// What the flags ask for, on top of what was said before the tool's name.
pub(super) fn read(before: Cli, matches: &ArgMatches, host: &dyn Host) -> Result<Cli, Error> {
    let line = Line { matches, host };
    let mut cli = before;
    let invocation = &mut cli.invocation;
    invocation.options = mesh_options::read(matches, specs());
    if let Some(action) = line.action()? {
        invocation.action = action;
    }
    invocation.verify = line.verification()?;
    invocation.dry_run |= line.on("dry-run")?;
    if let Some(backend) = line.backend()? {
        invocation.backend = backend;
    }
    if let Some(path) = line.value("network-namespace")? {
        invocation.network_namespace = Some(namespace(path.into()));
    }
    for idle in ["reconcile", "force-apply", "cni-mode"] {
        line.on(idle)?;
    }
    if let Some(level) = line.log_level()? {
        cli.log_level = level;
    }
    if line.on("log_as_json")? {
        cli.log_format = LogFormat::Json;
    }
    Ok(cli)
}

/// The flags and their variables.
struct Line<'a> {
    matches: &'a ArgMatches,
    host: &'a dyn Host,
}

impl Line<'_> {
    /// The flag's value, else that of its variable; an empty one counts as unset.
    fn value(&self, name: &str) -> Result<Option<String>, Error> {
        let flag = self.matches.get_one::<String>(name).cloned();
        let variable = name.to_ascii_uppercase().replace('-', "_");
        let value = match flag {
            None if !name.starts_with("log_") => self.host.env(&variable),
            flag => return Ok(flag.filter(|v| !v.is_empty())),
        };
        let value = value.filter(|v| !v.is_empty()).map(|v| v.into_string());
        value
            .transpose()
            .map_err(|_| invalid(&variable, "the value is not UTF-8"))
    }

    /// Whether a switch is on.
    fn on(&self, name: &str) -> Result<bool, Error> {
        match self.value(name)? {
            None => Ok(false),
            Some(value) => parse_switch(&value).map_err(|e| invalid(&format!("--{name}"), e)),
        }
    }

    /// What is done instead of an apply, or of what was said before the tool's name.
    fn action(&self) -> Result<Option<Action>, Error> {
        Ok(
            match (self.on("cleanup-only")?, self.on("skip-rule-apply")?) {
                (true, _) => Some(Action::Clean),
                (false, true) => Some(Action::Check),
                (false, false) => None,
            },
        )
    }

    fn backend(&self) -> Result<Option<Choice>, Error> {
        let flag = "--force-iptables-binary";
        let variant = self.value("force-iptables-binary")?;
        let name = match (variant.as_deref(), self.on("native-nftables")?) {
            (None, false) => return Ok(None),
            (None, true) => return Ok(Some(Choice::Nftables)),
            (Some(_), true) => return Err(invalid(flag, "excludes --native-nftables")),
            (Some("nft"), _) => "netlink",
            (Some("legacy"), _) => "iptables-legacy",
            (Some(other), _) => {
                return Err(invalid(flag, format!("\"{other}\" is not legacy or nft")));
            }
        };
        let choice = Choice::from_str(name, false);
        choice.map(Some).map_err(|_| {
            let problem = format!("this program was built without the backend {name}");
            invalid("--force-iptables-binary", problem)
        })
    }

    /// How to prove that the rules hold, if that is asked for.
    fn verification(&self) -> Result<Option<verify::Options>, Error> {
        let mut options = verify::Options::default();
        if let Some(port) = self.value("iptables-probe-port")? {
            let port = parse_port(&port);
            options.probe_port = port.map_err(|e| invalid("--iptables-probe-port", e))?;
        }
        if let Some(timeout) = self.value("probe-timeout")? {
            let timeout = parse_duration(&timeout);
            options.probe_timeout = timeout.map_err(|e| invalid("--probe-timeout", e))?;
        }
        Ok(self.on("run-validation")?.then_some(options))
    }

    /// The level of the scope `default`, from `info` or `default:info,…`; other scopes are those of
    /// Istio's other programs.
    fn log_level(&self) -> Result<Option<LevelFilter>, Error> {
        let text = self.value("log_output_level")?.unwrap_or_default();
        let mut found = None;
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (scope, level) = item.split_once(':').unwrap_or(("default", item));
            let level = match level {
                "debug" => LevelFilter::Debug,
                "info" => LevelFilter::Info,
                "warn" => LevelFilter::Warn,
                "error" | "fatal" => LevelFilter::Error,
                "none" => LevelFilter::Off,
                _ => {
                    let problem = format!(
                        "\"{item}\" is not a level (debug, info, warn, error, fatal, none), \
                         nor a scope with one (default:info)"
                    );
                    return Err(invalid("--log_output_level", problem));
                }
            };
            if ["default", "all"].contains(&scope) {
                found = Some(level);
            }
        }
        Ok(found)
    }
}
