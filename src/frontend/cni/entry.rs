//! The plugin's entry in the list of plugins, as the runtime passes it on.

use super::VERSIONS;
use super::failure::{Code, Failure};
use crate::engine::backends::BackendChoice;
use crate::engine::error::Error;
use crate::frontend::output::errors;
use crate::mesh::annotations::Pod;
use crate::mesh::compat::Means;
use crate::mesh::config::{Given, Ipv6, Opt, Options, Origin, SPECS};
use crate::mesh::{self, MESHES, Mesh};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The capability by which a runtime hands over the annotations of a pod.
pub(super) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Keys of the specification that are nothing to this plugin.
const IGNORED: [&str; 7] = [
    "type",
    "capabilities",
    "args",
    "ipMasq",
    "ipam",
    "dns",
    "disableCheck",
];

type Keys = BTreeMap<String, Box<RawValue>>;

/// An entry, understood.
pub(super) struct Entry {
    pub version: &'static str,
    pub meshes: Vec<&'static Mesh>,
    pub exclude_namespaces: Vec<String>,
    defaults: Defaults,
    /// Weaker than annotations, stronger than the defaults.
    namespaces: BTreeMap<String, Defaults>,
    pub backend: BackendChoice,
    pub log: Log,
    pub runtime: Runtime,
    /// What the plugin before this one said, as it said it.
    pub previous: Option<Box<RawValue>>,
}

/// Options under any of their long names.
type Defaults = BTreeMap<String, Scalar>;

/// Where messages go.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Log {
    /// systemd's journal, or standard error where there is none.
    #[default]
    Journal,
    Stderr,
}

/// What the runtime says of the pod.
#[derive(Default)]
pub(super) struct Runtime {
    /// `None` where the runtime knows no such capability; a pod without annotations has none.
    pub annotations: Option<Pod>,
    /// None where the runtime does not say.
    pub nameservers: Vec<IpAddr>,
}

/// One or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// A value of an option, quoted or not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(u64),
    Switch(bool),
}

/// containerd writes it with a capital letter, the conventions of CNI say a small one.
#[derive(Deserialize)]
struct Dns {
    #[serde(alias = "Servers", default)]
    servers: Option<Vec<String>>,
}

impl Entry {
    /// Reads an entry in all its keys.
    ///
    /// # Errors
    /// Whatever is wrong with it, also a key that means nothing.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let mut keys = keys(text)?;
        let version = version(&mut keys)?;
        Self::of(keys, version).map_err(|failure| failure.in_version(version))
    }

    fn of(mut keys: Keys, version: &'static str) -> Result<Self, Failure> {
        let name: String = take(&mut keys, "name")?.unwrap_or_default();
        if name.is_empty() {
            return Err(bad("name", "a network has a name"));
        }
        let entry = Entry {
            version,
            meshes: meshes(take(&mut keys, "mesh")?)?,
            exclude_namespaces: take(&mut keys, "excludeNamespaces")?.unwrap_or_default(),
            defaults: take(&mut keys, "defaults")?.unwrap_or_default(),
            namespaces: take(&mut keys, "namespaces")?.unwrap_or_default(),
            backend: backend(take(&mut keys, "backend")?)?,
            log: take(&mut keys, "log")?.unwrap_or_default(),
            runtime: runtime(take(&mut keys, "runtimeConfig")?.unwrap_or_default())?,
            previous: keys.remove("prevResult"),
        };
        let known = |key: &&String| key.starts_with("cni.dev/") || IGNORED.contains(&key.as_str());
        match keys.keys().find(|key| !known(key)) {
            Some(key) => Err(bad(key, "there is no such key")),
            None => Ok(entry),
        }
    }

    /// What the entry says for the pods of a namespace that are of `mesh`. Options that only another
    /// of its meshes has are for that one.
    pub(super) fn options(&self, namespace: &str, mesh: &Mesh) -> Result<Options, Failure> {
        let mut options = Options::default();
        let own = self.namespaces.get(namespace);
        let own = own.map(|own| (format!("namespaces.{namespace}"), own));
        let layers = own
            .into_iter()
            .chain([("defaults".to_owned(), &self.defaults)]);
        for (key, layer) in layers {
            for (name, value) in layer {
                let key = format!("{key}.{name}");
                let opt = option_named(name).ok_or_else(|| bad(&key, "there is no such option"))?;
                let has = |mesh: &Mesh| mesh.profile.default_of(opt).is_some();
                if has(mesh) || !self.meshes.iter().any(|mesh| has(mesh)) {
                    options.offer(Given {
                        opt,
                        value: value.to_string(),
                        origin: Origin::Entry(key),
                    });
                }
            }
        }
        Ok(options)
    }

    /// Whether the plugin could give pods of every namespace their rules, as far as the entry decides.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let namespaces = self.namespaces.keys().map(String::as_str);
        for namespace in namespaces.chain([""]) {
            for mesh in &self.meshes {
                let options = self.options(namespace, mesh)?;
                let mut facts = super::pod_facts(&[]);
                facts.ipv6 = Some(Ipv6 {
                    enabled: true,
                    ..Ipv6::default()
                });
                mesh::resolve(Some(mesh), &options, &[], &facts).map_err(|e| {
                    Failure::new(Code::Configuration, errors::words(&Error::Config(e)))
                })?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(text),
            Scalar::Number(number) => number.fmt(f),
            Scalar::Switch(on) => on.fmt(f),
        }
    }
}

