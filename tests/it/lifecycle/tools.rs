//! The iptables tools: their environment, and failures to start, to succeed or to end. Only a
//! missing tool counts as absent.

use super::world::{SOME, apply, everything, rules, run};
use crate::lab::{Done, Namespace, Variant, product};
use prepare_proxy::netfilter::model::Family;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const TOOLS: &[&str] = &["iptables-legacy"];

fn directory_with(program: &str, script: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(program);
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    directory
}

/// Runs the program with a directory first in $PATH.
fn run_with(namespace: &Namespace, directory: &Path, line: &str) -> Done {
    let mut command = product();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display());
    command.env("PATH", path).args(line.split_whitespace());
    namespace.run(&mut command)
}

/// Fails unless a run exits 1 with this message and changes nothing.
fn refused(namespace: &Namespace, before: &str, done: Done, words: &str) {
    let done = done.expect(1, words).unwrap();
    assert!(done.err.contains(words), "{}", done.err);
    assert!(!done.err.contains("removed"), "{}", done.err);
    assert_eq!(before, everything(namespace), "{words}");
}

#[test]
fn tools_do_not_inherit_the_environment() {
    for backend in TOOLS {
        let namespace = Namespace::new();
        let save = Variant::of(backend).tool(Family::V4, "-save");
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let script = format!(
            "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >{}\nexec /usr/sbin/{save} \"$@\"\n",
            log.path().display()
        );
        let directory = directory_with(&save, &script);
        let mut command = product();
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH"] {
            command.env(name, "/nowhere/payload.so");
        }
        for name in ["XTABLES_LIBDIR", "XTABLES_LOCKFILE", "BASH_ENV", "ENV"] {
            command.env(name, "/nowhere/payload");
        }
        let path = format!("{}:/usr/sbin:/usr/bin", directory.path().display());
        command.env("PATH", path).args(["--backend", backend]);
        let done = namespace.run(command.args(SOME.split(' ')));
        done.expect(0, backend).unwrap();
        let given = fs::read_to_string(log.path()).expect("the script wrote it");
        let mut given: Vec<&str> = given.lines().collect();
        given.sort();
        let path = "PATH=/usr/sbin:/sbin:/usr/bin:/bin";
        assert_eq!(given, ["LC_ALL=C", path], "{backend}");
    }
}

/// Env files of a mesh-expansion VM belong to the user of the proxy and must not execute anything
/// as root.
#[test]
fn a_hostile_cluster_env_executes_nothing() {
    let marker = tempfile::tempdir().expect("a temporary directory");
    let ran = marker.path().join("ran");
    let payload = format!("#!/bin/sh\ntouch {}\n", ran.display());
    for backend in TOOLS {
        let restore = Variant::of(backend).tool(Family::V4, "-restore");
        let directory = directory_with(&restore, &payload);
        let here = directory.path().display();
        let file = directory.path().join("cluster.env");
        let text = format!(
            "PATH={here}\nLD_PRELOAD={here}/payload.so\nLD_AUDIT={here}/payload.so\nBASH_ENV={here}/{restore}\n\
             XTABLES_LIBDIR={here}\nPREPARE_PROXY_MESH=nginmesh\nISTIO_SERVICE_CIDR=10.63.240.0/20\n"
        );
        for mesh in ["istio-1.0", "istio"] {
            let namespace = Namespace::new();
            let line = format!(
                "--mesh {mesh} --backend {backend} --env-file {}",
                file.display()
            );
            let command = format!("{text}ISTIO_INBOUND_PORTS=80,$(touch {})\n", ran.display());
            fs::write(&file, command).expect("a file");
            run(&namespace, &line)
                .expect(2, "a command for ports")
                .unwrap();
            fs::write(&file, &text).expect("a file");
            let done = run(&namespace, &line).expect(0, &line).unwrap();
            // ld.so would report a failed preload here.
            assert!(!done.err.contains("payload"), "{}", done.err);
            assert!(rules(&namespace).contains("-d 10.63.240.0/20"));
            assert!(!ran.exists(), "the payload ran");
        }
    }
}

