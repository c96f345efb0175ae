//! The actions: the only place where pure code meets the system.

mod apply;
mod choose;
mod dry_run;
mod plan;
mod summary;

pub use choose::Choice;
pub use dry_run::Format;
pub use plan::plan;

use crate::config::{Config, Host, Options, facts};
use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{MESHES, Mesh};
use caps::{CapSet, Capability};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Apply,
}

/// A command line, understood but not yet resolved.
#[derive(Debug)]
pub struct Invocation {
    pub action: Action,
    pub mesh: &'static Mesh,
    pub backend: Choice,
    pub options: Options,
    pub env_files: Vec<PathBuf>,
    pub network_namespace: Option<PathBuf>,
    pub allow_host_network: bool,
    /// `Some` prints the rules instead of installing them.
    pub dry_run: Option<Format>,
}

/// Does what the command line asks for. Results go to `out`, everything else to the log.
pub fn run(invocation: Invocation, host: &dyn Host, out: &mut dyn Write) -> Result<Exit, Error> {
    let start = Instant::now();
    if let Some(path) = &invocation.network_namespace {
        enter(path)?;
    }
    let config = resolve(&invocation, host)?;
    let wanted = (invocation.mesh.ruleset)(&config);
    match invocation.action {
        _ if invocation.dry_run.is_some() => {
            let format = invocation.dry_run.unwrap_or_default();
            print(out, &dry_run::render(&wanted, format))
        }
        Action::Apply => {
            may_change_rules()?;
            if !invocation.allow_host_network && facts::is_kubernetes_node(host) {
                return Err(Error::HostNetwork);
            }
            let done = apply::apply(&wanted, invocation.backend)?;
            log::info!(
                "{}",
                summary::applied(&config, &wanted, &done, start.elapsed())
            );
            Ok(Exit::Done)
        }
    }
}

fn resolve(invocation: &Invocation, host: &dyn Host) -> Result<Config, Error> {
    let meshes = MESHES.map(|m| &m.profile);
    let config = Config::resolve(
        invocation.options.clone(),
        &invocation.env_files,
        &invocation.mesh.profile,
        &meshes,
        host,
    )?;
    Ok(config)
}

/// Moves this process into another network namespace; the process has one thread.
fn enter(path: &Path) -> Result<(), Error> {
    let error = |source| Error::Namespace {
        path: path.to_owned(),
        source,
    };
    let io = |e: std::io::Error| error(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
    let file = File::open(path).map_err(io)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(error)
}

/// Asks before the kernel does, whose EPERM would not say which capability is missing.
fn may_change_rules() -> Result<(), Error> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(false) => Err(Error::NoNetAdmin),
        // Where capabilities cannot be asked for, the kernel will say.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Writes a result; nobody reading it any more is not our failure.
fn print(out: &mut dyn Write, text: &str) -> Result<Exit, Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(e)),
        _ => Ok(Exit::Done),
    }
}