/// The version that an input asks for, as far as that can be determined.
pub(super) fn version_of(text: &str) -> Result<&'static str, Failure> {
    version(&mut keys(text)?)
}

fn keys(text: &str) -> Result<Keys, Failure> {
    serde_json::from_str(text).map_err(|e| {
        Failure::new(
            Code::Json,
            format!("standard input is not a JSON object: {e}"),
        )
    })
}

fn version(keys: &mut Keys) -> Result<&'static str, Failure> {
    let asked: String = take(keys, "cniVersion")?.unwrap_or_default();
    let known = VERSIONS.into_iter().find(|version| *version == asked);
    known.ok_or_else(|| {
        let msg = format!(
            "cniVersion: {asked:?} is not one of {}",
            VERSIONS.join(", ")
        );
        Failure::new(Code::Version, msg)
    })
}

/// The value of a key; null is no value.
fn take<T: DeserializeOwned>(keys: &mut Keys, key: &str) -> Result<Option<T>, Failure> {
    let Some(raw) = keys.remove(key) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map_err(|e| bad(key, e))
}

fn bad(key: &str, problem: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Configuration, format!("{key}: {problem}"))
}

/// The option that has this long name, this program's or that of a tool replaced.
fn option_named(name: &str) -> Option<Opt> {
    let found = SPECS
        .iter()
        .find(|s| s.long == name || s.alias == Some(name));
    let lines = MESHES.iter().filter_map(|mesh| mesh.command_line);
    let mut flags = lines.flat_map(|line| line.flags);
    found
        .map(|spec| spec.opt)
        .or_else(|| match flags.find(|flag| flag.name == name)?.means {
            Means::Option(opt) => Some(opt),
            _ => None,
        })
}

/// Those whose injectors write annotations.
fn meshes(names: Option<Names>) -> Result<Vec<&'static Mesh>, Failure> {
    let names = match names {
        Some(Names::One(name)) => vec![name],
        Some(Names::Several(names)) => names,
        None => Vec::new(),
    };
    let known = || MESHES.into_iter().filter(|mesh| mesh.annotations.is_some());
    let allowed = known()
        .map(|mesh| mesh.profile.name)
        .collect::<Vec<_>>()
        .join(", ");
    let find = |name: &String| {
        let mesh = known().find(|mesh| mesh.profile.name == name);
        mesh.ok_or_else(|| bad("mesh", format!("{name:?} is not one of {allowed}")))
    };
    match names.is_empty() {
        true => Err(bad(
            "mesh",
            format!("must name one or several of {allowed}"),
        )),
        false => names.iter().map(find).collect(),
    }
}

fn backend(name: Option<String>) -> Result<BackendChoice, Failure> {
    let name = name.unwrap_or_else(|| "auto".to_owned());
    BackendChoice::named(&name).ok_or_else(|| bad("backend", format!("{name:?} is not a backend")))
}

fn runtime(mut keys: Keys) -> Result<Runtime, Failure> {
    let has_annotations = keys.contains_key(ANNOTATIONS);
    let annotations: Option<Pod> = take(&mut keys, ANNOTATIONS)?;
    let dns: Option<Dns> = take(&mut keys, "dns")?;
    Ok(Runtime {
        annotations: has_annotations.then(|| annotations.unwrap_or_default()),
        nameservers: addresses(&dns.and_then(|dns| dns.servers).unwrap_or_default()),
    })
}

fn addresses(servers: &[String]) -> Vec<IpAddr> {
    let address = |server: &String| {
        let parsed = server.parse();
        parsed
            .inspect_err(|_| log::warn!("nameserver {server:?} is not an address"))
            .ok()
    };
    servers.iter().filter_map(address).collect()
}
