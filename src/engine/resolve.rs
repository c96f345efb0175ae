//! From a command line to what decides on rules: the mesh, and its configuration.

use crate::actions::Invocation;
use crate::engine::error::Error;
use crate::mesh::config::{Config, ConfigError, EnvFiles, Host};
use crate::mesh::{MESHES, Mesh};

/// Reads the env files, then the environment and what the host says. Bad input is
/// [`Error::Config`].
pub fn resolve(invocation: &Invocation, host: &dyn Host) -> Result<(&'static Mesh, Config), Error> {
    let files = EnvFiles::read(&invocation.env_files, host)?;
    let mesh = match invocation.mesh {
        Some(mesh) => mesh,
        None => mesh_of_variable(&files, host)?,
    };
    let meshes = MESHES.map(|m| &m.profile);
    let options = invocation.options.clone();
    let config = Config::resolve(options, files, &mesh.profile, &meshes, host)?;
    Ok((mesh, config))
}

/// The mesh that $PREPARE_PROXY_MESH names, in the environment or else in an env file; the first of
/// all meshes if it is not set.
fn mesh_of_variable(files: &EnvFiles, host: &dyn Host) -> Result<&'static Mesh, ConfigError> {
    const VARIABLE: &str = "PREPARE_PROXY_MESH";
    let from_environment = host.env(VARIABLE).filter(|name| !name.is_empty());
    let (name, option) = match (&from_environment, files.get(VARIABLE)) {
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
