//! Two watches, runs by hand beside one, and the namespace that it is in.

use super::watcher::{Watcher, generation, kind};
use crate::lab::{Namespace, product};
use crate::lifecycle::{apply, rules, run};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

const LINE: &str = "-p 15001 -u 1337";

fn another() -> Command {
    let mut command = product();
    command.arg("watch").args(LINE.split(' '));
    command
}

#[test]
fn a_second_watch_says_who_is_first_or_waits() {
    let namespace = Namespace::new();
    let first = Watcher::start(&namespace, LINE);
    let refused = namespace
        .run(&mut another())
        .expect(1, "a second watch")
        .unwrap();
    let who = format!("process {}", first.pid());
    assert!(refused.err.contains(&who), "{}", refused.err);
    // In another network namespace it is not in the way.
    Watcher::start(&Namespace::new(), LINE).stop();

    let mut waiting = another();
    waiting.arg("--wait");
    let second = Watcher::begin(&namespace, waiting);
    let line = second.wait_for(&kind("waiting"), 1);
    assert!(line.contains(&first.pid().to_string()), "{line}");
    let mut waiting = another();
    waiting.arg("--wait");
    let third = Watcher::begin(&namespace, waiting);
    third.wait_for(&kind("waiting"), 1);
    // While it waits, a signal ends it as any other process.
    third.signal(Signal::SIGTERM);
    let (code, said) = third.end();
    assert_eq!((code, said.len()), (None, 1), "{said:?}");
    first.signal(Signal::SIGKILL);
    second.wait_for(&kind("installed"), 1);
    namespace.sh("nft flush ruleset");
    second.wait_for(&kind("repaired"), 1);
    second.stop();
}

/// Anybody can hold the name by which runs wait for one another: rules are not kept away by it.
#[test]
fn nobody_can_hold_it_up() {
    let namespace = Namespace::new();
    let _taken = namespace.enter(|| {
        let name = SocketAddr::from_abstract_name("prepare-proxy")?;
        UnixDatagram::bind_addr(&name)
    });
    let watcher = Watcher::start(&namespace, LINE);
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.stop();
}

/// Somebody who is not root and holds the name keeps nobody from watching.
#[test]
fn the_name_alone_is_no_watch() {
    let namespace = Namespace::new();
    let mut squatter = Command::new("setpriv");
    squatter.args([
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        "perl",
        "-MSocket",
        "-e",
    ]);
    squatter.arg(
        r#"socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack("Sa*", AF_UNIX, "\0prepare-proxy-watch")) or die;
           listen(S, 1); $| = 1; print "ready\n"; <STDIN>"#,
    );
    let mut squatter = namespace.spawn(squatter.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let stdout = squatter.stdout.as_mut().unwrap();
    stdout.read_exact(&mut [0; 6]).expect("it holds the name");
    let watcher = Watcher::start(&namespace, LINE);
    watcher.wait_for(&kind("name-taken"), 1);
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.stop();
    drop(squatter.stdin.take());
    squatter.wait().unwrap();
}

#[test]
fn runs_by_hand_are_announced_and_do_not_last() {
    let namespace = Namespace::new();
    let watcher = Watcher::start(&namespace, LINE);
    let wanted = rules(&namespace);
    let before = generation(&namespace);
    let same = apply(&namespace, "auto", LINE).unwrap();
    assert!(!same.err.contains("watch"), "{}", same.err);
    watcher.wait_until_idle();
    assert_eq!(generation(&namespace), before);

    for (n, line) in ["clean", "-p 15999 -u 2000"].into_iter().enumerate() {
        let done = run(&namespace, &format!("{line} --log-format json"));
        done.expect(0, line).unwrap().says("watch-at-work").unwrap();
        let said = watcher.wait_for(&kind("repaired"), n + 1);
        assert!(said.contains("prepare-proxy (pid "), "{said}");
        assert!(said.contains("systemctl stop prepare-proxy"), "{said}");
        watcher.wait_until_idle();
        assert_eq!(rules(&namespace), wanted);
    }
    watcher.stop();
    let done = run(&namespace, "clean").expect(0, "clean").unwrap();
    assert!(!done.err.contains("watch"), "{}", done.err);
    assert_eq!(rules(&namespace), "");
}

#[test]
fn the_namespace_may_be_another_one_until_it_is_gone() {
    let namespace = Namespace::new();
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("net");
    fs::write(&path, "").unwrap();
    let at = path.display();
    let from = namespace.path();
    let sh = |script: String| {
        let done = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert!(done.success());
    };
    sh(format!("mount --bind {} {at}", from.display()));
    let watcher = Watcher::start(
        &Namespace::new(),
        &format!("{LINE} --network-namespace {at}"),
    );
    assert!(rules(&namespace).contains("ISTIO_"));
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    // As ip netns delete does it.
    sh(format!("umount --lazy {at}; rm {at}"));
    let (code, log) = watcher.end();
    assert_eq!(code, Some(1));
    let last = log.last().unwrap();
    assert!(last.contains(&kind("namespace-gone")), "{last}");
}

#[test]
fn the_namespace_of_a_process_goes_with_it() {
    let mut holder = Command::new("unshare")
        .args(["--net", "sleep", "60"])
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    while fs::read_link(&path).unwrap() == own {}
    let watcher = Watcher::start(
        &Namespace::new(),
        &format!("{LINE} --interval 1 --network-namespace {path}"),
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (code, log) = watcher.end();
    assert_eq!(code, Some(1), "{}", log.join("\n"));
}
