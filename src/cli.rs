//! The command line: syntax only. What a value may be, and which mesh has an option, is decided in
//! [`crate::config`].

mod istio;

use crate::config::{DefaultValue, Given, Host, Options, Origin, SPECS, Spec};
use crate::log_format::LogFormat;
use crate::mesh::{MESHES, Mesh};
use crate::ops::{Action, Choice, Format, Invocation};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use log::LevelFilter;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A parsed command line, with what it says about logging.
#[derive(Debug)]
pub struct Cli {
    pub invocation: Invocation,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  prepare-proxy -p 15001 -u 1337
      All inbound and outbound TCP to port 15001, but for the traffic of uid 1337
  prepare-proxy -p 15001 -u 1337 -i 10.0.0.0/8,172.16.0.0/12
      The same, but outbound only to these destinations
  prepare-proxy --dry-run -p 15001 -u 1337
      Show the rules; needs no privilege
  prepare-proxy --dry-run --format commands -p 15001 -u 1337 | less
      The same as iptables commands

Exit status:
  0  done                      1  the kernel or a tool refused
  2  bad input, nothing done   3  a capability is missing
  126  the rules are not there (istio-iptables --run-validation)

Options are taken from the command line, else from the environment, else from --env-file, else from
the mesh. RUST_LOG sets log levels in detail.";

/// The whole command line; also what the man page and the completions are made from.
pub fn command() -> Command {
    Command::new("prepare-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Sends the TCP of a pod or a VM through its sidecar proxy")
        .override_usage(
            "prepare-proxy [ACTION] [OPTIONS]\n       prepare-proxy istio-iptables [FLAGS]",
        )
        .after_help(EXAMPLES)
        .max_term_width(100)
        .args_override_self(true)
        .arg(action())
        .args(general())
        .args(SPECS.iter().map(|spec| {
            let arg = option(spec, spec.long, &MESHES.map(|m| m.profile.name));
            match spec.alias {
                Some(alias) => arg.visible_alias(alias),
                None => arg,
            }
        }))
        .subcommand(istio::command())
        .disable_help_subcommand(true)
}

fn action() -> Arg {
    let names = ACTIONS.map(|(name, help, _)| clap::builder::PossibleValue::new(name).help(help));
    Arg::new("action")
        .value_name("ACTION")
        .default_value("apply")
        .value_parser(PossibleValuesParser::new(names))
        .help("What to do")
}

const ACTIONS: [(&str, &str, Action); 3] = [
    (
        "apply",
        "Install the rules, or nothing if they are in place",
        Action::Apply,
    ),
    (
        "clean",
        "Remove all rules of a mesh, whatever installed them",
        Action::Clean,
    ),
    (
        "diff",
        "Show what an apply would change: 0 nothing, 1 something, 2 cannot tell",
        Action::Diff,
    ),
];

/// The options that no mesh decides on.
fn general() -> Vec<Arg> {
    let value = |id: &'static str, name: &'static str, help: &'static str| {
        Arg::new(id)
            .long(id)
            .value_name(name)
            .help(help)
            .help_heading("General")
    };
    let plain = |id: &'static str, help: &'static str| {
        let arg = Arg::new(id).long(id).action(ArgAction::SetTrue);
        arg.help(help).help_heading("General")
    };
    vec![
        value(
            "mesh",
            "MESH",
            "Whose rules to write [env: PREPARE_PROXY_MESH] [default: nginmesh]",
        )
        .value_parser(PossibleValuesParser::new(MESHES.map(|m| m.profile.name))),
        value("backend", "BACKEND", "How the rules reach the kernel")
            .default_value("auto")
            .value_parser(PossibleValuesParser::new(
                Choice::ALL.iter().map(|(name, _)| *name),
            )),
        value(
            "network-namespace",
            "PATH",
            "Enter this network namespace first",
        )
        .value_parser(value_parser!(PathBuf)),
        value(
            "env-file",
            "PATH",
            "Read KEY=value lines; -/PATH means \"if it exists\"; may be repeated",
        )
        .value_parser(OsStringValueParser::new().try_map(env_file))
        .allow_hyphen_values(true)
        .action(ArgAction::Append),
        plain("dry-run", "Print the rules, touch nothing").short('n'),
        value("format", "FORMAT", "How a dry run or a diff is printed")
            .default_value("restore")
            .value_parser(PossibleValuesParser::new(Format::ALL.map(|(name, _)| name))),
        plain(
            "allow-host-network",
            "Work even in the network namespace of a Kubernetes node",
        ),
        value(
            "log-format",
            "FORMAT",
            "How messages are printed on standard error",
        )
        .default_value("text")
        .value_parser(["text", "json"]),
        plain("verbose", "Say more; twice: everything")
            .short('v')
            .action(ArgAction::Count),
        plain("quiet", "Print nothing but errors"),
    ]
}

