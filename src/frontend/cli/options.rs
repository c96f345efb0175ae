//! The rows of the table of options as arguments, and what was given for them.

use crate::mesh::MESHES;
use crate::mesh::config::{DefaultValue, Given, Options, Origin, Spec};
use clap::{Arg, ArgAction, ArgMatches};
use std::ffi::OsString;

/// One row of the options table as an argument called `long`.
pub(super) fn arg(spec: &'static Spec, long: &'static str) -> Arg {
    let mut arg = Arg::new(spec.long)
        .long(long)
        .help(spec.help)
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

/// With its variables, and the default of each of these meshes.
pub(super) fn explained(arg: Arg, spec: &Spec, meshes: &[&str]) -> Arg {
    let env = match spec.env {
        [] => String::new(),
        names => format!("\n[env: {}]", names.join(", ")),
    };
    let defaults = defaults(spec, meshes);
    arg.long_help(format!("{}{env}\n[{defaults}]", spec.help))
}

/// A switch as the tools replaced take it: --flag, --flag=true, --flag=false.
pub(super) fn switch(arg: Arg) -> Arg {
    arg.value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

/// What was given for these options, each under the long name that it has on this command line.
pub(super) fn read(
    matches: &ArgMatches,
    args: &[OsString],
    specs: impl Iterator<Item = (&'static Spec, &'static str)>,
) -> Options {
    let mut options = Options::default();
    for (spec, name) in specs {
        if let Ok(Some(value)) = matches.try_get_one::<String>(spec.long) {
            options.offer(Given {
                opt: spec.opt,
                value: value.clone(),
                origin: Origin::Flag(as_typed(args, spec, name)),
            });
        }
    }
    options
}

/// The name of an option as it was typed last: `-p`, `--proxy-port`, `--envoy-port`.
fn as_typed(args: &[OsString], spec: &Spec, name: &str) -> String {
    let names: Vec<&str> = [name, spec.long].into_iter().chain(spec.alias).collect();
    let typed = args.iter().rev().find_map(|arg| {
        let text = arg.to_str()?;
        match text.strip_prefix("--") {
            Some(long) => {
                let long = long.split('=').next()?;
                names.contains(&long).then(|| format!("--{long}"))
            }
            None => {
                let letter = text.strip_prefix('-')?.chars().next()?;
                (Some(letter) == spec.short).then(|| format!("-{letter}"))
            }
        }
    });
    typed.unwrap_or_else(|| format!("--{name}"))
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
        DefaultValue::Value("true") => "on".to_owned(),
        DefaultValue::Value(value) => value.to_owned(),
        DefaultValue::Same(other) => format!("same as --{}", other.spec().long),
        DefaultValue::EnvoyUser { and } => {
            let more: String = and.iter().map(|id| format!(",{id}")).collect();
            format!("uid of $ENVOY_USER, else 1337{more}")
        }
    }
}
