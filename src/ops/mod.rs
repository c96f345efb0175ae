//! The actions: the only place where pure code meets the system.

mod apply;
mod backoff;
mod choose;
mod diff;
mod dry_run;
mod explain;
mod namespace_lock;
mod plan;
mod resolve;
mod settle;
mod show;
mod summary;
mod user_namespace;
pub mod verify;
mod watch;

pub use choose::Choice;
pub use dry_run::{Format, render};
pub use explain::Question;
pub use plan::plan;
pub use resolve::resolve;

pub use watch::Options as WatchOptions;

use diff::Diff;

use crate::backend::BackendError;
use crate::config::{Config, Host, Options, facts};
use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::Mesh;
use crate::ruleset::Ruleset;
use caps::{CapSet, Capability};
use clap::Subcommand;
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to do. The doc lines are the help; options of one action alone are a struct that derives
/// [`clap::Args`], in its variant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Install the rules, or nothing if they are in place; what is done without ACTION
    #[default]
    Apply,
    /// Remove all rules of a mesh, whatever installed them
    Clean,
    /// Show what an apply would change: 0 nothing, 1 something, 2 cannot tell
    Diff,
    /// Tell what happens to one connection, rule by rule: 0 told, 2 cannot be told
    Explain(Question),
    /// Apply, then stay and put right what others change, at once; for machines that live long
    Watch(WatchOptions),
    /// Show what of a mesh is here: which rules, what each is for, what it has counted
    Show,
    /// Prove by real connections that the redirection holds: 0 it does, 126 it does not, 2 or 3 cannot tell
    Verify(verify::Options),
    /// Check the options and leave the rules as they are; only drop-ins ask for it.
    #[command(skip)]
    Check,
}

impl Action {
    /// Whether it answers a question by its exit status, where [`Exit::Failed`] would be an answer.
    pub fn asks(&self) -> bool {
        matches!(
            self,
            Action::Diff | Action::Explain(_) | Action::Show | Action::Verify(_)
        )
    }
}

/// A command line, understood but not yet resolved.
#[derive(Debug)]
pub struct Invocation {
    pub action: Action,
    /// Named, or that of the tool whose name we were called by; otherwise variables say it.
    pub mesh: Option<&'static Mesh>,
    pub backend: Choice,
    pub options: Options,
    pub env_files: Vec<PathBuf>,
    pub network_namespace: Option<PathBuf>,
    pub allow_host_network: bool,
    /// Print the rules instead of installing them.
    pub dry_run: bool,
    /// How results are printed.
    pub format: Format,
    /// Results leave nothing out.
    pub verbose: bool,
    /// Afterwards prove that the redirection holds.
    pub verify: Option<verify::Options>,
}

/// Does what the command line asks for. Results go to `out`, everything else to the log.
pub fn run(invocation: Invocation, host: &dyn Host, out: &mut dyn Write) -> Result<Exit, Error> {
    let start = Instant::now();
    if let Some(path) = &invocation.network_namespace {
        enter(path)?;
    }
    match &invocation.action {
        Action::Clean => return clean(&invocation, start, out),
        Action::Show => return show_ours(invocation.format, out),
        Action::Watch(options) if !invocation.dry_run => {
            return watch::watch(&invocation, options, host);
        }
        Action::Explain(question) => return explain::explain(question, &invocation, host, out),
        _ => {}
    }
    let (mesh, config) = resolve(&invocation, host)?;
    let wanted = mesh.ruleset(&config);
    match invocation.action {
        Action::Diff => return diff(&invocation, &wanted, out),
        Action::Verify(ref options) => return prove(&invocation, options, &wanted, out),
        _ if invocation.dry_run => {
            return print(out, &dry_run::render(&wanted, invocation.format)?);
        }
        Action::Check => log::info!("the options are right; no rule is written"),
        Action::Apply | Action::Clean | Action::Explain(_) | Action::Show | Action::Watch(_) => {
            apply(&invocation, &config, &wanted, start, host)?
        }
    }
    match &invocation.verify {
        Some(options) => prove(&invocation, options, &wanted, out),
        None => Ok(Exit::Done),
    }
}

fn apply(
    invocation: &Invocation,
    config: &Config,
    wanted: &Ruleset,
    start: Instant,
    host: &dyn Host,
) -> Result<(), Error> {
    is_a_place_for_rules(invocation.allow_host_network, host)?;
    may_change_rules()?;
    let unmapped = user_namespace::explain(wanted, host);
    let done = apply::apply(wanted, invocation.backend).map_err(|e| with_remedy(e, &unmapped))?;
    if let Some(problem) = unmapped {
        log::warn!("{problem}");
    }
    let took = start.elapsed();
    let on_a_host = !facts::is_in_kubernetes(host);
    log::info!(
        "{}",
        summary::applied(config, wanted, &done, took, on_a_host)
    );
    if done.changed() {
        announce_watch();
    }
    Ok(())
}

