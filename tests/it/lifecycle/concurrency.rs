//! Concurrent runs, and concurrent changes by other programs.

use super::on_every_backend;
use super::world::{OTHER, SOME, apply, rules, run};
use crate::lab::{BACKENDS, Done, Namespace, product, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

/// The number of concurrent runs.
const RUNS: usize = 32;

/// The number of concurrent runs without the lock: each commits until it finds its own rules in
/// place.
const BRAWLERS: usize = 4;

/// Different options, for different families.
fn options(number: usize) -> String {
    let port = 15001 + number;
    let more = match number % 3 {
        0 => "--dual-stack",
        1 => "-i 10.0.0.0/8",
        _ => "",
    };
    format!("-p {port} -u {} {more}", 1337 + number)
}

/// Starts all runs and waits for them.
fn at_once(namespace: &Namespace, lines: &[String]) -> Result<(), String> {
    let start = |line: &String| {
        let mut command = product();
        command.args(line.split_whitespace());
        namespace.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let children: Vec<_> = lines.iter().map(start).collect();
    for (child, line) in children.into_iter().zip(lines) {
        let output = child.wait_with_output().expect("a child can be waited for");
        Done::from(output).expect(0, line)?;
    }
    Ok(())
}

fn one_of_them(namespace: &Namespace, backend: &str, runs: usize) -> Result<(), String> {
    let line = |n| format!("--backend {backend} {}", options(n));
    at_once(namespace, &(0..runs).map(line).collect::<Vec<_>>())?;
    let found = rules(namespace);
    for number in 0..runs {
        let fresh = Namespace::new();
        apply(&fresh, backend, &options(number))?;
        if rules(&fresh) == found {
            return Ok(());
        }
    }
    Err(format!("a mixture:\n{found}"))
}

#[test]
fn concurrent_runs_end_in_the_state_of_one_of_them() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        one_of_them(&namespace, backend, RUNS)?;
        // And again from that state.
        one_of_them(&namespace, backend, RUNS)
    });
}

/// Any process can take the lock: then runs do not wait for each other, and must still not mix.
#[test]
fn concurrent_runs_without_the_lock_end_in_the_state_of_one_of_them() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let _taken = namespace.enter(|| {
            let name = SocketAddr::from_abstract_name("prepare-proxy")?;
            UnixDatagram::bind_addr(&name)
        });
        one_of_them(&namespace, backend, BRAWLERS)
    });
}

#[test]
fn concurrent_backends_end_in_the_state_of_one_of_them() {
    let namespace = Namespace::new();
    let of = |number: usize| BACKENDS[number % BACKENDS.len()];
    let line = |n: usize| format!("--backend {} {}", of(n), options(n));
    // The tools are slow: with more of them the others would time out.
    let runs = 2 * BACKENDS.len();
    at_once(&namespace, &(0..runs).map(line).collect::<Vec<_>>()).unwrap();
    let found = rules(&namespace);
    let fits = |number: usize| {
        let fresh = Namespace::new();
        apply(&fresh, of(number), &options(number)).unwrap();
        rules(&fresh) == found
    };
    assert!((0..runs).any(fits), "a mixture:\n{found}");
}

/// Programs that write foreign and managed rules continuously until dropped.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn start(namespace: &Namespace, scripts: &[&str]) -> Self {
        let start = |script: &&str| {
            let mut shell = std::process::Command::new("sh");
            // A signal is obeyed between two programs: none is at work after its shell.
            let looped = format!("trap exit TERM; while :; do {script}; done");
            let shell = shell.args(["-c", &looped]).stdin(Stdio::null());
            namespace.spawn(shell.stdout(Stdio::null()).stderr(Stdio::null()))
        };
        Busy(scripts.iter().map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

#[test]
fn apply_succeeds_while_other_programs_commit_continuously() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let desired = {
            let fresh = Namespace::new();
            apply(&fresh, backend, SOME)?;
            rules(&fresh)
        };
        {
            let _busy = Busy::start(
                &namespace,
                &[
                    "nft add table ip busy; nft add chain ip busy a; nft delete table ip busy",
                    "iptables-nft -t nat -N BUSY; iptables-nft -t nat -A BUSY -j ACCEPT; \
                     iptables-nft -t nat -F BUSY; iptables-nft -t nat -X BUSY",
                    "iptables-legacy -w -t mangle -N BUSY; iptables-legacy -w -t mangle -X BUSY",
                ],
            );
            for i in 0..20 {
                apply(&namespace, backend, if i % 2 == 0 { OTHER } else { SOME })?;
            }
        }
        namespace.sh(
            "for v in nft legacy; do iptables-$v -t nat -F BUSY; iptables-$v -t nat -X BUSY; \
             iptables-$v -t mangle -X BUSY; done 2>/dev/null || :; nft delete table ip busy 2>/dev/null || :",
        );
        same(&desired, &rules(&namespace), "with others at work")
    });
}

