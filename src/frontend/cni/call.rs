//! The environment of a call.

use super::failure::{Code, Failure};
use crate::mesh::config::Environment;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What a runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub(super) fn of(environment: &Environment) -> Result<Self, Failure> {
        let command = required(environment, "CNI_COMMAND")?;
        Ok(match command.as_str() {
            "ADD" => Verb::Add,
            "CHECK" => Verb::Check,
            "DEL" => Verb::Del,
            "GC" => Verb::Gc,
            "STATUS" => Verb::Status,
            "VERSION" => Verb::Version,
            _ => {
                let allowed = "ADD, CHECK, DEL, GC, STATUS or VERSION";
                let msg = format!("CNI_COMMAND: {command:?} is not {allowed}");
                return Err(Failure::new(Code::Environment, msg));
            }
        })
    }

    /// The first version of the specification that has it.
    pub(super) fn since(self) -> &'static str {
        match self {
            Verb::Check => "0.4.0",
            Verb::Gc | Verb::Status => "1.1.0",
            Verb::Add | Verb::Del | Verb::Version => "0.3.0",
        }
    }
}

/// The container that is added or checked.
pub(super) struct Container {
    pub network_namespace: PathBuf,
    /// Namespace and name of its pod, where it is one.
    pub pod: Option<(String, String)>,
}

impl Container {
    pub(super) fn of(environment: &Environment) -> Result<Self, Failure> {
        for name in ["CNI_CONTAINERID", "CNI_IFNAME"] {
            required(environment, name)?;
        }
        let network_namespace = required(environment, "CNI_NETNS")?.into();
        let args = text(environment, "CNI_ARGS")?.unwrap_or_default();
        let arg = |name: &str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(n, _)| *n == name)?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        let namespace = arg("K8S_POD_NAMESPACE").unwrap_or_default();
        Ok(Container {
            network_namespace,
            pod: arg("K8S_POD_NAME").map(|name| (namespace, name)),
        })
    }
}

fn required(environment: &Environment, name: &str) -> Result<String, Failure> {
    text(environment, name)?
        .ok_or_else(|| Failure::new(Code::Environment, format!("{name} is not set")))
}

/// A variable; an empty one counts as unset.
fn text(environment: &Environment, name: &str) -> Result<Option<String>, Failure> {
    let value = environment.get(OsStr::new(name)).cloned();
    let value = value.map(OsString::into_string).transpose();
    let no_text = |_| Failure::new(Code::Environment, format!("{name} is not UTF-8"));
    Ok(value.map_err(no_text)?.filter(|value| !value.is_empty()))
}
