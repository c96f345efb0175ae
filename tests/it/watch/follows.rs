//! What follows changes of the host and of the configuration.

use super::watcher::{Watcher, generation, kind};
use crate::lab::{Namespace, product};
use crate::lifecycle::rules;
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn ipv6_is_covered_while_there_is_any() {
    let namespace = Namespace::new();
    namespace.ip(&["link add eth0 type bridge", "link set eth0 up"]);
    let watcher = Watcher::start(&namespace, "-v --mesh istio -i * -b *");
    let without = rules(&namespace);
    assert!(!without.contains("ip6tables"), "{without}");
    for n in 1..4 {
        namespace.ip(&["addr add 2001:db8::1/64 dev eth0 nodad"]);
        watcher.wait_for("(IPv4 and IPv6)", n);
        watcher.wait_until_idle();
        assert!(rules(&namespace).contains("ip6tables"));
        let before = generation(&namespace);
        namespace.ip(&["addr add 2001:db8::2/64 dev eth0 nodad"]);
        namespace.ip(&["addr del 2001:db8::1/64 dev eth0"]);
        watcher.wait_until_idle();
        assert_eq!(generation(&namespace), before, "one is left");
        // As a router does it all the time.
        namespace.ip(&["addr change 2001:db8::2/64 dev eth0 valid_lft 2000 preferred_lft 1000"]);
        watcher.wait_until_idle();
        assert_eq!(generation(&namespace), before, "nothing is written");
        namespace.ip(&["addr del 2001:db8::2/64 dev eth0"]);
        watcher.wait_for("(IPv4)", n + 1);
        watcher.wait_until_idle();
        assert_eq!(rules(&namespace), without);
    }
    watcher.stop();
}

/// A watch with an /etc of its own, in which files can be replaced.
struct Etc(TempDir);

impl Etc {
    fn new(resolv_conf: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        for name in ["passwd", "group"] {
            fs::copy(Path::new("/etc").join(name), dir.path().join(name)).expect("a copy");
        }
        fs::write(dir.path().join("resolv.conf"), resolv_conf).expect("a file");
        Etc(dir)
    }

    fn watch(&self, namespace: &Namespace, line: &str) -> Watcher {
        let product = product();
        let mut command = Command::new("unshare");
        command.env_clear().args(["--mount", "sh", "-ec"]);
        command.arg("mount --bind \"$0\" /etc; exec \"$@\"");
        command
            .arg(self.0.path())
            .arg(product.get_program())
            .arg("watch");
        command.envs(product.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.args(line.split_whitespace());
        Watcher::spawn(namespace, command)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file");
    }

    fn replace(&self, name: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.0.path().join("new"), self.0.path().join(name)).expect("a file");
    }
}