/// The kernel counts rules of a batch that is only checked, without returning them.
#[test]
fn an_uncommitted_batch_is_not_reported_as_hidden_rules() {
    let namespace = Namespace::new();
    let mut batch = String::from(
        "add table ip nat\nadd chain ip nat OUTPUT { type nat hook output priority -100; }\n",
    );
    for i in 0..5_000 {
        let (a, b) = (i / 250, i % 250);
        batch += &format!("add rule ip nat OUTPUT ip daddr 10.1.{a}.{b} counter\n");
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), batch).expect("it is ours");
    let script = format!("while :; do nft -c -f {}; done", file.path().display());
    let mut checking = namespace.spawn(Command::new("sh").args(["-c", &script]));
    let options = "--mesh istio -u 1337 -i * -b *";
    for _ in 0..10 {
        run(&namespace, options).must_exit(0, "apply");
        run(&namespace, &format!("diff {options}")).must_exit(0, "diff");
        run(&namespace, "show").must_exit(0, "show");
        run(&namespace, "clean").must_exit(0, "clean");
    }
    checking.kill().expect("it runs");
    checking.wait().expect("it was killed");
}

/// A change between the read and the write of a run.
const INTERFERENCES: &[&str] = &[
    "$T -t nat -D OUTPUT 1",
    "$T -t nat -I OUTPUT 1 -p tcp -j ISTIO_OUTPUT",
    "$T -t nat -A OUTPUT -p tcp -m comment --comment istio/install-istio-output -j ISTIO_OUTPUT",
    "$T -t nat -F ISTIO_OUTPUT; $T -t nat -A ISTIO_REDIRECT -j RETURN",
    "$T -t nat -F; $T -t nat -X",
    "$T -t nat -N ISTIO_LATE; $T -t nat -A ISTIO_OUTPUT -j ISTIO_LATE",
];

#[test]
fn a_change_between_read_and_write_is_detected() {
    for backend in ["iptables-legacy"] {
        let desired = {
            let fresh = Namespace::new();
            apply(&fresh, backend, SOME).unwrap();
            rules(&fresh)
        };
        for interference in INTERFERENCES {
            let namespace = Namespace::new();
            apply(&namespace, backend, OTHER).unwrap();
            let tools = Interfering::new(backend, interference);
            let mut command = product();
            command
                .args(["--backend", backend])
                .args(SOME.split(' '))
                .env("PATH", tools.path());
            let done = namespace.run(&mut command);
            done.expect(0, interference).unwrap();
            assert!(tools.interfered(), "{interference} was never done");
            same(&desired, &rules(&namespace), interference).unwrap();
        }
    }
}

/// A stub of `…-restore` that makes a foreign change first, once.
struct Interfering(tempfile::TempDir);

impl Interfering {
    fn new(backend: &str, interference: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(format!("{backend}-restore"));
        let real = format!("/usr/sbin/{backend}");
        let script = format!(
            "#!/bin/sh
            T={real}
            if [ \"$1\" != --version ] && mkdir {}/done 2>/dev/null; then
                {interference}
            fi
            exec {real}-restore \"$@\"",
            directory.path().display()
        );
        std::fs::write(&path, script).expect("it is ours");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("it is ours");
        Interfering(directory)
    }

    fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.0.path().display())
    }

    fn interfered(&self) -> bool {
        self.0.path().join("done").exists()
    }
}
