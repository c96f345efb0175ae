//! What a user without privilege tries beside a watch: nothing is delayed, filled up or bypassed by it.

use super::watcher::{Watcher, generation, kind};
use crate::lab::{Namespace, product};
use crate::lifecycle::rules;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const LINE: &str = "-p 15001 -u 1337";

/// Against hangs alone.
const HANGS: &str = "600";

/// Holds a name, with a queue that is full and from which nothing is accepted.
const HOLD: &str = r#"
    socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack("Sa*", AF_UNIX, "\0$ARGV[0]")) or die; listen(S, 0);
    while (1) {
        socket(my $c, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect($c, pack("Sa*", AF_UNIX, "\0$ARGV[0]")) or last;
        push @held, $c;
    }
    $| = 1; print "ready\n"; <STDIN>"#;

/// Connects again and again, and keeps no connection.
const FLOOD: &str = r#"
    $| = 1;
    for ($n = 0; ; $n++) {
        socket(my $c, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect($c, pack("Sa*", AF_UNIX, "\0$ARGV[0]"));
        print "ready\n" if $n == 20000;
    }"#;

/// Keeps sixteen connections.
const CONNECT: &str = r#"
    for (1 .. 16) {
        socket(my $c, AF_UNIX, SOCK_STREAM, 0);
        connect($c, pack("Sa*", AF_UNIX, "\0$ARGV[0]")) or die;
        push @held, $c;
    }
    $| = 1; print "ready\n"; <STDIN>"#;

/// A program of uid 1000, killed when this is dropped.
struct Attacker(Child);

impl Attacker {
    /// Starts it, and waits until it is ready.
    fn start(namespace: &Namespace, script: &str, name: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "perl"]);
        command.args(["-MSocket=:DEFAULT,SOCK_NONBLOCK", "-e", script, name]);
        let mut child = namespace.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Attacker(child)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command line to its end.
fn run(namespace: &Namespace, line: &str) -> crate::lab::Done {
    let product = product();
    let mut command = Command::new("timeout");
    command.args(["--foreground", "-s", "KILL", HANGS]);
    command.arg(product.get_program()).args(line.split(' '));
    namespace.run(
        command
            .env_clear()
            .envs(product.get_envs().filter_map(|(k, v)| Some((k, v?)))),
    )
}

#[test]
fn a_held_name_with_a_full_queue_delays_no_run_and_no_watch() {
    for name in ["prepare-proxy", "prepare-proxy-watch"] {
        let namespace = Namespace::new();
        let _holder = Attacker::start(&namespace, HOLD, name);
        for line in [LINE, "-p 15001 -u 1338", "show", "clean"] {
            run(&namespace, line).must(line);
        }
        for wait in ["", " --wait"] {
            let watcher = Watcher::start(&namespace, &format!("{LINE}{wait}"));
            namespace.sh("nft flush ruleset");
            watcher.wait_for(&kind("repaired"), 1);
            watcher.stop();
        }
    }
}

/// Nothing wakes a watch for those who connect to it.
#[test]
fn connections_without_end_do_not_even_wake_it() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, LINE);
    watcher.wait_until_idle();
    let before = watcher.switches();
    let _attacker = Attacker::start(&namespace, FLOOD, "prepare-proxy-watch");
    assert_eq!(watcher.switches(), before);
    for n in 1..=5 {
        namespace.sh("nft flush ruleset");
        watcher.wait_for(&kind("repaired"), n);
    }
    watcher.stop();
}

#[test]
fn a_watch_that_waits_says_so_once_whoever_else_connects() {
    let namespace = Namespace::new();
    let first = Watcher::start(&namespace, LINE);
    let _attacker = Attacker::start(&namespace, CONNECT, "prepare-proxy-watch");
    let mut another = product();
    another.args(["watch", "--wait"]).args(LINE.split(' '));
    let second = Watcher::begin(&namespace, another);
    second.wait_for(&kind("waiting"), 1);
    for n in 1..=3 {
        first.signal(Signal::SIGHUP);
        first.wait_for(&kind("unchanged"), n);
    }
    first.stop();
    second.wait_for(&kind("installed"), 1);
    assert_eq!(second.count(&kind("waiting")), 1);
    second.stop();
}

/// An env file of uid 1000.
fn file_of_other_user(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("sidecar.env");
    fs::write(&path, text).expect("a file");
    chown(&path, Some(1000), Some(1000)).expect("we are root");
    path.display().to_string()
}

fn prefixes(count: usize) -> String {
    let prefix = |n| format!("10.{}.{}.1/32", n >> 8, n & 255);
    let list: Vec<String> = (0..count).map(prefix).collect();
    format!("ISTIO_SERVICE_EXCLUDE_CIDR={}\n", list.join(","))
}