/// The path of an env file. What begins with `-` may be the next option, after a path that was left
/// out; as with systemd, only an absolute path comes behind a `-` that means "if it exists".
fn env_file(value: OsString) -> Result<PathBuf, String> {
    let behind = value.as_encoded_bytes().strip_prefix(b"-");
    match behind.is_none_or(|path| path.starts_with(b"/")) {
        true => Ok(PathBuf::from(value)),
        false => Err("behind a leading - there must be an absolute path".to_owned()),
    }
}

/// One row of the options table as an argument called `long`, with what holds in these meshes.
fn option(spec: &'static Spec, long: &'static str, meshes: &[&str]) -> Arg {
    let env = spec.env.join(", ");
    let details = format!("{}\n[env: {env}]\n[{}]", spec.help, defaults(spec, meshes));
    let mut arg = Arg::new(spec.long)
        .long(long)
        .help(spec.help)
        .long_help(details)
        .help_heading(spec.heading)
        .action(ArgAction::Set);
    if let Some(short) = spec.short {
        arg = arg.short(short);
    }
    match spec.value {
        Some(name) => arg.value_name(name),
        None => switch(arg),
    }
}

/// A switch as the tools replaced take it: --flag, --flag=true, --flag=false.
fn switch(arg: Arg) -> Arg {
    arg.value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

/// `nginmesh: required; istio-1.0, istio: 15001`.
fn defaults(spec: &Spec, meshes: &[&str]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for mesh in MESHES.iter().filter(|m| meshes.contains(&m.profile.name)) {
        let Some(default) = mesh.profile.default_of(spec.opt).map(describe) else {
            continue;
        };
        match groups.iter_mut().find(|(text, _)| *text == default) {
            Some((_, names)) => names.push(mesh.profile.name),
            None => groups.push((default, vec![mesh.profile.name])),
        }
    }
    let groups = groups.iter();
    let texts = groups.map(|(default, names)| format!("{}: {default}", names.join(", ")));
    texts.collect::<Vec<_>>().join("; ")
}

fn describe(default: DefaultValue) -> String {
    match default {
        DefaultValue::Required => "required".to_owned(),
        DefaultValue::Value("") => "none".to_owned(),
        DefaultValue::Value("false") => "off".to_owned(),
        DefaultValue::Value(value) => value.to_owned(),
        DefaultValue::Same(other) => format!("as --{}", other.spec().long),
        DefaultValue::EnvoyUser { and } => {
            let more: String = and.iter().map(|id| format!(",{id}")).collect();
            format!("that of $ENVOY_USER, else 1337{more}")
        }
    }
}

/// Reads a command line, the program's name first, and what the environment says for it.
pub fn parse(args: Vec<OsString>, host: &dyn Host) -> Result<Cli, clap::Error> {
    let called_as = called_as(args.first());
    let istio = Mesh::replacing(istio::NAME);
    let args = match called_as {
        Some(mesh) if mesh.profile.called == istio::NAME => with_subcommand(args),
        _ => args,
    };
    let matches = command().try_get_matches_from(args)?;
    let mesh = match (matches.subcommand(), istio) {
        (Some(_), Some(istio)) => istio,
        _ => mesh(&matches, called_as, host.env("PREPARE_PROXY_MESH"))?,
    };
    let cli = general_part(&matches, mesh);
    match matches.subcommand() {
        Some((_, line)) => istio::read(cli, line, host),
        None => Ok(cli),
    }
}

/// Called by the subcommand's name, the program takes its flags without naming it.
fn with_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_none_or(|arg| arg != istio::NAME) {
        args.insert(1, istio::NAME.into());
    }
    args
}

