//! What each command does.

use super::call::{Container, Verb};
use super::entry::{ANNOTATIONS, Entry, version_of};
use super::failure::{Code, Failure};
use super::{VERSIONS, journal, pod_facts};
use crate::actions::diff::{Diff, LineAction};
use crate::actions::{self, Action, Report, apply, diff};
use crate::engine::backends::Backends;
use crate::engine::error::Error;
use crate::engine::network_namespace;
use crate::engine::request::Request;
use crate::frontend::output::{self, errors};
use crate::mesh::Mesh;
use crate::mesh::config::{Environment, Given, Opt, Options, Origin};
use serde_json::json;
use std::fmt::Display;
use std::path::PathBuf;

/// Does what the environment asks for; the answer is what standard output is given.
pub(super) fn run(
    input: Result<String, Failure>,
    environment: &Environment,
) -> Result<String, Failure> {
    let verb = Verb::of(environment)?;
    match verb {
        // With an error here the runtime would not go on to the other plugins, which would keep the
        // pod's address for ever.
        Verb::Del => return Ok(String::new()),
        Verb::Version => return Ok(versions(input.and_then(|text| version_of(&text)).ok())),
        _ => {}
    }
    let entry = match (verb, input.and_then(|text| Entry::read(&text))) {
        (Verb::Gc, Err(failure)) if failure.code != Code::Version => return Ok(String::new()),
        (_, entry) => entry?,
    };
    let version = entry.version;
    let since = verb.since();
    let answer = match verb {
        _ if at(version) < at(since) => {
            let msg = format!(
                "CNI_COMMAND: cniVersion {version} has no such command; {since} is the first that has"
            );
            Err(Failure::new(Code::Version, msg))
        }
        Verb::Add => add(&entry, environment),
        Verb::Check => check(&entry, environment),
        Verb::Status => status(&entry),
        Verb::Del | Verb::Gc | Verb::Version => Ok(String::new()),
    };
    answer.map_err(|failure| failure.in_version(version))
}

/// Where a version stands among all.
fn at(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|v| *v == version)
}

fn versions(asked: Option<&str>) -> String {
    let version = asked.unwrap_or(VERSIONS[VERSIONS.len() - 1]);
    let answer = json!({"cniVersion": version, "supportedVersions": VERSIONS});
    answer.to_string() + "\n"
}

/// Whether one of the backends can work on this node; if not, the node takes no pods.
fn status(entry: &Entry) -> Result<String, Failure> {
    let mut refusal = Error::NoBackend;
    let mut backends = Backends::default();
    let candidates = entry.backend.candidates(&mut backends).unwrap_or_default();
    for candidate in candidates {
        match backends
            .open(candidate.kind)
            .and_then(|mut backend| backend.read())
        {
            Ok(_) => return Ok(String::new()),
            Err(e) => refusal = e.into(),
        }
    }
    Err(Failure::new(Code::Unavailable, errors::words(&refusal)))
}

fn add(entry: &Entry, environment: &Environment) -> Result<String, Failure> {
    if let Some(job) = Job::find(entry, environment)? {
        job.run(&Action::Apply(apply::Options::default()))?;
    }
    Ok(match &entry.previous {
        Some(previous) => previous.get().to_owned() + "\n",
        None => json!({"cniVersion": entry.version}).to_string() + "\n",
    })
}

fn check(entry: &Entry, environment: &Environment) -> Result<String, Failure> {
    if let Some(job) = Job::find(entry, environment)?
        && let Report::Diff(diff) = job.run(&Action::Diff(diff::Options::default()))?
        && diff.differs
    {
        let problem = format!(
            "the rules are not those of the pod's annotations: {}",
            first(&diff)
        );
        return Err(job.failure(Code::Differs, problem));
    }
    Ok(String::new())
}

/// The first difference.
fn first(diff: &Diff) -> String {
    let in_chains = diff.chains.iter().flat_map(|chain| {
        let place = format!("{} {} {}: ", chain.family, chain.table, chain.chain);
        chain.rules.iter().map(move |line| (place.clone(), line))
    });
    let all = in_chains.chain(diff.routing.iter().map(|line| (String::new(), line)));
    let mut changes = all.filter_map(|(place, line)| match line.action {
        LineAction::Keep => None,
        LineAction::Remove => Some(format!("{place}surplus {}", line.rule)),
        LineAction::Add => Some(format!("{place}missing {}", line.rule)),
    });
    changes.next().unwrap_or_default()
}

