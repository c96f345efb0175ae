//! Errors as the specification has them: JSON on standard output.

use crate::frontend::output::log::plain;
use serde::Serialize;

/// What kind of error it is, in numbers of the specification; those from 100 on are the plugin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Version = 1,
    Environment = 4,
    Io = 5,
    Json = 6,
    Configuration = 7,
    Namespace = 8,
    Unavailable = 50,
    Annotation = 100,
    Differs = 101,
    Kernel = 102,
}

impl Code {
    /// What to do.
    fn remedy(self) -> &'static str {
        match self {
            Code::Version => "set cniVersion in the list of plugins to one of these",
            Code::Environment | Code::Io | Code::Json | Code::Namespace => {
                "this is between the container runtime and its plugins: see the runtime's log"
            }
            Code::Configuration => "correct the entry of prepare-proxy in the list of plugins",
            Code::Unavailable => "load nf_tables, or install iptables-legacy, on this node",
            Code::Annotation => {
                "correct the annotation in the pod or in what makes it (its template, the injector)"
            }
            Code::Differs => "delete the pod; its successor is given its rules",
            Code::Kernel => "prepare-proxy's log on this node says more",
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: Code,
    /// One line: what failed, on what, and what is allowed.
    pub msg: String,
    /// `NAMESPACE/NAME`, where the call is about a pod.
    pod: Option<String>,
    /// The version of the answer.
    version: &'static str,
}

impl Failure {
    pub(super) fn new(code: Code, msg: String) -> Self {
        let msg = one_line(&msg);
        let version = super::VERSIONS[super::VERSIONS.len() - 1];
        Failure {
            code,
            msg,
            pod: None,
            version,
        }
    }

    /// The same of this pod.
    pub(super) fn of_pod(self, pod: &str) -> Self {
        Failure {
            pod: Some(one_line(pod)),
            ..self
        }
    }

    /// The same in the version that was asked for.
    pub(super) fn in_version(self, version: &'static str) -> Self {
        Failure { version, ..self }
    }

    pub(super) fn to_json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            cni_version: &'a str,
            code: u32,
            msg: String,
            details: &'a str,
        }
        let answer = Answer {
            cni_version: self.version,
            code: self.code as u32,
            msg: match &self.pod {
                Some(pod) => format!("pod {pod}: {}", self.msg),
                None => self.msg.clone(),
            },
            details: self.code.remedy(),
        };
        serde_json::to_string(&answer).expect("a struct of texts is JSON") + "\n"
    }
}

/// It is shown in the pod's events.
fn one_line(text: &str) -> String {
    plain(text).replace('\n', " ")
}
