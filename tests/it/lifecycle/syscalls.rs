//! System calls other than those for rules, traced with strace.

use super::world::ISTIO;
use crate::lab::{Namespace, product};
use std::process::Command;

/// Files that may be read; none is ever written.
const READ: &[&str] = &[
    "/etc/passwd",
    "/etc/resolv.conf",
    "/proc/self/net/ip6_tables_names",
    "/proc/self/net/ip_tables_names",
    "/proc/self/gid_map",
    "/proc/self/uid_map",
    "/proc/sys/net/core/netdev_max_backlog",
    "/proc/sys/net/core/somaxconn",
];

/// Files of the dynamic loader.
const STARTING: &[&str] = &[
    "/etc/ld.so",
    "/lib/",
    "/usr/lib/",
    "/lib64/",
    "/proc/self/maps",
];

/// Calls for files, processes, users and sockets of one run, one a line.
fn traced(namespace: &Namespace, line: &str) -> Vec<String> {
    const CALLS: &str = "%file,%process,%creds,socket,bind,connect,sendmsg";
    traced_for(namespace, line, CALLS)
}

/// These calls of one run, one a line, in the words of strace(1).
fn traced_for(namespace: &Namespace, line: &str, calls: &str) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "signal=none"]);
    command.args(["-e", &format!("trace={calls}"), "-o"]);
    command
        .arg(log.path())
        .arg(product().get_program())
        .args(line.split_whitespace());
    let done = namespace.run(command.env_clear().env("PATH", "/usr/sbin:/usr/bin"));
    done.expect(0, line).unwrap();
    let text = std::fs::read_to_string(log.path()).expect("strace wrote it");
    text.lines()
        .filter_map(|l| Some(l.split_once(' ')?.1.trim().to_owned()))
        .collect()
}

fn complaint(call: &str) -> Option<&'static str> {
    let (name, arguments) = call.split_once('(')?;
    let path = arguments.split('"').nth(1).unwrap_or_default();
    let allowed = match name {
        "openat" | "open" => {
            let known = READ.contains(&path) || STARTING.iter().any(|p| path.starts_with(p));
            known && arguments.contains("O_RDONLY") && !arguments.contains("O_CREAT")
        }
        "access" | "newfstatat" | "statx" | "stat" | "fstat" | "readlink" => true,
        // AF_UNIX: the lock of runs, and that of a watch.
        "socket" => arguments.starts_with("AF_NETLINK") || arguments.starts_with("AF_UNIX"),
        // Connected to the kernel only.
        "connect" => {
            arguments.contains("AF_NETLINK, nl_pid=0,")
                || arguments.contains("sun_path=@\"prepare-proxy-watch\"")
        }
        "bind" => {
            arguments.contains("AF_NETLINK") || arguments.contains("sun_path=@\"prepare-proxy\"")
        }
        "sendmsg" | "capget" | "getuid" | "geteuid" | "getgid" | "getegid" | "exit_group" => true,
        _ => false,
    };
    (!allowed).then_some("does more than it should")
}

#[test]
fn over_netlink_no_file_is_written_and_no_program_started() {
    for backend in ["netlink", "nftables"] {
        let namespace = Namespace::new();
        let options = format!("--backend {backend} {ISTIO} --redirect-dns");
        for line in [
            options.clone(),
            options.clone(),
            format!("diff {options}"),
            "clean".to_owned(),
        ] {
            let calls = traced(&namespace, &line);
            let (first, rest) = calls.split_first().expect("it was started");
            assert!(first.starts_with("execve("), "{first}");
            for call in rest {
                assert_eq!(complaint(call), None, "{line}: {call}");
            }
            assert!(
                rest.iter().any(|c| c.starts_with("socket(AF_NETLINK")),
                "{calls:?}"
            );
        }
    }
}

#[test]
fn only_the_iptables_tools_are_ever_started() {
    let namespace = Namespace::new();
    let calls = traced(&namespace, &format!("--backend iptables-legacy {ISTIO}"));
    let started = calls.iter().skip(1).filter(|c| c.starts_with("execve("));
    let paths: Vec<&str> = started.filter_map(|c| c.split('"').nth(1)).collect();
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or_default();
        assert!(
            name.starts_with("iptables") || name.starts_with("ip6tables"),
            "{path}"
        );
    }
}

/// Nothing is read twice: one dump for the tables of all backends, and one for routes.
#[test]
fn an_apply_reads_once_and_commits_once() {
    let namespace = Namespace::new();
    let calls = traced(&namespace, "-p 15001 -u 1337");
    let count = |text: &str| calls.iter().filter(|c| c.contains(text)).count();
    assert_eq!(count("NETLINK_NETFILTER) ="), 1);
    assert_eq!(count("\"/proc/self/net/ip_tables_names\""), 1);
    assert_eq!(count("\"/proc/self/net/ip6_tables_names\""), 1);
    assert_eq!(count("NETLINK_ROUTE) ="), 1);
    // Addresses of IPv6; listeners, outside Kubernetes; policy rules, addresses; generation, tables,
    // the commit.
    assert_eq!(count("sendmsg("), 1 + 1 + 2 + 3, "{calls:?}");
}

/// What an apply asks the kernel for, beyond what every process does to start and to end. Unlike times
/// the number is always the same: raise it only for a feature that is worth it.
#[test]
fn the_system_calls_of_an_apply_are_within_their_budget() {
    const BUDGET: usize = 46;
    let namespace = Namespace::new();
    let [start, apply] =
        ["--version", "-p 15001 -u 1337"].map(|line| traced_for(&namespace, line, "all"));
    let own = apply.len().checked_sub(start.len()).expect("it does more");
    assert!(own <= BUDGET, "{own} of {BUDGET}: {apply:#?}");
}

/// Beside very many foreign rules they are read once: whether one takes precedence is not looked for.
#[test]
fn very_many_foreign_rules_are_read_once() {
    let namespace = Namespace::new();
    namespace
        .run(product().args(ISTIO.split(' ')))
        .must("apply");
    let rules = "add rule ip nat OUTPUT tcp dport 80 counter\n".repeat(6000);
    namespace.nft_load(&rules);
    for line in [
        format!("diff {ISTIO}"),
        "status".to_owned(),
        ISTIO.to_owned(),
    ] {
        let calls = traced(&namespace, &line);
        let count = |text: &str| calls.iter().filter(|c| c.contains(text)).count();
        assert_eq!(count("NETLINK_NETFILTER) ="), 1, "{line}: {calls:?}");
    }
}