/// A pod whose traffic is to be redirected.
struct Job<'a> {
    entry: &'a Entry,
    mesh: &'static Mesh,
    network_namespace: PathBuf,
    /// What the entry says by itself.
    configured: Options,
    options: Options,
    /// `NAMESPACE/NAME`
    pod: String,
}

impl<'a> Job<'a> {
    /// The pod that the call is about, if it is one of a mesh.
    fn find(entry: &'a Entry, environment: &Environment) -> Result<Option<Self>, Failure> {
        let container = Container::of(environment)?;
        let Some((namespace, name)) = container.pod else {
            return Ok(None);
        };
        if entry.exclude_namespaces.contains(&namespace) {
            return Ok(None);
        }
        let pod = format!("{namespace}/{name}");
        journal::start(entry.log, format!("pod {pod}"));
        let Some(annotations) = &entry.runtime.annotations else {
            let problem = format!(
                "the runtime passed on no annotations, so whether the pod is in a mesh cannot be determined: the entry \
                 must declare the capability {ANNOTATIONS}, and the runtime support it (containerd 1.5, CRI-O 1.29)"
            );
            return Err(failure(&pod, Code::Configuration, problem));
        };
        let bad = |e| failure(&pod, Code::Annotation, errors::words(&Error::Config(e)));
        for mesh in &entry.meshes {
            let Some(known) = mesh.annotations else {
                continue;
            };
            if (known.claims)(annotations).map_err(bad)? {
                let configured = entry.options(&namespace, mesh)?;
                return Ok(Some(Job {
                    entry,
                    mesh,
                    options: known.options(annotations, &configured).map_err(bad)?,
                    configured,
                    network_namespace: container.network_namespace,
                    pod,
                }));
            }
        }
        Ok(None)
    }

    /// Acts in the pod's network namespace.
    fn run(&self, action: &Action) -> Result<Report, Failure> {
        if network_namespace::is_own(&self.network_namespace) {
            let path = self.network_namespace.display();
            let problem =
                format!("CNI_NETNS: {path} is the network namespace of the runtime itself");
            return Err(self.failure(Code::Namespace, problem));
        }
        let request = self.request(self.options_with_dns());
        let report = actions::run(action, &request, &mut |event| output::log_event(&event));
        let report = report.map_err(|e| self.failure(self.code_of(&e), errors::words(&e)))?;
        output::log_report(&report);
        Ok(report)
    }

    fn request(&self, options: Options) -> Request {
        Request {
            mesh: Some(self.mesh),
            options,
            backend: self.entry.backend,
            network_namespace: Some(self.network_namespace.clone()),
            facts: pod_facts(&self.entry.runtime.nameservers),
            ..Request::default()
        }
    }

    /// All DNS is redirected where the runtime does not name the pod's nameservers.
    fn options_with_dns(&self) -> Options {
        let mut options = self.options.clone();
        let has = self.mesh.profile.default_of(Opt::CaptureAllDns).is_some();
        if has && self.entry.runtime.nameservers.is_empty() {
            options.offer(Given {
                opt: Opt::CaptureAllDns,
                value: "true".to_owned(),
                origin: Origin::Default,
            });
        }
        options
    }

    fn code_of(&self, error: &Error) -> Code {
        match error.root() {
            Error::Namespace { .. } | Error::NotANamespace { .. } | Error::HostNetwork => {
                Code::Namespace
            }
            // The entry is to blame for what it refuses without any annotation.
            Error::Config(_) => {
                let request = self.request(self.configured.clone());
                match actions::run(&Action::Check, &request, &mut |_| ()) {
                    Ok(_) => Code::Annotation,
                    Err(_) => Code::Configuration,
                }
            }
            _ => Code::Kernel,
        }
    }

    fn failure(&self, code: Code, problem: impl Display) -> Failure {
        failure(&self.pod, code, problem)
    }
}

fn failure(pod: &str, code: Code, problem: impl Display) -> Failure {
    Failure::new(code, problem.to_string()).of_pod(pod)
}
