//! What each command does.

use super::call::{Container, Verb};
use super::entry::{ANNOTATIONS, Entry, version_of};
use super::failure::{Code, Failure};
use super::pod::PodHost;
use super::{VERSIONS, journal};
use crate::actions::{self, Action, Invocation};
use crate::engine::error::Error;
use crate::engine::exit::Exit;
use crate::engine::network_namespace;
use crate::mesh::Mesh;
use crate::mesh::config::{Given, Host, Opt, Options, Origin};
use serde_json::json;

/// Does what the environment asks for; the answer is what standard output is given.
pub(super) fn run(input: Result<String, Failure>, host: &dyn Host) -> Result<String, Failure> {
    let verb = Verb::of(host)?;
    match verb {
        // With an error here the runtime would not tell the other plugins, which would keep the
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
    let answer = match at(verb.since()) <= at(version) {
        false => {
            let msg = format!(
                "CNI_COMMAND: the first version that has it is {}, and this is {version}",
                verb.since()
            );
            Err(Failure::new(Code::Version, msg))
        }
        true => match verb {
            Verb::Add => add(&entry, host),
            Verb::Check => check(&entry, host),
            Verb::Status => status(&entry),
            Verb::Del | Verb::Gc | Verb::Version => Ok(String::new()),
        },
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

/// Whether one of the backends can work on this node. The runtime takes no pods at all otherwise.
fn status(entry: &Entry) -> Result<String, Failure> {
    let candidates = entry.backend.candidates().map_err(Error::from);
    let opened = candidates.and_then(|candidates| {
        let mut refusal = Error::NoBackend;
        for candidate in candidates {
            match (candidate.open)().and_then(|mut backend| backend.read()) {
                Ok(_) => return Ok(()),
                Err(e) => refusal = e.into(),
            }
        }
        Err(refusal)
    });
    match opened {
        Ok(()) => Ok(String::new()),
        Err(e) => Err(Failure::new(Code::Unavailable, e.to_string())),
    }
}

fn add(entry: &Entry, host: &dyn Host) -> Result<String, Failure> {
    if let Some(job) = Job::find(entry, host)? {
        job.run(Action::Apply, host)?;
    }
    Ok(match &entry.previous {
        Some(previous) => previous.get().to_owned() + "\n",
        None => json!({"cniVersion": entry.version}).to_string() + "\n",
    })
}

fn check(entry: &Entry, host: &dyn Host) -> Result<String, Failure> {
    if let Some(job) = Job::find(entry, host)? {
        let (exit, difference) = job.run(Action::Diff, host)?;
        if exit != Exit::Done {
            let first = difference
                .lines()
                .map(str::trim)
                .find(|line| line.starts_with(['+', '-']));
            let first = first.or(difference.lines().next()).unwrap_or_default();
            return Err(job.failure(Code::Differs, format!("the rules differ: {first}")));
        }
    }
    Ok(String::new())
}

/// A pod whose traffic is to be redirected.
struct Job<'a> {
    entry: &'a Entry,
    mesh: &'static Mesh,
    container: Container,
    /// What the entry says by itself.
    configured: Options,
    options: Options,
    /// `NAMESPACE/NAME`
    pod: String,
}

impl<'a> Job<'a> {
    /// The pod that the call is about, if it is one of a mesh.
    fn find(entry: &'a Entry, host: &dyn Host) -> Result<Option<Self>, Failure> {
        let container = Container::of(host)?;
        let Some((namespace, name)) = &container.pod else {
            return Ok(None);
        };
        if entry.exclude_namespaces.contains(namespace) {
            return Ok(None);
        }
        let pod = format!("{namespace}/{name}");
        let about = |code, e: &dyn std::fmt::Display| Failure::new(code, format!("pod {pod}: {e}"));
        journal::start(entry.log, format!("pod {pod}"));
        let Some(annotations) = &entry.runtime.annotations else {
            let problem = format!(
                "the runtime handed over no annotations, so that it cannot be told whether the pod is of a mesh: the \
                 entry must declare the capability {ANNOTATIONS}, and the runtime know it (containerd 1.5, CRI-O 1.29)"
            );
            return Err(about(Code::Configuration, &problem));
        };
        let configured = entry.options(namespace)?;
        for mesh in &entry.meshes {
            let Some(known) = mesh.annotations else {
                continue;
            };
            if (known.claims)(annotations).map_err(|e| about(Code::Annotation, &e))? {
                let options = known.options(annotations, &configured);
                return Ok(Some(Job {
                    entry,
                    mesh,
                    options: options.map_err(|e| about(Code::Annotation, &e))?,
                    configured,
                    pod,
                    container,
                }));
            }
        }
        Ok(None)
    }

    /// Acts in the pod's network namespace. What the action prints comes back.
    fn run(&self, action: Action, host: &dyn Host) -> Result<(Exit, String), Failure> {
        let path = &self.container.network_namespace;
        if network_namespace::is_own(path) {
            let problem = format!("CNI_NETNS: {} is the network of the node", path.display());
            return Err(self.failure(Code::Namespace, problem));
        }
        let nameservers = self
            .entry
            .runtime
            .nameservers
            .as_deref()
            .unwrap_or_default();
        let pod = PodHost {
            kernel: host,
            nameservers,
        };
        let mut printed = Vec::new();
        let invocation = self.invocation(action, self.options_with_dns());
        let done = actions::run(invocation, &pod, &mut printed);
        let exit = done.map_err(|e| self.failure(self.code_of(&e, &pod), e))?;
        Ok((exit, String::from_utf8_lossy(&printed).into_owned()))
    }

    fn invocation(&self, action: Action, options: Options) -> Invocation {
        Invocation {
            action,
            mesh: Some(self.mesh),
            backend: self.entry.backend,
            options,
            env_files: Vec::new(),
            network_namespace: Some(self.container.network_namespace.clone()),
            allow_host_network: false,
            dry_run: false,
            format: None,
            verbose: false,
            close_wait: None,
            verify: None,
        }
    }

    /// All DNS is redirected where the runtime does not name the pod's nameservers.
    fn options_with_dns(&self) -> Options {
        let mut options = self.options.clone();
        let unknown = self
            .entry
            .runtime
            .nameservers
            .as_ref()
            .is_none_or(Vec::is_empty);
        if unknown && self.mesh.profile.default_of(Opt::CaptureAllDns).is_some() {
            options.offer(Given {
                opt: Opt::CaptureAllDns,
                value: "true".to_owned(),
                origin: Origin::Default,
            });
        }
        options
    }

    fn code_of(&self, error: &Error, pod: &PodHost<'_>) -> Code {
        match error {
            Error::Namespace { .. } | Error::NoNamespace { .. } | Error::HostNetwork => {
                Code::Namespace
            }
            Error::Config(_) => match self.is_configured_well(pod) {
                true => Code::Annotation,
                false => Code::Configuration,
            },
            _ => Code::Kernel,
        }
    }

    /// Whether the entry alone would do.
    fn is_configured_well(&self, pod: &PodHost<'_>) -> bool {
        let alone = self.invocation(Action::Apply, self.configured.clone());
        actions::resolve(&alone, pod).is_ok()
    }

    fn failure(&self, code: Code, problem: impl std::fmt::Display) -> Failure {
        Failure::new(code, format!("pod {}: {problem}", self.pod))
    }
}
