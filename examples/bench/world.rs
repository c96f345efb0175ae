//! Fresh network namespaces, and numbers from many rounds.

use nix::sched::{CloneFlags, unshare};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::{NamedTempFile, TempPath};

/// Istio's rules, everything captured.
pub const ISTIO: [&str; 8] = ["--mesh", "istio", "-u", "1337", "-i", "*", "-b", "*"];

/// Runs `work` in a thread with a network namespace of its own, where lo is up.
pub fn fresh<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            run("ip", ["link", "set", "lo", "up"])?;
            work()
        });
        thread.join().expect("a measurement does not panic")
    })
}

/// Runs a program that must succeed; returns what it printed.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> io::Result<String> {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// The middle one.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A file with some text, gone with the value.
pub fn file(text: &str) -> io::Result<TempPath> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(file.into_temp_path())
}
