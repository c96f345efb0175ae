//! Where values come from besides the command line: the environment and the env files.

use super::facts::Facts;
use super::unknown::FactError;
use super::{ConfigError, Given, Opt, Options, Origin, Profile, SPECS, env_file};
use std::path::{Path, PathBuf};

/// Adds what the environment says.
pub(super) fn offer_environment(
    options: &mut Options,
    profile: &Profile,
    facts: &Facts,
) -> Result<(), ConfigError> {
    for (opt, name) in variables(profile) {
        let Some(value) = facts.variable(name) else {
            continue;
        };
        let value = value.to_str().ok_or_else(|| no_text(name))?.to_owned();
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
        .filter(|s| profile.variables && profile.default_of(s.opt).is_some())
        .flat_map(|s| s.env.iter().map(|name| (s.opt, *name)))
}

/// Env files and the assignments in them, the strongest first.
#[derive(Debug, Default)]
pub struct EnvFiles(Vec<(PathBuf, Vec<(String, String)>)>);

impl EnvFiles {
    /// The files of the command line, the weakest first; a leading `-` means "if it exists".
    pub fn read(paths: &[PathBuf], facts: &Facts) -> Result<Self, ConfigError> {
        let mut files = EnvFiles::default();
        for path in paths {
            let (path, optional) = optional(path);
            match files.add(&path, facts)? {
                true => {}
                false if optional => {}
                false => return Err(ConfigError::NoEnvFile { path }),
            }
        }
        files.0.reverse();
        Ok(files)
    }

    /// Adds the mesh's own files, which are weaker than all others.
    pub fn with_own(self, profile: &Profile, facts: &Facts) -> Result<Self, ConfigError> {
        let mut own = EnvFiles::default();
        for (variable, path) in profile.env_files {
            let named = facts.variable(variable).filter(|v| !v.is_empty());
            own.add(&named.map_or(PathBuf::from(path), PathBuf::from), facts)?;
        }
        let strongest_first = own.0.into_iter().rev();
        Ok(EnvFiles(
            self.0.into_iter().chain(strongest_first).collect(),
        ))
    }

    /// Returns whether there is such a file.
    fn add(&mut self, path: &Path, facts: &Facts) -> Result<bool, ConfigError> {
        let text = match facts.file(path) {
            Ok(None) => return Ok(false),
            Err(FactError::Unreadable { path, problem }) if !problem.may_pass() => {
                return Err(file_error(&path, problem));
            }
            text => text?.unwrap_or_default(),
        };
        let assignments = env_file::parse(text).map_err(|e| file_error(path, e))?;
        self.0.push((path.to_owned(), assignments));
        Ok(true)
    }

    /// The value of a variable in the strongest file that has a value for it, and that file.
    pub fn get(&self, name: &str) -> Option<(&str, &Path)> {
        let mut found = self.0.iter().filter_map(|(path, assignments)| {
            let value = assigned(assignments, name)?;
            Some((value, path.as_path()))
        });
        found.find(|(value, _)| !value.is_empty())
    }
}

/// Variables of env files that no mesh reads, though they look as if one did: with the file, and the
/// name that is read.
pub(in crate::mesh) fn misspelt(files: &EnvFiles) -> Vec<(String, PathBuf, &'static str)> {
    let names = || {
        files
            .0
            .iter()
            .flat_map(|(path, all)| all.iter().map(move |(n, _)| (n, path)))
    };
    let similar = names().filter_map(|(name, path)| {
        let read = SPECS.iter().flat_map(|spec| spec.env);
        let read: Vec<&'static str> = read.copied().chain(["ENVOY_USER"]).collect();
        let documented = DOCUMENTED.iter().find(|(wrong, _)| wrong == name);
        let meant = documented.map(|(_, right)| *right);
        let meant = meant.or_else(|| read.iter().copied().find(|known| looks_like(name, known)));
        let meant = meant.filter(|_| !read.contains(&name.as_str()))?;
        Some((name.clone(), path.clone(), meant))
    });
    similar.collect()
}

/// Variables that the comments of Istio's packages name and no program of Istio's reads.
const DOCUMENTED: [(&str, &str); 1] =
    [("ISTIO_INBOUND_EXCLUDE_PORTS", "ISTIO_LOCAL_EXCLUDE_PORTS")];

/// The same letters but for case, `_`, `-` and an `S` at the end.
fn looks_like(name: &str, known: &str) -> bool {
    let letters = |text: &str| {
        let text = text.to_ascii_uppercase().replace(['_', '-'], "");
        text.trim_end_matches('S').to_owned()
    };
    name != known && letters(name) == letters(known)
}

/// Adds what the env files say. An empty value takes back what weaker files say, but not what
/// another name of its option says in the same file.
pub(super) fn offer_files(
    options: &mut Options,
    files: &EnvFiles,
    profile: &Profile,
    facts: &Facts,
) -> Result<(), ConfigError> {
    for (path, assignments) in &files.0 {
        let given = |(opt, name)| {
            let value = assigned(assignments, name)?.to_owned();
            let origin = Origin::File(name, path.clone());
            Some(Given { opt, value, origin })
        };
        let mut layer: Vec<Given> = variables(profile).filter_map(given).collect();
        if facts.is_of_other_user(path) {
            layer.iter().try_for_each(bounded)?;
        }
        layer.sort_by_key(|given| given.value.is_empty());
        layer.into_iter().for_each(|given| options.offer(given));
    }
    Ok(())
}

/// A file of another user must not be so long that reading it takes long.
fn bounded(given: &Given) -> Result<(), ConfigError> {
    const MOST: usize = 1000;
    let items = given.value.split(',').count();
    match items > MOST {
        false => Ok(()),
        true => Err(ConfigError::bad_value(
            given,
            format!("{items} items, and a file of another user may list {MOST}"),
        )),
    }
}

/// The value of `name`: its last assignment.
fn assigned<'a>(assignments: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = assignments.iter().rev().find(|(n, _)| n == name)?;
    Some(value.as_str())
}

/// The name of the user whom the proxy runs as. One that is not text is an error: another user would
/// be exempt in its place.
pub(super) fn envoy_user(files: &EnvFiles, facts: &Facts) -> Result<String, ConfigError> {
    const VARIABLE: &str = "ENVOY_USER";
    let environment = facts.variable(VARIABLE).filter(|user| !user.is_empty());
    match (environment, files.get(VARIABLE)) {
        (Some(user), _) => user
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| no_text(VARIABLE)),
        (None, Some((user, _))) => Ok(user.to_owned()),
        (None, None) => Ok("istio-proxy".to_owned()),
    }
}

fn no_text(variable: &str) -> ConfigError {
    ConfigError::BadValue {
        option: variable.to_owned(),
        problem: "the value is not UTF-8".to_owned(),
    }
}

/// A path of `--env-file`, and whether the file may be absent (a leading `-`, as in systemd).
fn optional(path: &Path) -> (PathBuf, bool) {
    match path.to_str().and_then(|p| p.strip_prefix('-')) {
        Some(rest) => (PathBuf::from(rest), true),
        None => (path.to_owned(), false),
    }
}

/// A file that cannot be used.
fn file_error(path: &Path, problem: impl ToString) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}
