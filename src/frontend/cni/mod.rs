//! The CNI plugin: a container runtime calls this program, under whatever name, with `CNI_COMMAND`
//! in its environment, the plugin's configuration on standard input, and takes JSON from standard
//! output. See docs/cni.md, and the CNI specification for everything else.
//!
//! | file | has |
//! |---|---|
//! | `call` | the environment of a call |
//! | `entry` | the plugin's entry in the list of plugins, as the runtime passes it on |
//! | `failure` | errors, as the specification has them |
//! | `verbs` | what each command does |
//! | `journal` | where the log goes |
//! | `install/` | the installer |

mod call;
mod entry;
mod failure;
pub mod install;
mod journal;
mod verbs;

use super::Exit;
use crate::mesh::MESHES;
use crate::mesh::config::{Environment, Facts, facts, resolv_conf};
use failure::{Code, Failure};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::IpAddr;

/// The versions of the specification that are spoken, the oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The longest input that is read; a runtime passes on what other plugins said, and annotations of
/// at most 256 KiB.
const LONGEST_INPUT: u64 = 16 << 20;

/// Whether a runtime calls this program as its plugin.
pub(super) fn is_called(environment: &Environment) -> bool {
    environment.contains_key(OsStr::new("CNI_COMMAND"))
}

/// Answers the call that this process is: JSON on standard output, and success or [`Exit::Failed`].
pub(super) fn run(environment: &Environment) -> Exit {
    let mut input = Vec::new();
    let read = io::stdin()
        .lock()
        .take(LONGEST_INPUT + 1)
        .read_to_end(&mut input);
    let (exit, answer) = match read {
        Ok(_) => answer(input, environment),
        Err(e) => failed(&Failure::new(
            Code::Io,
            format!("standard input cannot be read: {e}"),
        )),
    };
    let mut out = io::stdout().lock();
    match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // A runtime that gets no result must not take silence for success.
        Err(_) => Exit::Failed,
    }
}

/// What is to be said to an input in an environment; nothing, or JSON.
pub fn answer(input: Vec<u8>, environment: &Environment) -> (Exit, String) {
    match verbs::run(text_of(input), environment) {
        Ok(answer) => (Exit::Done, answer),
        Err(failure) => {
            log::error!("{}", failure.msg);
            failed(&failure)
        }
    }
}

fn failed(failure: &Failure) -> (Exit, String) {
    (Exit::Failed, failure.to_json())
}

fn text_of(input: Vec<u8>) -> Result<String, Failure> {
    if input.len() as u64 > LONGEST_INPUT {
        let limit = format!("standard input is longer than {} MiB", LONGEST_INPUT >> 20);
        return Err(Failure::new(Code::Json, limit));
    }
    let no_text = |_| Failure::new(Code::Json, "standard input is not UTF-8".to_owned());
    String::from_utf8(input).map_err(no_text)
}

/// What is known of a pod that does not run yet: nothing of the node's may pass for the pod's.
fn pod_facts(nameservers: &[IpAddr]) -> Facts {
    let in_kubernetes = BTreeMap::from([("KUBERNETES_SERVICE_HOST".into(), "".into())]);
    let mut known = Facts::of(in_kubernetes.into());
    let own = MESHES.iter().flat_map(|mesh| mesh.profile.env_files);
    let own = own.map(|(_, path)| *path);
    for path in own.chain([facts::PASSWD, facts::GROUP]) {
        known.learn(
            path.into(),
            Err::<String, _>(io::ErrorKind::NotFound.into()),
        );
    }
    let lines = nameservers
        .iter()
        .map(|server| format!("nameserver {server}\n"));
    known.learn(resolv_conf::PATH.into(), Ok(lines.collect::<String>()));
    known
}
