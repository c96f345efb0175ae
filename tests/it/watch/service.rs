//! Notifications for the service manager (sd_notify(3)).

use super::watcher::Watcher;
use crate::lab::{Namespace, product};
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A simulated service manager.
struct Manager {
    _dir: TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(600)))
            .unwrap();
        Manager {
            _dir: dir,
            path,
            socket,
        }
    }

    fn watch(&self, line: &str) -> Command {
        let mut command = product();
        command.arg("watch").args(line.split_whitespace());
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }

    /// The next message.
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for a message with this line, and returns it.
    fn waits_for(&self, line: &str) -> String {
        loop {
            let message = self.hears();
            if message.lines().any(|l| l == line) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_is_notified_of_every_state() {
    let manager = Manager::new();
    let namespace = Namespace::new();
    let watcher = Watcher::begin(&namespace, manager.watch("-p 15001 -u 1337"));
    let status = manager.hears();
    assert!(status.starts_with("STATUS="), "{status}");
    manager.waits_for("READY=1");
    // READY=1 is sent when the rules are in place.
    assert!(crate::lifecycle::rules(&namespace).contains("ISTIO_"));
    watcher.signal(Signal::SIGHUP);
    let reloading = manager.waits_for("RELOADING=1");
    let since = reloading
        .lines()
        .find_map(|l| l.strip_prefix("MONOTONIC_USEC="));
    assert!(
        since.is_some_and(|n| n.parse::<u64>().is_ok()),
        "{reloading}"
    );
    manager.waits_for("READY=1");
    namespace.sh("nft flush ruleset");
    assert!(manager.hears().starts_with("STATUS="));
    watcher.signal(Signal::SIGTERM);
    manager.waits_for("STOPPING=1");
    assert_eq!(watcher.end().0, Some(0));
}

#[test]
fn the_watchdog_is_notified_only_if_it_is_configured() {
    let manager = Manager::new();
    let namespace = Namespace::new();
    let mut command = manager.watch("-p 15001 -u 1337");
    command.env("WATCHDOG_USEC", "200000");
    let watcher = Watcher::begin(&namespace, command);
    manager.waits_for("READY=1");
    for _ in 0..5 {
        manager.waits_for("WATCHDOG=1");
    }
    watcher.stop();
}

#[test]
fn a_failed_start_is_never_ready() {
    let manager = Manager::new();
    let mut command = manager.watch("-p 15001 -u 70000000000");
    Namespace::new()
        .run(&mut command)
        .expect(2, "a bad uid")
        .unwrap();
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0]).is_err());
}
