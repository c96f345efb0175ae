//! Not alone: runs at the same time, and other programs that change rules meanwhile.

use super::on_every_backend;
use super::world::{OTHER, SOME, apply, rules, run};
use crate::lab::{BACKENDS, Done, Namespace, product, same};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

/// So many at once.
const RUNS: usize = 32;

/// So many at once that cannot wait for one another: each commits all the time until it has found
/// its own rules whole.
const BRAWLERS: usize = 4;

/// Options that all differ, and not all in the same families.
fn options(number: usize) -> String {
    let port = 15001 + number;
    let more = match number % 3 {
        0 => "--dual-stack",
        1 => "-i 10.0.0.0/8",
        _ => "",
    };
    format!("-p {port} -u {} {more}", 1337 + number)
}

/// Starts all runs, and waits for all of them.
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
fn many_runs_at_once_end_in_one_of_them() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        one_of_them(&namespace, backend, RUNS)?;
        // And once more from there.
        one_of_them(&namespace, backend, RUNS)
    });
}

/// Anybody can take the name by which runs wait for one another: then they do not, and still must
/// not mix.
#[test]
fn runs_that_cannot_wait_for_one_another_end_in_one_of_them() {
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
fn different_backends_at_once_end_in_one_of_them() {
    let namespace = Namespace::new();
    let of = |number: usize| BACKENDS[number % BACKENDS.len()];
    let line = |n: usize| format!("--backend {} {}", of(n), options(n));
    // The tools take their time: more of them would not be through before the others give up.
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

/// Programs that write rules of their own all the time, ours or not, until they are dropped.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn start(namespace: &Namespace, scripts: &[&str]) -> Self {
        let start = |script: &&str| {
            let mut shell = std::process::Command::new("sh");
            let looped = format!("while :; do {script}; done");
            let shell = shell.args(["-c", &looped]).stdin(Stdio::null());
            namespace.spawn(shell.stdout(Stdio::null()).stderr(Stdio::null()))
        };
        Busy(scripts.iter().map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn others_commit_all_the_time() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let wanted = {
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
        same(&wanted, &rules(&namespace), "with others at work")
    });
}

/// The kernel counts the rules of a batch that somebody has it check, and does not show them.
#[test]
fn a_batch_in_preparation_is_not_taken_for_rules_that_are_hidden() {
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

/// What somebody does at the worst moment: after the rules were read, before they are written.
const INTERFERENCES: &[&str] = &[
    "$T -t nat -D OUTPUT 1",
    "$T -t nat -I OUTPUT 1 -p tcp -j ISTIO_OUTPUT",
    "$T -t nat -A OUTPUT -p tcp -m comment --comment istio/install-istio-output -j ISTIO_OUTPUT",
    "$T -t nat -F ISTIO_OUTPUT; $T -t nat -A ISTIO_REDIRECT -j RETURN",
    "$T -t nat -F; $T -t nat -X",
    "$T -t nat -N ISTIO_LATE; $T -t nat -A ISTIO_OUTPUT -j ISTIO_LATE",
];

#[test]
fn somebody_between_the_read_and_the_write_is_noticed() {
    for backend in ["iptables-legacy"] {
        let wanted = {
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
            same(&wanted, &rules(&namespace), interference).unwrap();
        }
    }
}

/// A directory with an `…-restore` that lets somebody else go first, once.
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
