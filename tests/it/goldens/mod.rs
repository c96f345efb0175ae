//! What a dry run prints for every case, in every format: the library alone, with a host that is a
//! table, so that no privilege and no tool is needed.

use crate::cases::Case;
use prepare_proxy::config::Host;
use prepare_proxy::{cli, ops};
use std::ffi::OsString;
use std::io;
use std::net::Ipv6Addr;
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
            Some("/proc/net/if_inet6") => Ok(if_inet6(&self.0.addresses)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// /proc/net/if_inet6 with the case's addresses.
fn if_inet6(addresses: &[String]) -> String {
    let address = |cidr: &String| cidr.split('/').next()?.parse::<Ipv6Addr>().ok();
    let lines = addresses.iter().filter_map(address);
    lines
        .map(|a| format!("{:032x} 02 40 00 80     eth0\n", a.to_bits()))
        .collect()
}

/// Runs the case as a dry run; the exit status would be `Err`'s.
fn dry_run(case: &Case, format: &str) -> Result<String, String> {
    let before = ["prepare-proxy", "--dry-run", "--format", format];
    let args = before
        .map(str::to_owned)
        .into_iter()
        .chain(case.command_line());
    let cli = cli::parse(args.map(OsString::from).collect(), &Answers(case))
        .map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    ops::run(cli.invocation, &Answers(case), &mut out).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(out).expect("a dry run prints UTF-8"))
}

#[test]
fn every_case_prints_its_golden() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for case in crate::cases::all().iter().filter(|c| c.writes()) {
            let mut golden = String::new();
            for format in ["restore", "commands", "nft", "json"] {
                let text = dry_run(case, format).unwrap_or_else(|e| panic!("{}: {e}", case.name));
                golden += &format!("==> {format}\n{text}\n");
            }
            insta::assert_snapshot!(case.name.as_str(), golden);
        }
    });
}

#[test]
fn refused_cases_are_refused() {
    for case in crate::cases::all().iter().filter(|c| c.is_refused()) {
        assert!(dry_run(case, "restore").is_err(), "{}", case.name);
    }
}
