//! What the man page says besides what is made from the options: the same facts, in the sections in which
//! man-pages(7) has them.

use crate::frontend::Exit;
use crate::mesh::MESHES;
use crate::mesh::config::SPECS;
use crate::mesh::config::facts::{GROUP, PASSWD};
use crate::mesh::config::resolv_conf;
use std::collections::BTreeSet;
use std::fmt::Write;

/// A section: its title, and its entries, each a term with what it means.
pub type Section = (&'static str, Vec<(String, String)>);

/// Every section.
pub fn sections() -> Vec<Section> {
    let exit = EXIT
        .iter()
        .map(|(exit, meaning)| ((*exit as u8).to_string(), (*meaning).to_owned()));
    vec![
        ("EXIT STATUS", exit.collect()),
        ("ENVIRONMENT", environment()),
        ("FILES", files()),
        ("EXAMPLES", owned(EXAMPLES).collect()),
    ]
}

/// What stands behind the options in the help.
pub(super) fn after_help() -> String {
    let mut text = "Examples:\n".to_owned();
    for (line, meaning) in EXAMPLES {
        let _ = writeln!(text, "  {line}\n      {meaning}");
    }
    text.push_str("\nExit status:\n");
    for (exit, meaning) in EXIT {
        let _ = writeln!(text, "  {:<4} {meaning}", *exit as u8);
    }
    text + "\nOptions are taken from the command line, else from the environment, else from --env-file, else from\n\
            the mesh's defaults. RUST_LOG sets log levels in detail."
}

/// What each exit status means.
const EXIT: &[(Exit, &str)] = &[
    (Exit::Done, "done; diff: no difference; status: in force"),
    (
        Exit::Failed,
        "the kernel or a tool refused; diff: something differs; status: not in force",
    ),
    (
        Exit::BadInput,
        "bad input, nothing was changed; diff, explain, status, verify: cannot be determined",
    ),
    (Exit::NotPermitted, "a capability is missing"),
    (
        Exit::NotVerified,
        "the redirection does not hold (verify, istio-iptables --run-validation)",
    ),
];

/// Command lines, each with what it does.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "prepare-proxy -p 15001 -u 1337",
        "Redirect all inbound and outbound TCP to port 15001, except the traffic of uid 1337",
    ),
    (
        "prepare-proxy -p 15001 -u 1337 -i 10.0.0.0/8,172.16.0.0/12",
        "The same, outbound only to these destinations",
    ),
    (
        "prepare-proxy --dry-run -p 15001 -u 1337",
        "Print the rules; needs no privilege",
    ),
    (
        "prepare-proxy --dry-run --format commands -p 15001 -u 1337 | less",
        "Print them as iptables commands",
    ),
    (
        "prepare-proxy completions bash >/etc/bash_completion.d/prepare-proxy",
        "Complete words in bash; likewise in elvish, fish, powershell and zsh",
    ),
];

fn environment() -> Vec<(String, String)> {
    let options = SPECS.iter().flat_map(|spec| {
        let name = |name: &&str| ((*name).to_owned(), format!("Same as --{}", spec.long));
        spec.env.iter().map(name)
    });
    let others = owned(&[
        ("PREPARE_PROXY_MESH", "Same as --mesh"),
        (
            "ENVOY_USER",
            "Name of the proxy's user, for the meshes of Istio [default: istio-proxy]",
        ),
        (
            "RUST_LOG",
            "Log levels in detail, as Rust's env_logger reads them",
        ),
        (
            "KUBERNETES_SERVICE_HOST",
            "Set in pods: the network namespace of a node is then refused",
        ),
        (
            "PATH",
            "Where the programs of iptables-legacy are looked for",
        ),
    ]);
    let files =
        own_files().map(|(variable, path)| (variable, format!("Read this file instead of {path}")));
    options.chain(others).chain(files).collect()
}

fn files() -> Vec<(String, String)> {
    let own = own_files().map(|(_, path)| (path, "Env file of a mesh; may be absent".to_owned()));
    let others = owned(&[
        (
            "/etc/default/prepare-proxy",
            "Env file of the units; overrides the others",
        ),
        (resolv_conf::PATH, "Nameservers, where DNS is captured"),
        (PASSWD, "Numbers of users that are given by name"),
        (GROUP, "Numbers of groups that are given by name"),
        (
            "/usr/share/doc/prepare-proxy/",
            "The pages that messages name as docs/PAGE.md",
        ),
    ]);
    own.chain(others).collect()
}

/// The env files that meshes read of their own accord, each with the variable that names another one.
fn own_files() -> impl Iterator<Item = (String, String)> {
    let files = MESHES.into_iter().flat_map(|mesh| mesh.profile.env_files);
    let once: BTreeSet<_> = files.collect();
    once.into_iter()
        .map(|(variable, path)| ((*variable).to_owned(), (*path).to_owned()))
}

fn owned(entries: &'static [(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let entry = |(term, meaning): &(&str, &str)| ((*term).to_owned(), (*meaning).to_owned());
    entries.iter().map(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(title: &str) -> Vec<String> {
        let sections = sections();
        let section = sections.into_iter().find(|(t, _)| *t == title);
        section
            .expect(title)
            .1
            .into_iter()
            .map(|(term, _)| term)
            .collect()
    }

    #[test]
    fn every_status_variable_and_file_is_there_once() {
        assert_eq!(terms("EXIT STATUS"), ["0", "1", "2", "3", "126"]);
        let variables = terms("ENVIRONMENT");
        for name in SPECS.iter().flat_map(|spec| spec.env) {
            assert!(variables.iter().any(|v| v == name), "{name}");
        }
        for title in ["ENVIRONMENT", "FILES"] {
            let mut once = terms(title);
            once.sort();
            once.dedup();
            assert_eq!(once.len(), terms(title).len(), "{title}");
        }
    }
}
