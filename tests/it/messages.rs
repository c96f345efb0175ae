//! What is said to the person who runs this: before, after, and when something looks wrong.

use crate::lab::{Done, Namespace, product};
use std::process::Command;

/// Runs a line of arguments, of which `''` is an empty one, in a namespace of its own.
fn run(line: &str) -> Done {
    run_in(&Namespace::new(), line)
}

fn run_in(namespace: &Namespace, line: &str) -> Done {
    let words = line.split_whitespace();
    let words = words.map(|w| if w == "''" { "" } else { w });
    namespace.run(product().args(words))
}

#[track_caller]
fn says(done: &Done, parts: &[&str]) {
    for part in parts {
        assert!(done.err.contains(part), "{part}\n{}", done.err);
    }
}

#[track_caller]
fn is_silent_about(done: &Done, parts: &[&str]) {
    for part in parts {
        assert!(!done.err.contains(part), "{part}\n{}", done.err);
    }
}

/// Of what has no rule, the summary does not say that it is captured.
#[test]
fn destinations_of_a_family_without_rules_are_not_said_to_be_captured() {
    let done = run("-p 15001 -u 1337 -i fd00::/8").expect(0, "").unwrap();
    let nothing = "fd00::/8 captures nothing: no IPv6 rules are written here without --dual-stack";
    says(&done, &[nothing, "outbound nothing;"]);
    let done = run("-p 15001 -u 1337 -i fd00::/8,10.0.0.0/8")
        .expect(0, "")
        .unwrap();
    says(&done, &[nothing, "outbound CIDR 10.0.0.0/8 to port 15001"]);
    let done = run("-p 15001 -u 1337 -i fd00::/8 --dual-stack")
        .expect(0, "")
        .unwrap();
    says(&done, &["outbound CIDR fd00::/8 to port 15001"]);
    is_silent_about(&done, &["captures nothing"]);
    // This mesh has rules for IPv6 where there is an address; a flag would not change that.
    let done = run("--mesh istio -i fd00::/8 -x fd00:1::/32 --dual-stack")
        .expect(0, "")
        .unwrap();
    says(
        &done,
        &["fd00::/8 captures nothing: no IPv6 rules are written here\n"],
    );
    is_silent_about(&done, &["fd00:1::/32"]);
}

#[test]
fn who_captures_nothing_is_told_how() {
    for line in ["", "-d 22", "-x 10.0.0.0/8", "-b '' -i ''"] {
        let done = run(&format!("--mesh istio {line}"))
            .expect(0, line)
            .unwrap();
        says(
            &done,
            &["warning: nothing is captured", "-b PORTS", "-i CIDRS"],
        );
    }
    for line in [
        "-b 80",
        "-i 10.0.0.0/8",
        "-q 80",
        "--redirect-dns --capture-all-dns",
    ] {
        let done = run(&format!("--mesh istio {line}"))
            .expect(0, line)
            .unwrap();
        is_silent_about(&done, &["nothing is captured"]);
    }
}

#[test]
fn exempting_root_is_warned_of_where_it_was_asked_for() {
    for line in ["-p 15001 -u root", "--mesh istio -i * -u 1337,0"] {
        let done = run(line).expect(0, line).unwrap();
        says(&done, &["warning: uid 0 is exempt"]);
    }
    // Istio 1.0's script exempts root by itself.
    let done = run("--mesh istio-1.0 -i *").expect(0, "").unwrap();
    is_silent_about(&done, &["root"]);
}

/// Where somebody listens for it; a pod has no sshd.
#[test]
fn ssh_is_announced_before_it_is_captured() {
    let namespace = Namespace::new();
    let apply = || {
        let mut apply = product();
        let done = namespace.run(apply.args(["-p", "15001", "-u", "1337"]));
        done.expect(0, "apply").unwrap().err
    };
    assert!(!apply().contains("SSH"));
    let sshd = namespace.enter(|| std::net::TcpListener::bind(("0.0.0.0", 22)));
    namespace.run(product().arg("clean")).must("clean");
    let said = apply();
    let announced = said.find("SSH (port 22) will be redirected");
    assert!(
        announced.is_some() && announced < said.find("installed"),
        "{said}"
    );
    drop(sshd);
}

#[test]
fn a_dry_clean_says_that_nothing_is_here() {
    let namespace = Namespace::new();
    let done = run_in(&namespace, "clean --dry-run").expect(0, "").unwrap();
    says(&done, &["no managed rules"]);
    assert_eq!(done.out, "");
    run_in(&namespace, "-p 15001 -u 1337")
        .expect(0, "")
        .unwrap();
    let done = run_in(&namespace, "clean --dry-run").expect(0, "").unwrap();
    assert!(done.out.contains("ISTIO_OUTPUT") && done.err.is_empty());
}

