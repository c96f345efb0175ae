//! Runs a program to its end with input and output at once, and kills it after a time limit.
#![expect(
    clippy::disallowed_types,
    reason = "starts the tools; a File here is a pipe"
)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Enough for a million rules as iptables-save prints them.
const LONGEST_OUTPUT: usize = 256 << 20;

/// Why the result of a program is unknown.
#[derive(Debug, Error)]
pub(super) enum RunError {
    #[error("it cannot be started: {0}")]
    NotStarted(#[source] io::Error),
    #[error("communication with it failed: {0}")]
    Io(#[from] io::Error),
    #[error("it had not ended after {} s, and was killed", .0.as_secs_f32())]
    Late(Duration),
    #[error("it wrote more than {} MiB, and was killed", LONGEST_OUTPUT >> 20)]
    Endless,
    #[error("it was ended by signal {0}")]
    Killed(i32),
    #[error("it exited successfully without reading all of its input")]
    Unread,
}

impl From<Errno> for RunError {
    fn from(error: Errno) -> Self {
        RunError::Io(error.into())
    }
}

/// Runs a program with `input` and waits for it. After `limit`, or 256 MiB of output, it is killed
/// with its process group.
pub(super) fn run(mut command: Command, input: &str, limit: Duration) -> Result<Output, RunError> {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RunError::NotStarted)?;
    let until = Deadline::after(limit);
    let ended = exchange(&mut child, input.as_bytes(), &until)
        .and_then(|heard| Ok((heard, wait(&mut child, &until)?)));
    match ended {
        Ok((heard, status)) => heard.with(status),
        Err(problem) => {
            kill(&mut child);
            Err(problem)
        }
    }
}

/// The output of a program, and its unread input.
struct CollectedOutput {
    outputs: [Vec<u8>; 2],
    unread: usize,
}

impl CollectedOutput {
    /// A failing program need not read its input, and its output says why it failed. The output of
    /// a killed one means nothing.
    fn with(self, status: ExitStatus) -> Result<Output, RunError> {
        if let Some(signal) = status.signal() {
            return Err(RunError::Killed(signal));
        }
        if self.unread > 0 && status.success() {
            return Err(RunError::Unread);
        }
        let [stdout, stderr] = self.outputs;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

/// Writes the input and reads both outputs as they become ready, until all pipes are closed.
/// Writing first could deadlock.
fn exchange(
    child: &mut Child,
    input: &[u8],
    until: &Deadline,
) -> Result<CollectedOutput, RunError> {
    let mut rest = input;
    let mut stdin = pipe(child.stdin.take())?;
    let mut sources = [pipe(child.stdout.take())?, pipe(child.stderr.take())?];
    let mut outputs = [Vec::new(), Vec::new()];
    while stdin.is_some() || sources.iter().any(Option::is_some) {
        let to_read = sources.iter().map(|pipe| (pipe, PollFlags::POLLIN));
        let to_write = [(&stdin, PollFlags::POLLOUT)];
        await_any(to_read.chain(to_write), until)?;
        feed(&mut stdin, &mut rest)?;
        for (source, output) in sources.iter_mut().zip(&mut outputs) {
            listen(source, output)?;
        }
    }
    Ok(CollectedOutput {
        outputs,
        unread: rest.len(),
    })
}

/// One end of a pipe; `None` when closed.
type Pipe = Option<File>;

/// Makes our end of a pipe of a child non-blocking.
fn pipe(end: Option<impl Into<OwnedFd>>) -> Result<Pipe, RunError> {
    let Some(end) = end.map(|e| File::from(e.into())) else {
        return Ok(None);
    };
    fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(Some(end))
}

/// Waits until one of these pipes is ready.
fn await_any<'p>(
    pipes: impl Iterator<Item = (&'p Pipe, PollFlags)>,
    until: &Deadline,
) -> Result<(), RunError> {
    let mut polled: Vec<PollFd> = pipes
        .filter_map(|(pipe, flags)| Some(PollFd::new(pipe.as_ref()?.as_fd(), flags)))
        .collect();
    // Rounded up, as poll(2) truncates to milliseconds.
    let left = until.left()? + Duration::from_millis(1);
    match poll(
        &mut polled,
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Writes what the pipe accepts, and closes it at the end.
fn feed(stdin: &mut Pipe, rest: &mut &[u8]) -> Result<(), RunError> {
    let Some(pipe) = stdin else {
        return Ok(());
    };
    match pipe.write(rest) {
        Ok(written) => *rest = &rest[written..],
        Err(e) if e.kind() == ErrorKind::BrokenPipe => *stdin = None,
        Err(e) if is_for_later(&e) => {}
        Err(e) => return Err(e.into()),
    }
    if rest.is_empty() {
        *stdin = None;
    }
    Ok(())
}

/// Reads what is available, and closes the pipe at its end.
fn listen(source: &mut Pipe, output: &mut Vec<u8>) -> Result<(), RunError> {
    let Some(pipe) = source else {
        return Ok(());
    };
    let room = (LONGEST_OUTPUT + 1 - output.len()) as u64;
    match pipe.take(room).read_to_end(output) {
        Ok(_) if output.len() > LONGEST_OUTPUT => return Err(RunError::Endless),
        Ok(_) => *source = None,
        Err(e) if is_for_later(&e) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Waits for the exit of a child that has closed its pipes.
fn wait(child: &mut Child, until: &Deadline) -> Result<ExitStatus, RunError> {
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(pause.min(until.left()?));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills a child with its process group and waits for its end.
fn kill(child: &mut Child) {
    // Not reaped yet, so its pid is still valid.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

struct Deadline {
    limit: Duration,
    at: Instant,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Deadline {
            limit,
            at: Instant::now() + limit,
        }
    }

    /// The remaining time; an error if there is none.
    fn left(&self) -> Result<Duration, RunError> {
        let left = self.at.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(RunError::Late(self.limit)),
            false => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str, input: &str, limit: Duration) -> Result<Output, RunError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, input, limit)
    }

    #[test]
    fn a_program_that_writes_much_before_reading_is_not_blocked() {
        // Both exceed the 64 KiB of a pipe.
        let input = "rule\n".repeat(100_000);
        let script = "yes out | head -c 1000000; yes err | head -c 1000000 >&2; wc -c";
        let output = sh(script, &input, LONG).unwrap();
        assert!(output.status.success());
        assert!(output.stdout.ends_with(b"500000\n"));
        assert_eq!(output.stderr.len(), 1_000_000);
    }

    #[test]
    fn output_of_a_killed_program_is_ignored() {
        let result = sh("echo line 5 failed >&2; kill -9 $$", "", LONG);
        assert!(matches!(result, Err(RunError::Killed(9))), "{result:?}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // Keeps its outputs open, closes them, or exits and leaves a child that keeps them.
        for hang in [
            "sleep 1000",
            "exec >&- 2>&-; sleep 1000",
            "sleep 1000 & exit",
        ] {
            let script = format!("sleep 1000 & echo $! $$ >{}; {hang}", file.display());
            let result = sh(&script, "", Duration::from_millis(300));
            assert!(
                matches!(result, Err(RunError::Late(_))),
                "{hang}: {result:?}"
            );
            let pids = std::fs::read_to_string(&file).unwrap();
            for pid in pids.split_whitespace() {
                // There is no notification when a process that is not our child has died.
                let ended = (0..500).any(|_| {
                    sleep(Duration::from_millis(10));
                    !runs(pid)
                });
                assert!(ended, "{hang}: {pid} still runs");
            }
        }
    }

    /// Whether the process runs; zombies do not count.
    fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        stat.is_ok_and(|s| !s.contains(") Z "))
    }

    #[test]
    fn a_program_that_writes_without_end_is_killed() {
        let result = sh("exec yes", "", LONG);
        assert!(matches!(result, Err(RunError::Endless)), "{result:?}");
    }

    #[test]
    fn unread_input_is_an_error_unless_the_program_fails() {
        let input = "rule\n".repeat(100_000);
        let done = sh("exec <&-; sleep 0.1; exit 0", &input, LONG);
        assert!(matches!(done, Err(RunError::Unread)), "{done:?}");
        let failed = sh("echo no >&2; exit 1", &input, LONG).unwrap();
        assert_eq!(
            (failed.status.code(), &failed.stderr[..]),
            (Some(1), &b"no\n"[..])
        );
    }

    #[test]
    fn a_failed_start_is_distinguished_from_a_failed_program() {
        let result = run(Command::new("/nowhere"), "", LONG);
        assert!(matches!(result, Err(RunError::NotStarted(_))), "{result:?}");
        let done = sh("exit 7", "", LONG).unwrap();
        assert_eq!(done.status.code(), Some(7));
    }
}