/// Says that what was changed here will not stay so, where a watch is at work.
fn announce_watch() {
    if let Some(watch) = watch::watch_at_work() {
        log::warn!(
            "{watch} is at work in this network namespace and puts back what its own options ask for: change those \
             and let it reload them, or end it first (systemctl stop prepare-proxy, or SIGTERM to it)"
        );
    }
}

/// Refuses the network of a Kubernetes node, unless that is what is wanted.
fn is_a_place_for_rules(allow_host_network: bool, host: &dyn Host) -> Result<(), Error> {
    match facts::is_kubernetes_node(host) && !allow_host_network {
        true => Err(Error::HostNetwork),
        false => Ok(()),
    }
}

/// Adds to a refusal what the kernel does not say.
fn with_remedy(error: Error, unmapped: &Option<String>) -> Error {
    match (error, unmapped) {
        (error @ Error::Backend(BackendError::Refused { .. }), Some(remedy)) => Error::Explained {
            source: Box::new(error),
            remedy: remedy.clone(),
        },
        (error, _) => error,
    }
}

/// Proves what is wanted by real connections; the report is the result.
fn prove(
    invocation: &Invocation,
    options: &verify::Options,
    wanted: &Ruleset,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    let report = verify::verify(wanted, options)?;
    let text = match invocation.format {
        Format::Json => json(&report),
        _ => report.to_string(),
    };
    print(out, &text)?;
    match report.exit() {
        Exit::Done => log::info!("{}", report.summary()),
        _ => log::error!("{}", report.summary()),
    }
    Ok(report.exit())
}

/// Shows all that is ours.
fn show_ours(format: Format, out: &mut dyn Write) -> Result<Exit, Error> {
    may_change_rules()?;
    let shown = show::show()?;
    let text = match format {
        Format::Json => json(&shown),
        _ => shown.to_string(),
    };
    print(out, &text)
}

/// Removes all that is ours; a dry run shows what that would be.
fn clean(invocation: &Invocation, start: Instant, out: &mut dyn Write) -> Result<Exit, Error> {
    may_change_rules()?;
    if invocation.dry_run {
        let found = diff::diff(&Ruleset::default(), invocation.backend)?;
        return print(out, &show(&found, invocation.format));
    }
    let changed = apply::clean()?;
    log::info!("{}", summary::cleaned(changed, start.elapsed()));
    if changed {
        announce_watch();
    }
    Ok(Exit::Done)
}

fn diff(invocation: &Invocation, wanted: &Ruleset, out: &mut dyn Write) -> Result<Exit, Error> {
    may_change_rules()?;
    let diff = diff::diff(wanted, invocation.backend)?;
    print(out, &show(&diff, invocation.format))?;
    Ok(match diff.differs {
        true => Exit::Failed,
        false => Exit::Done,
    })
}

/// A diff for a program, or else for a person.
fn show(diff: &Diff, format: Format) -> String {
    match format {
        Format::Json => json(diff),
        _ => diff.to_string(),
    }
}

/// A result as indented JSON with a newline at its end.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("keys are strings and nothing else can fail") + "\n"
}

/// Moves this process into another network namespace; the process has one thread.
#[expect(clippy::disallowed_types, reason = "held, not read")]
fn enter(path: &Path) -> Result<(), Error> {
    let error = |source| Error::Namespace {
        path: path.to_owned(),
        source,
    };
    let io = |e: std::io::Error| error(nix::Error::from_raw(e.raw_os_error().unwrap_or(0)));
    let file = std::fs::File::open(path).map_err(io)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::io;

    /// A host of which only two things are known.
    struct Place {
        first_namespace: bool,
        kubernetes: bool,
    }

    impl Host for Place {
        fn env(&self, name: &str) -> Option<OsString> {
            (self.kubernetes && name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".into())
        }

        fn file(&self, path: &Path) -> io::Result<String> {
            let known = path.ends_with("netdev_max_backlog") && self.first_namespace;
            known
                .then(String::new)
                .ok_or(io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn only_the_network_of_a_node_is_refused_and_only_unless_allowed() {
        for (first_namespace, kubernetes, allow, refused) in [
            (true, true, false, true),
            (true, true, true, false),
            (true, false, false, false),
            (false, true, false, false),
            (false, false, false, false),
        ] {
            let place = Place {
                first_namespace,
                kubernetes,
            };
            let result = is_a_place_for_rules(allow, &place);
            assert_eq!(matches!(result, Err(Error::HostNetwork)), refused);
        }
    }
}
