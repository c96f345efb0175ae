//! The CNI plugin: a container runtime calls this program, under whatever name, with `CNI_COMMAND`
//! in its environment, the plugin's configuration on standard input, and takes JSON from standard
//! output. See docs/cni.md, and the CNI specification for everything that is not ours.
//!
//! | file | has |
//! |---|---|
//! | `call` | the environment of a call |
//! | `entry` | the plugin's entry in the list of plugins, as the runtime passes it on |
//! | `failure` | errors, as the specification has them |
//! | `verbs` | what each command does |
//! | `journal` | where the log goes |

mod call;
mod entry;
mod failure;
mod journal;
mod verbs;

use super::Exit;
use crate::mesh::config::Environment;
use failure::{Code, Failure};
use std::ffi::OsStr;
use std::io::{Read, Write};

/// The versions of the specification that are spoken, the oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The longest input that is read; a runtime passes on what other plugins said, and annotations of
/// at most 256 KiB.
const LONGEST_INPUT: u64 = 16 << 20;

/// Whether a runtime calls this program as its plugin.
pub(super) fn is_called(environment: &Environment) -> bool {
    environment.contains_key(OsStr::new("CNI_COMMAND"))
}

/// Answers one call: JSON on standard output, and success or [`Exit::Failed`].
pub(super) fn run(environment: &Environment) -> Exit {
    let input = read_input();
    let (exit, answer) = match verbs::run(input, environment) {
        Ok(answer) => (Exit::Done, answer),
        Err(failure) => {
            log::error!("{}", failure.msg);
            (Exit::Failed, failure.to_json())
        }
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // A runtime that is not told of the result must not take it for one.
        Err(_) => Exit::Failed,
    }
}

fn read_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let input = std::io::stdin().lock().take(LONGEST_INPUT + 1);
    let read = { input }.read_to_end(&mut bytes);
    read.map_err(|e| Failure::new(Code::Io, format!("standard input cannot be read: {e}")))?;
    if bytes.len() as u64 > LONGEST_INPUT {
        let limit = format!("standard input is longer than {} MiB", LONGEST_INPUT >> 20);
        return Err(Failure::new(Code::Json, limit));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::Json, "standard input is not UTF-8".to_owned()))
}