#[test]
fn a_file_of_another_user_is_bounded() {
    let namespace = Namespace::new();
    let dir = TempDir::new().unwrap();
    let file = file_of_other_user(&dir, &prefixes(1000));
    let line = format!("--mesh istio -i * --log-format json --env-file {file}");
    run(&namespace, &line).must("a thousand items");
    let watcher = Watcher::start(&namespace, &line.replace("--log-format json ", ""));
    let before = generation(&namespace);
    for (n, text) in [prefixes(1001), format!("#{}\n", "x".repeat(64 << 10))]
        .iter()
        .enumerate()
    {
        file_of_other_user(&dir, text);
        watcher.signal(Signal::SIGHUP);
        let refused = [kind("bad-value"), kind("bad-file")];
        watcher.wait_for(&refused[n], 1);
        run(&namespace, &line).expect(2, "too much").unwrap();
    }
    assert_eq!(generation(&namespace), before);
    // Root may ask for more.
    fs::write(&file, prefixes(1001)).expect("a file");
    chown(&file, Some(0), Some(0)).expect("we are root");
    run(&namespace, &format!("--dry-run {line}")).must("root's file");
    watcher.stop();
}

/// A notification of a renamed chain has the new name alone.
#[test]
fn renamed_chains_are_restored() {
    for chain in ["ISTIO_REDIRECT", "ISTIO_OUTPUT"] {
        let namespace = Namespace::new();
        let watcher = Watcher::start(&namespace, LINE);
        let wanted = rules(&namespace);
        namespace.sh(&format!("iptables-nft -t nat -E {chain} GONE"));
        watcher.wait_for(&kind("repaired"), 1);
        namespace.sh("iptables-nft -t nat -F GONE; iptables-nft -t nat -X GONE");
        watcher.wait_until_idle();
        assert_eq!(rules(&namespace), wanted, "{chain}");
        watcher.stop();
    }
}

/// The kernel names the watch too, for its own commits.
#[test]
fn a_watch_never_names_itself() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, LINE);
    let wanted = rules(&namespace);
    namespace.sh("for i in $(seq 50); do nft flush ruleset; done");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.wait_until_idle();
    assert_eq!(rules(&namespace), wanted);
    assert_eq!(watcher.count(&format!("(pid {})", watcher.pid())), 0);
    watcher.stop();
}

/// What another user writes leaves no machine without rules at its next start.
#[test]
fn the_last_good_configuration_is_used_where_the_files_are_bad() {
    let namespace = Namespace::new();
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).expect("a directory");
    let file = file_of_other_user(&dir, "ISTIO_INBOUND_PORTS=8080\n");
    let watch = || {
        let mut command = product();
        command.arg("watch").env("STATE_DIRECTORY", &state);
        command.args(["--mesh", "istio", "--env-file", &file]);
        command
    };
    let bad = "ISTIO_INBOUND_PORTS=80,x\n";
    file_of_other_user(&dir, bad);
    let refused = namespace.run(&mut watch());
    refused
        .expect(2, "without a last good configuration")
        .unwrap();
    file_of_other_user(&dir, "ISTIO_INBOUND_PORTS=8080\n");
    Watcher::spawn(&namespace, watch()).stop();
    let saved = fs::metadata(state.join("last-good.json")).expect("it is saved");
    assert_eq!(saved.permissions().mode() & 0o777, 0o600);

    file_of_other_user(&dir, bad);
    namespace.sh("nft flush ruleset");
    let watcher = Watcher::spawn(&namespace, watch());
    assert_eq!(watcher.count(&kind("bad-value")), 1);
    assert!(rules(&namespace).contains("--dport 8080"));
    // What is bad still does not become the last good one.
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for(&kind("bad-value"), 2);
    file_of_other_user(&dir, "ISTIO_INBOUND_PORTS=9090\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("TCP port 9090", 1);
    watcher.stop();
    file_of_other_user(&dir, bad);
    let watcher = Watcher::spawn(&namespace, watch());
    assert!(rules(&namespace).contains("--dport 9090"));
    watcher.stop();
}

/// A state file that is damaged is as none.
#[test]
fn a_damaged_state_file_is_no_configuration() {
    let namespace = Namespace::new();
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("last-good.json");
    let file = file_of_other_user(&dir, "ISTIO_INBOUND_PORTS=x\n");
    for text in ["", "{", "[1]", "{\"/etc/x\": 3}", "{}"] {
        fs::File::create(&state)
            .and_then(|mut state| state.write_all(text.as_bytes()))
            .expect("a file");
        let mut watch = product();
        watch.arg("watch").env("STATE_DIRECTORY", dir.path());
        watch.args(["--mesh", "istio", "--env-file", &file]);
        namespace.run(&mut watch).expect(2, text).unwrap();
    }
}
