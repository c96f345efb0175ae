//! Runs a watch and observes it.

use crate::lab::{Namespace, product};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prepare_proxy::netfilter::nftables::Monitor;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Only against hangs: the machine may be heavily loaded.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A message of this kind.
pub fn kind(name: &str) -> String {
    format!("\"kind\":\"{name}\"")
}

/// Logged lines, and whether the log has ended.
type Log = Arc<(Mutex<(Vec<String>, bool)>, Condvar)>;

/// `prepare-proxy watch`, which is killed when this is dropped.
pub struct Watcher {
    child: Child,
    log: Log,
}

impl Watcher {
    /// Starts it and waits until the rules are in place.
    pub fn start(namespace: &Namespace, line: &str) -> Self {
        let mut command = product();
        command.arg("watch").args(line.split_whitespace());
        Self::spawn(namespace, command)
    }

    /// The same with another command.
    pub fn spawn(namespace: &Namespace, command: Command) -> Self {
        let watcher = Self::begin(namespace, command);
        watcher.wait_for(&kind("installed"), 1);
        watcher
    }

    /// Starts it without waiting.
    pub fn begin(namespace: &Namespace, mut command: Command) -> Self {
        command.args(["--log-format", "json"]);
        let mut child = namespace.spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        let lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        let log = Log::default();
        let kept = log.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.0.lock().unwrap().0.push(line);
                kept.1.notify_all();
            }
            kept.0.lock().unwrap().1 = true;
            kept.1.notify_all();
        });
        Watcher { child, log }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// The lines logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().0.clone()
    }

    /// The number of lines with this text.
    pub fn count(&self, text: &str) -> usize {
        self.log().iter().filter(|l| l.contains(text)).count()
    }

    /// Waits for this number of lines with this text, and returns the last of them.
    #[track_caller]
    pub fn wait_for(&self, text: &str, count: usize) -> String {
        match self.line_within(text, count, LONGEST_WAIT) {
            Some(line) => line,
            None => panic!(
                "no {count} lines with \"{text}\" in\n{}",
                self.log().join("\n")
            ),
        }
    }

    /// Whether a line with this text is logged within the limit.
    pub fn logs_within(&self, text: &str, limit: Duration) -> bool {
        self.line_within(text, 1, limit).is_some()
    }

    /// Waits for a line with this text or the end. Returns whether there is one.
    pub fn logs_or_ends(&self, text: &str) -> bool {
        let line = self.line_within(text, 1, LONGEST_WAIT);
        assert!(
            line.is_some() || self.has_ended(),
            "neither logs it nor ends"
        );
        line.is_some()
    }

    /// Whether it has closed its standard error.
    pub fn has_ended(&self) -> bool {
        self.log.0.lock().unwrap().1
    }

    fn line_within(&self, text: &str, count: usize, limit: Duration) -> Option<String> {
        let found = |log: &Vec<String>| {
            let mut lines = log.iter().filter(|l| l.contains(text));
            lines.nth(count - 1).cloned()
        };
        let (lock, changed) = &*self.log;
        let guard = lock.lock().unwrap();
        let waiting = |log: &mut (Vec<String>, bool)| found(&log.0).is_none() && !log.1;
        let (log, _) = changed.wait_timeout_while(guard, limit, waiting).unwrap();
        found(&log.0)
    }

    /// Waits for its end; exit status and log.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let status = self.child.wait().expect("a child can be waited for");
        let (lock, changed) = &*self.log;
        let whole = changed.wait_while(lock.lock().unwrap(), |log| !log.1);
        drop(whole);
        (status.code(), self.log())
    }

    /// Sends SIGTERM; expects status 0 and returns the log.
    #[track_caller]
    pub fn stop(self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{}", log.join("\n"));
        log
    }

    /// A number of /proc/PID/status.
    pub fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    /// Context switches: unchanged means that it slept.
    pub fn switches(&self) -> u64 {
        self.status("voluntary_ctxt_switches") + self.status("nonvoluntary_ctxt_switches")
    }

    /// The number of open descriptors.
    pub fn descriptors(&self) -> usize {
        let dir = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        dir.count()
    }

    /// Waits until all pending events are handled: it stays in poll(2).
    pub fn wait_until_idle(&self) {
        let mut before = None;
        loop {
            let now = self.is_waiting().then(|| self.switches());
            if now.is_some() && now == before {
                return;
            }
            before = now;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it is in poll or ppoll.
    fn is_waiting(&self) -> bool {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid())).expect("it runs");
        let number = call.split(' ').next().and_then(|n| n.parse().ok());
        number.is_some_and(|n: i64| [libc::SYS_poll, libc::SYS_ppoll].contains(&n))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The generation id: unchanged means that nothing was committed.
pub fn generation(namespace: &Namespace) -> u32 {
    let generation = namespace.enter(|| Monitor::open().and_then(|mut m| m.generation()));
    generation.expect("nf_tables can be asked")
}
