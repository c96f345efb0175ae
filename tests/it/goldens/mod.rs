//! What a dry run prints: the library alone, with a host that is a table, so that no privilege and
//! no tool is needed.
//!
//! Of every case that no recording describes ([`crate::kernel`]) the text for iptables-restore is kept,
//! for people to read; the other formats are proved to say the same ([`formats`]), and of one ruleset
//! with every match and target all four are kept. What nft makes of its format is asked in [`crate::kernel`].

mod connections;
mod formats;
mod json;
mod ownership;
#[cfg(feature = "iptables")]
mod restore;

use crate::cases::{self, Case};
use crate::every_match;
use prepare_proxy::frontend::cli::{self, Invocation};
use prepare_proxy::frontend::output::{Format, render};
use prepare_proxy::frontend::perform;
use prepare_proxy::mesh::config::{Environment, Facts, Ipv6};
use prepare_proxy::netfilter::model::{Family, Ruleset, Table, TableName};
use prepare_proxy::netfilter::rtnetlink::Router;
use std::ffi::OsString;
use std::io;

fn environment(case: &Case) -> Environment {
    let pairs = case.env.iter();
    let pairs = pairs.map(|(key, value)| (key.into(), value.into()));
    Environment::new(pairs.collect())
}

/// The host of a case: nothing of this machine's.
fn facts(case: &Case) -> Facts {
    let mut facts = Facts::of(environment(case));
    let absent = || Err(io::ErrorKind::NotFound.into());
    for (path, text) in [
        ("/etc/resolv.conf", Ok(case.resolv_conf.clone())),
        (
            "/etc/passwd",
            Ok("daemon:x:1:1:daemon:/:/bin/false\n".to_owned()),
        ),
        ("/etc/group", Ok("daemon:x:1:\n".to_owned())),
        ("/var/lib/istio/envoy/cluster.env", absent()),
        ("/var/lib/istio/envoy/sidecar.env", absent()),
    ] {
        facts.learn(path.into(), text);
    }
    let addresses = case.addresses.iter();
    let address = |cidr: &String| cidr.split('/').next()?.parse().ok();
    facts.ipv6 = Some(Ipv6 {
        enabled: true,
        on_loopback: true,
        addresses: addresses.filter_map(address).collect(),
    });
    facts
}

/// The command line of a case, understood.
fn invocation(case: &Case, options: &[&str]) -> Result<Invocation, String> {
    let args = ["prepare-proxy"].iter().chain(options).map(OsString::from);
    let args = args.chain(case.command_line().into_iter().map(OsString::from));
    let args: Vec<OsString> = args.collect();
    let mut invocation = cli::parse(&args, &environment(case)).map_err(|e| e.to_string())?;
    invocation.request.facts = facts(case);
    Ok(invocation)
}

/// Runs the case as a dry run; `Err` is its message.
fn dry_run(case: &Case, format: Format) -> Result<String, String> {
    let invocation = invocation(case, &["--dry-run", "--format", name(format)])?;
    let mut out = Vec::new();
    perform(&invocation.actions[0], &invocation, &mut out).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(out).expect("a dry run prints UTF-8"))
}

/// What `--format` takes.
fn name(format: Format) -> &'static str {
    let mut names = Format::NAMES.iter();
    names.find(|(_, f)| *f == format).expect("it has a name").0
}

/// Every format of a dry run.
const FORMATS: [Format; 4] = [Format::Restore, Format::Commands, Format::Nft, Format::Json];

/// What a case asks for, as a value.
fn wanted(case: &Case) -> Result<Ruleset, String> {
    let mut router = Router::open().map_err(|e| e.to_string())?;
    let resolved = invocation(case, &[])?.request.resolve(&mut router);
    let (resolved, _) = resolved.map_err(|e| e.to_string())?;
    Ok(resolved.desired)
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// What a reader of a golden wants to know first.
fn described(case: &Case) -> String {
    let env = case.env.iter().map(|(key, value)| format!("{key}={value}"));
    let words = env.chain(case.command_line()).map(|word| match &*word {
        "" => "''".to_owned(),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_case_prints_its_golden() {
    // What is recorded whole is compared with the kernel's state instead.
    let cases = cases::all().into_iter().filter(Case::writes);
    for case in cases.filter(|case| !case.is_recorded_whole()) {
        let text = dry_run(&case, Format::Restore).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut settings = settings();
        settings.set_description(described(&case));
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
        for format in FORMATS {
            let golden = format!("every-match-{}", name(format));
            insta::assert_snapshot!(golden, render(&wanted, format));
        }
    });
}

#[test]
fn refused_cases_are_refused() {
    for case in cases::all().iter().filter(|c| c.is_refused()) {
        assert!(dry_run(case, Format::Restore).is_err(), "{}", case.name);
    }
}
