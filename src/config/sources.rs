//! Where values come from besides the command line: the environment and the env files.

use super::{ConfigError, Given, Host, Opt, Options, Origin, Profile, SPECS, env_file};
use std::io;
use std::path::{Path, PathBuf};

/// Adds what the environment says.
pub(super) fn offer_environment(
    options: &mut Options,
    profile: &Profile,
    host: &dyn Host,
) -> Result<(), ConfigError> {
    for (opt, name) in variables(profile) {
        let Some(value) = host.env(name) else {
            continue;
        };
        let value = value.into_string().map_err(|_| ConfigError::BadValue {
            option: name.to_owned(),
            problem: "the value is not UTF-8".to_owned(),
        })?;
        let origin = Origin::Env(name);
        let given = Given { opt, value, origin };
        if !given.is_unset() {
            options.offer(given);
        }
    }
    Ok(())
}

/// Every variable that means something to this mesh.
fn variables(profile: &Profile) -> impl Iterator<Item = (Opt, &'static str)> {
    SPECS
        .iter()
        .filter(|s| profile.default_of(s.opt).is_some())
        .flat_map(|s| s.env.iter().map(|name| (s.opt, *name)))
}

/// An env file: its path, and the assignments in it.
pub(super) type EnvFile = (PathBuf, Vec<(String, String)>);

/// The env files, the strongest first: those of the command line, then the mesh's own.
pub(super) fn read_files(
    env_files: &[PathBuf],
    profile: &Profile,
    host: &dyn Host,
) -> Result<Vec<EnvFile>, ConfigError> {
    let own = profile.env_files.iter().map(|(variable, path)| {
        let named = host.env(variable).filter(|v| !v.is_empty());
        (named.map_or(PathBuf::from(path), PathBuf::from), true)
    });
    let named = env_files.iter().map(|path| optional(path));
    let mut files = Vec::new();
    for (path, optional) in own.chain(named) {
        match host.file(&path) {
            Ok(text) => {
                let assignments = env_file::parse(&text).map_err(|e| file_error(&path, e))?;
                files.push((path, assignments));
            }
            Err(e) if optional && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file_error(&path, e)),
        }
    }
    files.reverse();
    Ok(files)
}

/// Adds what the env files say. An empty value takes back what weaker files say, but not what
/// another name of its option says in the same file.
pub(super) fn offer_files(options: &mut Options, files: &[EnvFile], profile: &Profile) {
    for (path, assignments) in files {
        let given = |(opt, name)| {
            let value = assigned(assignments, name)?.to_owned();
            let origin = Origin::File(name, path.clone());
            Some(Given { opt, value, origin })
        };
        let mut layer: Vec<Given> = variables(profile).filter_map(given).collect();
        layer.sort_by_key(|given| given.value.is_empty());
        layer.into_iter().for_each(|given| options.offer(given));
    }
}

/// The value of `name`: its last assignment.
fn assigned<'a>(assignments: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = assignments.iter().rev().find(|(n, _)| n == name)?;
    Some(value.as_str())
}

/// The name of the user whom the proxy runs as.
pub(super) fn envoy_user(files: &[EnvFile], host: &dyn Host) -> String {
    const VARIABLE: &str = "ENVOY_USER";
    let environment = host.env(VARIABLE).and_then(|v| v.into_string().ok());
    environment
        .filter(|v| !v.is_empty())
        .or_else(|| {
            let mut found = files.iter().filter_map(|(_, a)| assigned(a, VARIABLE));
            found.find(|v| !v.is_empty()).map(str::to_owned)
        })
        .unwrap_or_else(|| "istio-proxy".to_owned())
}

/// A path of `--env-file`, and whether the file may be absent (a leading `-`, as in systemd).
fn optional(path: &Path) -> (PathBuf, bool) {
    match path.to_str().and_then(|p| p.strip_prefix('-')) {
        Some(rest) => (PathBuf::from(rest), true),
        None => (path.to_owned(), false),
    }
}

/// A file that cannot be used.
pub(super) fn file_error(path: &Path, problem: impl ToString) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}