#[test]
fn a_named_namespace_is_found_where_ip_netns_keeps_it() {
    let (here, there) = (Namespace::new(), Namespace::new());
    let script = format!(
        "mkdir -p /run/netns; mount -t tmpfs none /run/netns; : >/run/netns/mypod
        mount --bind {} /run/netns/mypod; exec {} --network-namespace mypod -p 15001 -u 1337",
        there.path().display(),
        product().get_program().display(),
    );
    let mut own_mounts = Command::new("unshare");
    own_mounts.args(["-m", "sh", "-ec", &script]);
    let done = here.run(&mut own_mounts);
    done.expect(0, "a namespace by name").unwrap();
    assert!(there.sh("iptables -t nat -S").contains("ISTIO_OUTPUT"));
    assert!(!here.sh("iptables -t nat -S").contains("ISTIO_OUTPUT"));
}

/// The way out is the one of the place: a shell, a pod, a user within a pod.
#[test]
fn a_missing_capability_is_granted_where_one_stands() {
    let run = |wrapper: &str, in_pod: bool| -> Done {
        let namespace = Namespace::new();
        let mut words = wrapper.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg(product().get_program());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if in_pod {
            command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        }
        let done = namespace.run(command.args(["-p", "15001", "-u", "1337"]));
        done.expect(3, wrapper).unwrap()
    };
    const POD: &str = "capabilities: {add: [NET_ADMIN]}";
    let user = "setpriv --reuid=1000 --regid=1000 --clear-groups";
    let shell = run(user, false);
    says(
        &shell,
        &["with sudo in front", "AmbientCapabilities=CAP_NET_ADMIN"],
    );
    is_silent_about(&shell, &[POD]);
    let granted = "--bounding-set=-all,+net_admin --inh-caps=-all";
    let in_vain = run(&format!("{user} {granted}"), true);
    says(
        &in_vain,
        &["granted to this container", "uid 1000", "runAsUser: 0"],
    );
    let pod = run("setpriv --bounding-set=-all --inh-caps=-all", true);
    says(&pod, &[POD]);
    is_silent_about(&pod, &["sudo", "AmbientCapabilities"]);
}

#[test]
fn a_value_cannot_forge_a_message() {
    let mut command = product();
    let value = "80\nprepare-proxy: installed: all is well\r\x1b[2K";
    command.args(["--mesh", "istio", "-b", value]);
    let done = Namespace::new().run(&mut command);
    let done = done.expect(2, "a bad port").unwrap();
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    says(
        &done,
        &["80\\nprepare-proxy: installed: all is well\\r\\u{1b}[2K"],
    );
    // In a path as well, where it is not quoted.
    let mut command = product();
    command.args(["--env-file", "/nonexistent\nprepare-proxy: installed"]);
    let done = Namespace::new().run(&mut command);
    let done = done.expect(2, "a bad path").unwrap();
    let forged = done
        .err
        .lines()
        .filter(|l| l.starts_with("prepare-proxy: installed"));
    assert_eq!(forged.count(), 0, "{}", done.err);
}

/// A complaint that nobody can read is no reason to end.
#[test]
fn a_malformed_rust_log_is_ignored_even_if_nobody_can_be_told() {
    for (redirection, code) in [
        ("", 0),
        ("2>/dev/full", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
    ] {
        let script = format!(
            "RUST_LOG=a=b=c {} -p 15001 -u 1337 {redirection}",
            product().get_program().display()
        );
        let done = Namespace::new().run(Command::new("sh").args(["-c", &script]));
        let done = done.expect(code, &script).unwrap();
        if redirection.is_empty() {
            says(&done, &["warning: RUST_LOG is ignored: ", "a=b=c"]);
        }
    }
}

#[test]
fn verbose_logs_more() {
    let lines = |flag: &str| {
        let done = run(&format!("-p 15001 -u 1337 {flag}")).expect(0, flag);
        done.unwrap().err.lines().count()
    };
    assert!(lines("") < lines("-v"));
}

#[test]
fn help_is_an_action_too() {
    for (line, part) in [("help", "Actions:"), ("help diff", "prepare-proxy diff")] {
        let done = run(line).expect(0, line).unwrap();
        assert!(done.out.contains(part), "{}", done.out);
    }
    // By another name the usage says that name, once.
    let mut command = product();
    std::os::unix::process::CommandExt::arg0(&mut command, "istio-iptables");
    let done = Namespace::new()
        .run(command.arg("--help"))
        .expect(0, "")
        .unwrap();
    assert!(
        done.out.contains("Usage: istio-iptables [OPTIONS]"),
        "{}",
        done.out
    );
}

/// One way of saying that something is wrong, whoever found it.
#[test]
fn errors_have_one_prefix() {
    for line in [
        "--nope",
        "-p x -u 1",
        "-p 1 -u 1 -b 80",
        "istio-iptables --nope",
        "surplus",
    ] {
        let done = run(line).expect(2, line).unwrap();
        assert!(
            done.err.starts_with("prepare-proxy: error: "),
            "{}",
            done.err
        );
    }
}

/// As wide as the terminal, no wider.
#[test]
fn help_is_wrapped() {
    let mut command = product();
    let done = Namespace::new().run(command.arg("-h").env("COLUMNS", "60"));
    let done = done.expect(0, "-h").unwrap();
    let options = done.out.split("Examples:").next().unwrap_or_default();
    let options = options.split("Actions:").nth(1).unwrap_or_default();
    let long: Vec<&str> = options.lines().filter(|l| l.len() > 60).collect();
    assert!(long.is_empty(), "{long:#?}");
}
