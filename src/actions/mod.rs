//! The actions: the only place where pure code meets the system.

mod apply;
mod close_wait;
mod diff;
mod dry_run;
mod explain;
mod status;
mod summary;
pub mod verify;
mod warnings;
mod watch;

pub use crate::engine::backends::Choice;
pub use crate::engine::plan::plan;
pub use crate::engine::resolve::resolve;
pub use close_wait::CloseWait;
pub use dry_run::{Format, render};
pub use explain::Question;
pub use watch::Options as WatchOptions;

use crate::engine::{
    lock::NamespaceLock, network_namespace as place, privilege::may_change_rules, user_namespace,
};
use diff::Diff;
use status as show;
use warnings as caution;

use crate::engine::error::Error;
use crate::engine::exit::Exit;
use crate::mesh::Mesh;
use crate::mesh::config::{Config, ConfigError, Host, Options, facts};
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::Ruleset;
use clap::Subcommand;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
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
    /// Print what the command line says of itself.
    #[command(skip)]
    Tell(String),
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
    /// How results are printed, if that was asked for.
    pub format: Option<Format>,
    /// Results leave nothing out.
    pub verbose: bool,
    /// A timeout of conntrack to be set with the rules.
    pub close_wait: Option<CloseWait>,
    /// Afterwards prove that the redirection holds.
    pub verify: Option<verify::Options>,
}

impl Invocation {
    /// Refuses a format that is not one of what is printed.
    fn check_format(&self) -> Result<(), ConfigError> {
        let rules = matches!(self.action, Action::Apply | Action::Check);
        let problem = match (&self.action, self.format) {
            (_, None) => return Ok(()),
            (Action::Apply | Action::Check | Action::Clean, Some(_)) if !self.dry_run => {
                "nothing is printed but by --dry-run"
            }
            (_, Some(Format::Json)) => return Ok(()),
            (_, Some(_)) if rules => return Ok(()),
            (_, Some(_)) => "only the rules of a dry run have such a format; this is text, or json",
        };
        Err(ConfigError::BadValue {
            option: "--format".to_owned(),
            problem: problem.to_owned(),
        })
    }
}

/// Does what the command line asks for. Results go to `out`, everything else to the log.
pub fn run(invocation: Invocation, host: &dyn Host, out: &mut dyn Write) -> Result<Exit, Error> {
    let start = Instant::now();
    invocation.check_format()?;
    if let Some(path) = &invocation.network_namespace {
        place::enter(path)?;
    }
    match &invocation.action {
        Action::Tell(text) => return print(out, text),
        Action::Clean => return clean(&invocation, start, host, out),
        Action::Show => return show_ours(invocation.format, host, out),
        Action::Watch(options) if !invocation.dry_run => {
            return watch::watch(&invocation, options, host);
        }
        Action::Explain(question) => return explain::explain(question, &invocation, host, out),
        _ => {}
    }
    let (mesh, config) = resolve(&invocation, host)?;
    let wanted = mesh.ruleset(&config);
    if invocation.action == Action::Diff {
        return diff(&invocation, &wanted, host, out);
    }
    warn(caution::cautions(mesh, &config, &wanted));
    match invocation.action {
        Action::Verify(ref options) => return prove(&invocation, options, &wanted, host, out),
        _ if invocation.dry_run => {
            let format = invocation.format.unwrap_or_default();
            let text = dry_run::render(&wanted, format)?;
            return print(
                out,
                &(text + &dry_run::sysctl(invocation.close_wait, format)),
            );
        }
        Action::Check => log::info!("the options are right; no rule is written"),
        _ => apply(&invocation, &config, &wanted, start, host)?,
    }
    match &invocation.verify {
        Some(options) => prove(&invocation, options, &wanted, host, out),
        None => Ok(Exit::Done),
    }
}

/// On a host that people log in to, as opposed to a pod.
fn warn_of_ssh(config: &Config, wanted: &Ruleset, host: &dyn Host) {
    if !facts::is_in_kubernetes(host) {
        warn(caution::ssh(config, wanted));
    }
}

fn warn(cautions: impl IntoIterator<Item = String>) {
    for caution in cautions {
        log::warn!("{caution}");
    }
}

fn apply(
    invocation: &Invocation,
    config: &Config,
    wanted: &Ruleset,
    start: Instant,
    host: &dyn Host,
) -> Result<(), Error> {
    place::is_for_rules(invocation.allow_host_network, host)?;
    may_change_rules(host)?;
    warn_of_ssh(config, wanted, host);
    if let Some(timeout) = invocation.close_wait {
        timeout.check()?;
    }
    let unmapped = user_namespace::explain(wanted, host);
    let done = apply::apply(NamespaceLock::take(), wanted, invocation.backend)
        .map_err(|e| with_remedy(e, &unmapped))?;
    warn(unmapped);
    let took = start.elapsed();
    log::info!("{}", summary::applied(config, wanted, &done, took));
    if done.changed() {
        announce_watch();
    }
    invocation.close_wait.map_or(Ok(()), CloseWait::set)
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
    host: &dyn Host,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    let report = verify::verify(wanted, options, host)?;
    let text = match invocation.format {
        Some(Format::Json) => json(&report),
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
fn show_ours(format: Option<Format>, host: &dyn Host, out: &mut dyn Write) -> Result<Exit, Error> {
    may_change_rules(host)?;
    let shown = show::show()?;
    let text = match format {
        Some(Format::Json) => json(&shown),
        _ => shown.to_string(),
    };
    print(out, &text)
}

/// Removes all that is ours; a dry run shows what that would be.
fn clean(
    invocation: &Invocation,
    start: Instant,
    host: &dyn Host,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    if !invocation.dry_run {
        place::is_for_rules(invocation.allow_host_network, host)?;
    }
    may_change_rules(host)?;
    if invocation.dry_run {
        let found = diff::diff(&Ruleset::default(), invocation.backend)?;
        if !found.differs {
            log::info!("nothing of a mesh is here");
        }
        return print(out, &show(&found, invocation.format));
    }
    let changed = apply::clean()?;
    log::info!("{}", summary::cleaned(changed, start.elapsed()));
    if changed {
        announce_watch();
    }
    Ok(Exit::Done)
}

fn diff(
    invocation: &Invocation,
    wanted: &Ruleset,
    host: &dyn Host,
    out: &mut dyn Write,
) -> Result<Exit, Error> {
    may_change_rules(host)?;
    let diff = diff::diff(wanted, invocation.backend)?;
    print(out, &show(&diff, invocation.format))?;
    Ok(match diff.differs {
        true => Exit::Failed,
        false => Exit::Done,
    })
}

/// A diff for a program, or else for a person.
fn show(diff: &Diff, format: Option<Format>) -> String {
    match format {
        Some(Format::Json) => json(diff),
        _ => diff.to_string(),
    }
}

/// A result as indented JSON with a newline at its end.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("keys are strings and nothing else can fail") + "\n"
}

/// Writes a result; nobody reading it any more is not our failure.
fn print(out: &mut dyn Write, text: &str) -> Result<Exit, Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(e)),
        _ => Ok(Exit::Done),
    }
}