/// The unit must not pass such files to systemd, which would set the environment of a program of
/// root, and block on a FIFO.
#[test]
fn the_unit_does_not_load_env_files_of_the_mesh() {
    for unit in [
        include_str!("../../../deploy/systemd/prepare-proxy.service"),
        include_str!("../../../deploy/systemd/prepare-proxy-once.service"),
    ] {
        assert!(!unit.contains("EnvironmentFile="), "{unit}");
        let ours = unit.lines().filter(|l| l.starts_with("ExecStart="));
        let lines: Vec<&str> = ours.collect();
        assert!(!lines.is_empty(), "{unit}");
        for line in lines {
            assert!(
                line.ends_with(" --env-file -/etc/default/prepare-proxy"),
                "{line}"
            );
        }
    }
}

#[test]
fn clean_fails_if_no_process_can_be_started() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", SOME).unwrap();
    let before = everything(&namespace);
    for line in ["clean", SOME, "diff"] {
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-e"]);
        command.arg("inject=clone,clone3,fork,vfork:error=EAGAIN");
        command.arg(product().get_program()).args(line.split(' '));
        if line == "diff" {
            command.args(SOME.split(' '));
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin");
        let mut done = namespace.run(&mut command);
        if line == "diff" {
            done = Done {
                code: Some(done.code.unwrap_or_default() - 1),
                ..done
            };
        }
        refused(
            &namespace,
            &before,
            done,
            "cannot be started: Resource temporarily unavailable",
        );
    }
}

#[test]
fn a_failing_tool_is_not_treated_as_absent() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", SOME).unwrap();
    let before = everything(&namespace);
    for (script, words) in [
        (
            "#!/nowhere/interpreter\n",
            "cannot be started: No such file",
        ),
        ("not a program\n", "cannot be started: Exec format error"),
        ("#!/bin/sh\nexit 127\n", "exit status: 127"),
        (
            "#!/bin/sh\necho 'cannot open shared object file' >&2; exit 127\n",
            "cannot open shared object",
        ),
        ("#!/bin/sh\nkill -9 $$\n", "signal 9"),
    ] {
        let directory = directory_with("iptables-legacy-restore", script);
        for line in ["clean", SOME] {
            let done = run_with(&namespace, directory.path(), line);
            refused(&namespace, &before, done, words);
        }
    }
}

#[test]
fn a_tool_that_hangs_is_killed() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", SOME).unwrap();
    let before = everything(&namespace);
    let directory = directory_with("iptables-legacy-restore", "#!/bin/sh\nexec sleep 1234\n");
    let done = run_with(&namespace, directory.path(), "clean");
    refused(
        &namespace,
        &before,
        done,
        "had not ended after 10 s, and was killed",
    );
}

/// A foreign comment must not be able to inject rules.
#[test]
fn a_line_break_in_a_foreign_comment_adds_no_rule() {
    for backend in TOOLS {
        let namespace = Namespace::new();
        let tool = Variant::of(backend).tool(Family::V4, "");
        let comment = "x\n-A OUTPUT -p tcp -j ISTIO_OUTPUT\nCOMMIT\n*nat\n:ISTIO_REDIRECT - [0:0]";
        let mut foreign = Command::new(&tool);
        foreign.args(["-t", "nat", "-A", "OUTPUT", "-p", "sctp"]);
        foreign.args(["-m", "comment", "--comment", comment, "-j", "ACCEPT"]);
        namespace.output(&mut foreign);
        let before = everything(&namespace);
        let changed = apply(&namespace, backend, SOME).unwrap();
        assert!(changed.err.contains("installed"), "{}", changed.err);
        let again = apply(&namespace, backend, SOME).unwrap();
        assert!(again.err.contains("already in place"), "{}", again.err);
        run(&namespace, "clean").expect(0, "clean").unwrap();
        let after = everything(&namespace);
        assert_eq!(
            before.matches("-p sctp").count(),
            after.matches("-p sctp").count()
        );
        // A rule that jumps to a managed chain is managed, but cannot be named to iptables-restore.
        let ours = format!(
            "{tool} -t nat -N ISTIO_REDIRECT; {tool} -t nat -A OUTPUT -m comment --comment 'a\nb' -j ISTIO_REDIRECT"
        );
        namespace.sh(&ours);
        let before = everything(&namespace);
        let line = format!("--backend {backend} {SOME}");
        let done = run(&namespace, &line);
        refused(&namespace, &before, done, "has a line break");
    }
}