/// Everything but a subcommand's own line.
fn general_part(matches: &ArgMatches, mesh: &'static Mesh) -> Cli {
    let quiet = matches.get_flag("quiet");
    let log_level = match matches.get_count("verbose") {
        _ if quiet => LevelFilter::Error,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    Cli {
        invocation: Invocation {
            action: action_named(text("action")),
            mesh,
            backend: Choice::named(text("backend")).unwrap_or_default(),
            options: options(matches, SPECS.iter().map(|spec| (spec, spec.long))),
            env_files: many(matches, "env-file"),
            network_namespace: matches.get_one("network-namespace").cloned(),
            allow_host_network: matches.get_flag("allow-host-network"),
            dry_run: matches.get_flag("dry-run"),
            format: Format::named(text("format")).unwrap_or_default(),
            validate: false,
        },
        log_level,
        log_format: LogFormat::named(text("log-format")),
    }
}

/// The mesh whose tool has the name that we were called by.
fn called_as(program: Option<&OsString>) -> Option<&'static Mesh> {
    let name = Path::new(program?).file_name().and_then(OsStr::to_str)?;
    Mesh::replacing(name)
}

fn action_named(name: &str) -> Action {
    let found = ACTIONS.into_iter().find(|(n, _, _)| *n == name);
    found.map_or(Action::Apply, |(_, _, action)| action)
}

/// The mesh: as said, else as called, else as the environment says, else the first one.
fn mesh(
    matches: &ArgMatches,
    called_as: Option<&'static Mesh>,
    from_env: Option<OsString>,
) -> Result<&'static Mesh, clap::Error> {
    if let Some(name) = matches.get_one::<String>("mesh") {
        return Ok(Mesh::named(name).unwrap_or(MESHES[0]));
    }
    let from_env = from_env.filter(|name| !name.is_empty());
    match (called_as, from_env) {
        (Some(mesh), _) => Ok(mesh),
        (None, None) => Ok(MESHES[0]),
        (None, Some(name)) => name.to_str().and_then(Mesh::named).ok_or_else(|| {
            let names = MESHES.map(|m| m.profile.name).join(", ");
            let name = name.to_string_lossy();
            let problem = format!("\"{name}\" is not a mesh ({names})");
            invalid("PREPARE_PROXY_MESH", problem)
        }),
    }
}

/// A value that is refused.
fn invalid(option: &str, problem: impl std::fmt::Display) -> clap::Error {
    let message = format!("{option}: {problem}\n");
    clap::Error::raw(clap::error::ErrorKind::InvalidValue, message)
}

/// What was given for these options, each under the long name that it has on this command line.
fn options(
    matches: &ArgMatches,
    specs: impl Iterator<Item = (&'static Spec, &'static str)>,
) -> Options {
    let mut options = Options::default();
    for (spec, name) in specs {
        if let Some(value) = matches.get_one::<String>(spec.long) {
            options.offer(Given {
                opt: spec.opt,
                value: value.clone(),
                origin: Origin::Flag(name),
            });
        }
    }
    options
}

fn many(matches: &ArgMatches, id: &str) -> Vec<PathBuf> {
    let values = matches.get_many::<PathBuf>(id).into_iter().flatten();
    values.cloned().collect()
}
