//! Runs a program to its end: fed and listened to at once, and killed when it takes too long.
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

/// Room for more than a million rules as iptables-save prints them.
const LONGEST_OUTPUT: usize = 256 << 20;

/// Why it is not known what a program would have said, or whether it did what it was told.
#[derive(Debug, Error)]
pub(super) enum Unfinished {
    #[error("it cannot be started: {0}")]
    NotStarted(#[source] io::Error),
    #[error("it cannot be spoken to: {0}")]
    Io(#[from] io::Error),
    #[error("it had not ended after {} s, and was killed", .0.as_secs_f32())]
    Late(Duration),
    #[error("it wrote more than {} MiB, and was killed", LONGEST_OUTPUT >> 20)]
    Endless,
    #[error("it was ended by signal {0}")]
    Killed(i32),
    #[error("it did not read all that it was given, and yet says that it is done")]
    Unread,
}

impl From<Errno> for Unfinished {
    fn from(error: Errno) -> Self {
        Unfinished::Io(error.into())
    }
}

/// Runs a program with `input` to read, and waits for it. When it has not ended after `limit`, or
/// writes more than 256 MiB, it is killed with all that it has started in its process group.
pub(super) fn run(
    mut command: Command,
    input: &str,
    limit: Duration,
) -> Result<Output, Unfinished> {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Unfinished::NotStarted)?;
    let until = Deadline::after(limit);
    let ended = converse(&mut child, input.as_bytes(), &until)
        .and_then(|heard| Ok((heard, wait(&mut child, &until)?)));
    match ended {
        Ok((heard, status)) => heard.with(status),
        Err(problem) => {
            kill(&mut child);
            Err(problem)
        }
    }
}

/// What a program wrote, and what it left unread.
struct Heard {
    outputs: [Vec<u8>; 2],
    unread: usize,
}

impl Heard {
    /// A program that fails need not read everything: its own words say why it did not. One that is
    /// killed has said nothing, least of all that something is not to be had.
    fn with(self, status: ExitStatus) -> Result<Output, Unfinished> {
        if let Some(signal) = status.signal() {
            return Err(Unfinished::Killed(signal));
        }
        if self.unread > 0 && status.success() {
            return Err(Unfinished::Unread);
        }
        let [stdout, stderr] = self.outputs;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

/// Writes the input and reads both outputs, whichever is ready, until all three pipes are closed.
/// To write first and read then would wait for ever for a program that does so too.
fn converse(child: &mut Child, input: &[u8], until: &Deadline) -> Result<Heard, Unfinished> {
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
    Ok(Heard {
        outputs,
        unread: rest.len(),
    })
}

/// One end of a pipe; `None` once it is closed.
type Pipe = Option<File>;

/// The end of a child's pipe that is ours, which from now on says when it is not ready.
fn pipe(end: Option<impl Into<OwnedFd>>) -> Result<Pipe, Unfinished> {
    let Some(end) = end.map(|e| File::from(e.into())) else {
        return Ok(None);
    };
    fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(Some(end))
}

/// Waits until something can be done with one of these pipes.
fn await_any<'p>(
    pipes: impl Iterator<Item = (&'p Pipe, PollFlags)>,
    until: &Deadline,
) -> Result<(), Unfinished> {
    let mut polled: Vec<PollFd> = pipes
        .filter_map(|(pipe, flags)| Some(PollFd::new(pipe.as_ref()?.as_fd(), flags)))
        .collect();
    // A millisecond more than what is left: poll(2) cuts off what is less than one.
    let left = until.left()? + Duration::from_millis(1);
    match poll(
        &mut polled,
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Writes as much as there is room for, and closes the pipe behind the end.
fn feed(stdin: &mut Pipe, rest: &mut &[u8]) -> Result<(), Unfinished> {
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

/// Reads what is there, and closes the pipe when there will be no more.
fn listen(source: &mut Pipe, output: &mut Vec<u8>) -> Result<(), Unfinished> {
    let Some(pipe) = source else {
        return Ok(());
    };
    let room = (LONGEST_OUTPUT + 1 - output.len()) as u64;
    match pipe.take(room).read_to_end(output) {
        Ok(_) if output.len() > LONGEST_OUTPUT => return Err(Unfinished::Endless),
        Ok(_) => *source = None,
        Err(e) if is_for_later(&e) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Waits for a child that has closed its pipes, and so is about to end.
fn wait(child: &mut Child, until: &Deadline) -> Result<ExitStatus, Unfinished> {
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
    // It has not been waited for, so that its number is still its own.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// The end of a limit.
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

    /// How much time is left, or that there is none.
    fn left(&self) -> Result<Duration, Unfinished> {
        let left = self.at.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(Unfinished::Late(self.limit)),
            false => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str, input: &str, limit: Duration) -> Result<Output, Unfinished> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, input, limit)
    }

    #[test]
    fn who_writes_much_before_reading_is_listened_to() {
        // Both more than a pipe holds, which is 64 KiB.
        let input = "rule\n".repeat(100_000);
        let script = "yes out | head -c 1000000; yes err | head -c 1000000 >&2; wc -c";
        let output = sh(script, &input, LONG).unwrap();
        assert!(output.status.success());
        assert!(output.stdout.ends_with(b"500000\n"));
        assert_eq!(output.stderr.len(), 1_000_000);
    }

    #[test]
    fn who_was_killed_has_said_nothing() {
        let result = sh("echo line 5 failed >&2; kill -9 $$", "", LONG);
        assert!(matches!(result, Err(Unfinished::Killed(9))), "{result:?}");
    }

    #[test]
    fn who_hangs_is_killed_with_what_he_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // Holds its outputs open, closes them, or has ended itself and left another who holds them.
        for hang in [
            "sleep 1000",
            "exec >&- 2>&-; sleep 1000",
            "sleep 1000 & exit",
        ] {
            let script = format!("sleep 1000 & echo $! $$ >{}; {hang}", file.display());
            let result = sh(&script, "", Duration::from_millis(300));
            assert!(
                matches!(result, Err(Unfinished::Late(_))),
                "{hang}: {result:?}"
            );
            let pids = std::fs::read_to_string(&file).unwrap();
            for pid in pids.split_whitespace() {
                // Nobody tells us when one that is not our child has died of its signal.
                let ended = (0..500).any(|_| {
                    sleep(Duration::from_millis(10));
                    !runs(pid)
                });
                assert!(ended, "{hang}: {pid} still runs");
            }
        }
    }

    /// Whether there is such a process; one that nobody has waited for yet has ended as well.
    fn runs(pid: &str) -> bool {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        stat.is_ok_and(|s| !s.contains(") Z "))
    }

    #[test]
    fn who_writes_without_end_is_killed() {
        let result = sh("exec yes", "", LONG);
        assert!(matches!(result, Err(Unfinished::Endless)), "{result:?}");
    }

    #[test]
    fn an_input_that_is_not_read_counts_unless_the_program_fails() {
        let input = "rule\n".repeat(100_000);
        let done = sh("exec <&-; sleep 0.1; exit 0", &input, LONG);
        assert!(matches!(done, Err(Unfinished::Unread)), "{done:?}");
        let failed = sh("echo no >&2; exit 1", &input, LONG).unwrap();
        assert_eq!(
            (failed.status.code(), &failed.stderr[..]),
            (Some(1), &b"no\n"[..])
        );
    }

    #[test]
    fn what_cannot_be_started_is_told_from_what_fails() {
        let result = run(Command::new("/nowhere"), "", LONG);
        assert!(
            matches!(result, Err(Unfinished::NotStarted(_))),
            "{result:?}"
        );
        let done = sh("exit 7", "", LONG).unwrap();
        assert_eq!(done.status.code(), Some(7));
    }
}