#[test]
fn dns_rules_follow_the_nameservers() {
    let etc = Etc::new("nameserver 192.0.2.1\n");
    let namespace = Namespace::new();
    let watcher = etc.watch(&namespace, "--mesh istio -i * --redirect-dns");
    for n in (2..40).step_by(2) {
        etc.write("resolv.conf", &format!("nameserver 192.0.2.{n}\n"));
        watcher.signal(Signal::SIGHUP);
        watcher.wait_for(&format!("DNS to nameserver 192.0.2.{n}"), 1);
        etc.replace("resolv.conf", &format!("nameserver 192.0.2.{}\n", n + 1));
        watcher.signal(Signal::SIGHUP);
        watcher.wait_for(&format!("DNS to nameserver 192.0.2.{}", n + 1), 1);
    }
    assert!(rules(&namespace).contains("-d 192.0.2.39/32"));
    // A link to a place that is made later, as systemd-resolved has it.
    fs::remove_file(etc.0.path().join("resolv.conf")).expect("it is there");
    std::os::unix::fs::symlink("resolve/stub", etc.0.path().join("resolv.conf")).expect("a link");
    fs::create_dir(etc.0.path().join("resolve")).expect("a directory");
    etc.write("resolve/stub", "nameserver 127.0.0.53\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("DNS to nameserver 127.0.0.53", 1);
    watcher.stop();
}

#[test]
fn a_changed_env_file_is_applied_if_it_is_good() {
    let etc = Etc::new("");
    let namespace = Namespace::new();
    let line = "--mesh istio --env-file -/etc/a/b/proxy.env";
    let watcher = etc.watch(&namespace, line);
    assert!(!rules(&namespace).contains("8080"));
    fs::create_dir_all(etc.0.path().join("a/b")).expect("directories");
    etc.write("a/b/proxy.env", "ISTIO_INBOUND_PORTS=8080\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("TCP port 8080", 1);
    etc.replace("a/b/proxy.env", "ISTIO_INBOUND_PORTS=9090\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("TCP port 9090", 1);
    watcher.wait_until_idle();
    let good = rules(&namespace);
    let before = generation(&namespace);

    etc.write("a/b/proxy.env", "ISTIO_INBOUND_PORTS=70000\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for(&kind("bad-value"), 1);
    watcher.wait_until_idle();
    assert_eq!(generation(&namespace), before);
    // The configuration before is still what is restored.
    namespace.sh("nft delete table ip nat");
    watcher.wait_for(&kind("repaired"), 1);
    watcher.wait_until_idle();
    assert_eq!(rules(&namespace), good);

    etc.write("a/b/proxy.env", "ISTIO_INBOUND_PORTS=9091\n");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("TCP port 9091", 1);
    fs::remove_dir_all(etc.0.path().join("a")).expect("directories");
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("inbound nothing", 2);
    watcher.stop();
}

#[test]
fn only_a_signal_reloads() {
    let etc = Etc::new("");
    let namespace = Namespace::new();
    etc.write("proxy.env", "ISTIO_INBOUND_PORTS=8080\n");
    let line = "--mesh istio --env-file /etc/proxy.env";
    let watcher = etc.watch(&namespace, line);
    watcher.wait_until_idle();
    let (before, switches) = (generation(&namespace), watcher.switches());
    etc.write("proxy.env", "ISTIO_INBOUND_PORTS=9090\n");
    watcher.wait_until_idle();
    assert_eq!(watcher.switches(), switches, "nobody woke it");
    // Nor does a change of the host make it read that file.
    namespace.ip(&[
        "link add eth0 type bridge",
        "link set eth0 up",
        "addr add 2001:db8::1/64 dev eth0 nodad",
    ]);
    watcher.wait_for("(IPv4 and IPv6)", 1);
    assert_eq!(watcher.count("9090"), 0);
    assert_ne!(generation(&namespace), before);
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for("TCP port 9090", 1);
    watcher.signal(Signal::SIGHUP);
    watcher.wait_for(&kind("unchanged"), 1);
    watcher.stop();
}

/// A file may change between the read that a signal has caused and the moment from which systemd
/// notices changes again: the configuration is read once more, until it stays the same.
#[test]
fn a_change_just_after_a_reload_is_not_lost() {
    let etc = Etc::new("");
    let namespace = Namespace::new();
    etc.write("proxy.env", "");
    let watcher = etc.watch(&namespace, "--mesh istio --env-file /etc/proxy.env");
    // A test that is held up meanwhile tries again.
    let seen = (1000..2000).any(|port| {
        etc.write("proxy.env", &format!("ISTIO_INBOUND_PORTS={port}\n"));
        watcher.signal(Signal::SIGHUP);
        watcher.wait_for(&format!("TCP port {port} "), 1);
        etc.write(
            "proxy.env",
            &format!("ISTIO_INBOUND_PORTS={}\n", port + 1000),
        );
        watcher.logs_within(
            &format!("TCP port {} ", port + 1000),
            Duration::from_secs(10),
        )
    });
    assert!(seen);
    watcher.stop();
}

/// Only while they are in use, and where that can be determined.
#[test]
fn tables_of_iptables_legacy_are_not_said_to_be_in_use_where_proc_is_hidden() {
    let namespace = Namespace::new();
    let product = product();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]);
    command.arg("mount -t tmpfs none /proc; exec \"$0\" watch -p 15001 -u 1337 \"$@\"");
    command.arg(product.get_program());
    let watcher = Watcher::spawn(&namespace, command);
    namespace.sh("nft flush ruleset");
    watcher.wait_for(&kind("repaired"), 1);
    assert_eq!(watcher.count(&kind("polling")), 0);
    watcher.stop();
}

/// What is to be first is put there again.
#[test]
fn rules_that_are_kept_first_come_before_what_is_put_ahead_later() {
    let namespace = Namespace::new();
    let line = "--mesh istio -b * --prerouting-first";
    let watcher = Watcher::start(&namespace, line);
    let prerouting = || namespace.sh("iptables-nft -t nat -S PREROUTING");
    for port in ["80", "443"] {
        namespace.sh(&format!(
            "iptables-nft -t nat -I PREROUTING -p tcp --dport {port} -j ACCEPT"
        ));
        watcher.wait_for(&kind("repaired"), 1 + usize::from(port == "443"));
        watcher.wait_until_idle();
        let rules = prerouting();
        let first = rules.lines().nth(1).unwrap_or_default();
        assert!(first.contains("ISTIO_INBOUND"), "{rules}");
        assert!(rules.contains(port), "{rules}");
    }
    watcher.stop();
}
