//! System calls: those that a run makes, and the errors that each can return.

use crate::lab::{Done, Namespace};
use std::path::Path;
use std::process::Command;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: String,
    /// Which call of that name, the first is 1.
    pub nth: usize,
    /// `None` is SIGKILL in its place.
    pub error: Option<&'static str>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = self.error.unwrap_or("SIGKILL");
        write!(f, "{what} at {} number {}", self.call, self.nth)
    }
}

impl Fault {
    /// strace(1) that does this to the program behind it.
    pub fn strace(&self) -> Vec<String> {
        let Fault { call, nth, .. } = self;
        let what = match self.error {
            None => "signal=KILL".to_owned(),
            Some(error) => format!("error={error}"),
        };
        let inject = format!("inject={call}:{what}:when={nth}");
        let trace = format!("trace={call}");
        let words = ["strace", "-qq", "-o/dev/null", "-e", "signal=none", "-e"];
        let words = words.iter().copied().chain([&*trace, "-e", &inject]);
        words.map(str::to_owned).collect()
    }

    /// Whether the C library or the allocator may end the program for this.
    pub fn is_want_of_memory(&self) -> bool {
        ["brk", "mmap", "munmap", "mprotect", "mremap"].contains(&&*self.call)
    }
}

/// The names of the calls that a command makes, in their order.
pub fn of(namespace: &Namespace, command: &Command) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut strace = Command::new("strace");
    strace
        .args(["-qq", "-e", "signal=none", "-o"])
        .arg(log.path());
    strace.arg(command.get_program()).args(command.get_args());
    strace
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Done::expect(namespace.run(&mut strace), 0, "strace").unwrap_or_else(|e| panic!("{e}"));
    in_log(log.path())
}

/// The names of the calls in what strace wrote.
pub fn in_log(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("strace wrote it");
    let names = text
        .lines()
        .filter_map(|l| Some(l.split_once('(')?.0.to_owned()));
    names.collect()
}

/// Every fault there can be at these calls, the first `passed` of which go as they should.
pub fn faults(calls: &[String], passed: usize, errors: bool) -> Vec<Fault> {
    let fault = |(at, call): (usize, &String)| {
        let nth = calls[..=at].iter().filter(|c| *c == call).count();
        let errors = if errors { errors_of(call) } else { &[] };
        let kinds = errors.iter().copied().map(Some).chain([None]);
        let fault = move |error| Fault {
            call: call.clone(),
            nth,
            error,
        };
        kinds.map(fault).collect::<Vec<_>>()
    };
    calls
        .iter()
        .enumerate()
        .skip(passed)
        .flat_map(fault)
        .collect()
}

/// What a call can return by its man page, when it is called as it should be. Left out are errors that
/// are answers: that something is not there (ENOENT, EAFNOSUPPORT), that a terminal is none (ENOTTY).
fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "openat" | "open" => &["EACCES", "EMFILE", "ENFILE", "ENOMEM", "EINTR", "EIO"],
        "read" | "pread64" => &["EIO", "EINTR", "ENOMEM"],
        "write" | "writev" => &["EPIPE", "ENOSPC", "EIO", "EINTR", "EAGAIN"],
        "statx" | "newfstatat" | "fstat" | "readlink" | "readlinkat" => &["EACCES", "ENOMEM"],
        "access" | "faccessat" | "faccessat2" => &["EACCES", "ENOMEM"],
        "fcntl" => &["EMFILE", "ENOMEM"],
        "socket" => &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EACCES", "EPERM"],
        "bind" => &["EADDRINUSE", "EACCES", "ENOMEM"],
        "listen" => &["EADDRINUSE"],
        "connect" => &["EACCES", "EAGAIN", "ECONNREFUSED", "EINTR"],
        "setsockopt" | "getsockopt" => &["EPERM", "ENOPROTOOPT", "ENOMEM", "ENOBUFS"],
        "getsockname" => &["ENOBUFS"],
        "sendto" | "sendmsg" => &[
            "ENOBUFS",
            "ENOMEM",
            "EPERM",
            "EAGAIN",
            "EINTR",
            "EMSGSIZE",
            "ECONNREFUSED",
        ],
        "recvfrom" | "recvmsg" => &["ENOBUFS", "ENOMEM", "EAGAIN", "EINTR"],
        "signalfd4" => &["EMFILE", "ENFILE", "ENOMEM"],
        "accept" | "accept4" => &["EMFILE", "ENOMEM", "ECONNABORTED"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "pipe2" => &["EMFILE", "ENFILE"],
        "clone" | "clone3" | "vfork" | "fork" => &["EAGAIN", "ENOMEM", "EPERM"],
        "wait4" | "waitid" => &["ECHILD", "EINTR"],
        "pidfd_open" | "pidfd_send_signal" | "kill" => &["EMFILE", "ENOMEM", "EPERM"],
        "clock_nanosleep" | "nanosleep" => &["EINTR"],
        "getrandom" => &["ENOSYS", "EINTR"],
        "prctl" | "capget" => &["EPERM", "EINVAL"],
        "setns" => &["EPERM", "ENOMEM"],
        "flock" => &["EINTR", "ENOLCK"],
        "rename" | "unlink" | "mkdir" => &["EACCES", "EROFS", "ENOSPC", "EIO", "EBUSY"],
        "fsync" => &["EIO", "ENOSPC"],
        "fchmod" | "fchown" => &["EPERM", "EROFS", "EIO"],
        "getdents64" => &["EIO", "ENOMEM"],
        "brk" | "mmap" | "mprotect" | "mremap" => &["ENOMEM"],
        // These cannot fail as they are called, or by a fault of the C library's alone. Whatever
        // close says, the kernel has closed: strace, which leaves the call out, could not show that.
        "close" | "execve" | "exit_group" | "munmap" | "ioctl" | "gettid" | "getpid" | "getuid"
        | "geteuid" | "getgid" | "getegid" | "rt_sigaction" | "rt_sigprocmask" | "sigaltstack"
        | "lseek" | "sched_getaffinity" | "sched_yield" | "prlimit64" | "arch_prctl" | "futex"
        | "set_tid_address" | "set_robust_list" | "rseq" | "madvise" | "umask" | "dup2" | "dup"
        | "clock_gettime" | "rt_sigreturn" | "restart_syscall" => &[],
        other => panic!("what can {other} return? A row in errors_of says it"),
    }
}
