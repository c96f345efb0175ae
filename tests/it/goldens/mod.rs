//! What a dry run prints: the library alone, with a host that is a table, so that no privilege and
//! no tool is needed.
//!
//! Of every case the text for iptables-restore is kept, for people to read; the other formats are
//! proved to say the same ([`formats`]), and of one ruleset with every match and target all four
//! are kept. What nft makes of its format is asked in [`crate::kernel`].

mod formats;
mod json;
mod ownership;
#[cfg(feature = "iptables")]
mod restore;

use crate::cases::{self, Case};
use crate::every_match;
use clap::ValueEnum;
use prepare_proxy::actions::{self, Format, Invocation};
use prepare_proxy::frontend::cli;
use prepare_proxy::mesh::config::Host;
use prepare_proxy::mesh::config::facts::Ipv6;
use prepare_proxy::netfilter::model::{Family, Ruleset, Table, TableName};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The host of a case, in answers.
struct Answers<'a>(&'a Case);

impl Host for Answers<'_> {
    fn env(&self, name: &str) -> Option<OsString> {
        let found = self.0.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into())
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/etc/resolv.conf") => Ok(self.0.resolv_conf.clone()),
            Some("/etc/passwd") => Ok("daemon:x:1:1:daemon:/:/bin/false\n".to_owned()),
            Some("/etc/group") => Ok("daemon:x:1:\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn ipv6(&self) -> io::Result<Ipv6> {
        let addresses = self.0.addresses.iter();
        let address = |cidr: &String| cidr.split('/').next()?.parse().ok();
        Ok(Ipv6 {
            enabled: true,
            on_loopback: true,
            addresses: addresses.filter_map(address).collect(),
        })
    }
}

/// The command line of a case, understood.
fn invocation(case: &Case, options: &[&str]) -> Result<Invocation, String> {
    let args = ["prepare-proxy"].iter().chain(options).map(OsString::from);
    let args = args.chain(case.command_line().into_iter().map(OsString::from));
    match cli::parse(args.collect(), &Answers(case)) {
        Ok(cli) => Ok(cli.invocation),
        Err(e) => Err(e.to_string()),
    }
}

/// Runs the case as a dry run; `Err` is its message.
fn dry_run(case: &Case, format: Format) -> Result<String, String> {
    let invocation = invocation(case, &["--dry-run", "--format", &name(format)])?;
    let mut out = Vec::new();
    actions::run(invocation, &Answers(case), &mut out).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(out).expect("a dry run prints UTF-8"))
}

/// What `--format` takes.
fn name(format: Format) -> String {
    let value = format.to_possible_value().expect("none is hidden");
    value.get_name().to_owned()
}

/// What a case asks for, as a value.
fn wanted(case: &Case) -> Result<Ruleset, String> {
    let invocation = invocation(case, &[])?;
    let resolved = actions::resolve(&invocation, &Answers(case));
    let (mesh, config) = resolved.map_err(|e| e.to_string())?;
    Ok(mesh.ruleset(&config))
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// What a reader of a golden wants to know first.
fn told(case: &Case) -> String {
    let env = case.env.iter().map(|(key, value)| format!("{key}={value}"));
    let words = env.chain(case.command_line()).map(|word| match &*word {
        "" => "''".to_owned(),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_case_prints_its_golden() {
    for case in cases::all().iter().filter(|c| c.writes()) {
        let text = dry_run(case, Format::Restore).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut settings = settings();
        settings.set_description(told(case));
        settings.bind(|| insta::assert_snapshot!(case.name.as_str(), text));
    }
}

#[test]
fn every_match_prints_its_golden() {
    let mut wanted = every_match::everything();
    // IPv6 is IPv4 once more, but for what filter holds.
    let worth = |t: &Table| t.family == Family::V4 || t.name == TableName::Filter;
    wanted.tables.retain(worth);
    settings().bind(|| {
        for format in Format::value_variants() {
            let golden = format!("every-match-{}", name(*format));
            insta::assert_snapshot!(golden, actions::render(&wanted, *format).unwrap());
        }
    });
}

#[test]
fn refused_cases_are_refused() {
    for case in cases::all().iter().filter(|c| c.is_refused()) {
        assert!(dry_run(case, Format::Restore).is_err(), "{}", case.name);
    }
}
