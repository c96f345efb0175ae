//! From what was asked for to the desired ruleset: pure, of options and facts alone.

use super::config::{Config, ConfigError, EnvFiles, Facts, Options};
use super::{MESHES, Mesh, Warning, warnings};
use crate::netfilter::model::Ruleset;
use std::path::PathBuf;

/// What options and facts come to.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub mesh: &'static Mesh,
    pub config: Config,
    pub desired: Ruleset,
    /// What a person should know before the rules are installed.
    pub warnings: Vec<Warning>,
}

/// Resolves the options of a command line, on top of env files and the environment. Without `mesh` a
/// variable names it, or it is the first of all meshes.
///
/// # Errors
/// As of [`Config::resolve`].
pub fn resolve(
    mesh: Option<&'static Mesh>,
    options: &Options,
    env_files: &[PathBuf],
    facts: &Facts,
) -> Result<Resolved, ConfigError> {
    let files = EnvFiles::read(env_files, facts)?;
    let mesh = match mesh {
        Some(mesh) => mesh,
        None => mesh_of_variable(&files, facts)?,
    };
    let meshes = MESHES.map(|m| &m.profile);
    let files = files.with_own(&mesh.profile, facts)?;
    let config = Config::resolve(options.clone(), &files, &mesh.profile, &meshes, facts)?;
    let desired = mesh.ruleset(&config);
    Ok(Resolved {
        warnings: warnings::warnings(mesh, options, &files, &config, &desired),
        mesh,
        config,
        desired,
    })
}

/// The mesh that $PREPARE_PROXY_MESH names, in the environment or else in an env file; the first of
/// all meshes if it is not set.
fn mesh_of_variable(files: &EnvFiles, facts: &Facts) -> Result<&'static Mesh, ConfigError> {
    const VARIABLE: &str = "PREPARE_PROXY_MESH";
    let environment = facts.variable(VARIABLE).filter(|name| !name.is_empty());
    let (name, option) = match (environment, files.get(VARIABLE)) {
        (Some(name), _) => (name.to_string_lossy(), VARIABLE.to_owned()),
        (None, Some((name, path))) => (name.into(), format!("{VARIABLE} in {}", path.display())),
        (None, None) => return Ok(MESHES[0]),
    };
    Mesh::named(&name).ok_or_else(|| {
        let names = MESHES.map(|m| m.profile.name).join(", ");
        let problem = format!("\"{name}\" is not a mesh ({names})");
        ConfigError::BadValue { option, problem }
    })
}
