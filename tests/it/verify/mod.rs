//! `verify`, against rules that are right, wrong, or not there, with much privilege and with none. The
//! results are read as JSON.

mod cases;

use crate::lab::{APP, BACKENDS, Done, Lab, PROXY, Server, User, product};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Stdio};

/// The container that Istio's injector adds where a CNI plugin writes the rules: the proxy's user,
/// without any capability and without a way to get one.
const VALIDATION_CONTAINER: &str = "setpriv --reuid 1337 --regid 1337 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs";

const ISTIO: &str = "--mesh istio -i * -x  -b * -d 15090,15021,15020";

/// A mesh, with its options, in words between spaces.
const MESHES: [&str; 5] = [
    "--mesh nginmesh -p 15001 -u 1337",
    "--mesh istio-1.0 -i * -b * -x 198.51.100.0/24",
    "--mesh istio -i * -b * -o 9000 -x 198.51.100.0/24 --redirect-dns --capture-all-dns",
    "--mesh istio -i 203.0.113.0/24 -b 8080 -q 9000",
    "--mesh linkerd -o 9000 -x 198.51.100.0/24 -d 4190-4191",
];

/// TPROXY's listener needs a capability; its traffic is known by its group.
const ROOT_PROXY: User = User(0, 1337);

const TPROXY: &str = "--mesh istio -m TPROXY -i * -b *";

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ')
}

fn command(wrapper: &str, line: &str) -> Command {
    let product = product();
    let mut all: Vec<String> = wrapper.split_whitespace().map(str::to_owned).collect();
    all.push(product.get_program().to_str().unwrap().to_owned());
    let mut command = Command::new(&all[0]);
    command.args(&all[1..]).args(words(line));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn run(lab: &Lab, wrapper: &str, line: &str) -> Done {
    lab.pod.run(&mut command(wrapper, line))
}

fn apply(lab: &Lab, backend: &str, mesh: &str) {
    run(lab, "", &format!("apply --backend {backend} {mesh}")).must("apply");
}

/// A report and the exit status.
#[derive(Debug)]
struct Verified {
    code: Option<i32>,
    report: Value,
    err: String,
}

/// Tries once.
fn verify(lab: &Lab, wrapper: &str, mesh: &str) -> Verified {
    let done = run(
        lab,
        wrapper,
        &format!("verify --format json --probe-timeout 0 {mesh}"),
    );
    Verified {
        code: done.code,
        report: serde_json::from_str(&done.out).unwrap_or_default(),
        err: done.err,
    }
}

impl Verified {
    #[track_caller]
    fn ends(self, code: i32, what: &str) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{what}: {}\n{:#}",
            self.err,
            self.report
        );
        self
    }

    fn checks(&self, result: &str) -> Vec<&Value> {
        let checks = self.report["checks"].as_array().expect("checks");
        checks.iter().filter(|c| c["result"] == result).collect()
    }

    /// Whether what came in for a port from outside ended so.
    fn inbound(&self, result: &str, port: u16) -> bool {
        let to = format!("10.66.0.2:{port}");
        let mut checks = self.checks(result).into_iter();
        checks.any(|c| c["to"] == *to && c["interface"] == "eth0" && c["means"] != "listener")
    }
}

#[test]
fn rules_that_are_right_hold_on_every_backend() {
    for backend in BACKENDS {
        for mesh in MESHES {
            let lab = Lab::new();
            apply(&lab, backend, mesh);
            let done = verify(&lab, "", mesh).ends(0, &format!("{backend}, {mesh}"));
            assert!(done.checks("holds").len() >= 3, "{done:?}");
            let open = done.checks("inconclusive");
            assert!(open.is_empty(), "{backend}, {mesh}: {open:#?}");
        }
    }
}

#[test]
fn tproxy_holds() {
    for family in ["", " --dual-stack"] {
        let lab = Lab::new();
        let mesh = format!("{TPROXY}{family}");
        apply(&lab, "netlink", &mesh);
        let done = verify(&lab, "", &mesh).ends(0, &mesh);
        assert!(done.checks("holds").len() >= 8, "{done:?}");
    }
}

#[test]
fn without_rules_nothing_holds() {
    for mesh in MESHES {
        let lab = Lab::new();
        let done = verify(&lab, "", mesh).ends(126, mesh);
        assert!(!done.checks("fails").is_empty(), "{done:?}");
    }
}

#[test]
fn the_installed_rules_are_verified_where_no_options_are_given() {
    let lab = Lab::new();
    let nothing = run(&lab, "", "verify --format json --probe-timeout 0");
    let report: Value = serde_json::from_str(&nothing.out).expect("JSON");
    assert_eq!(
        (nothing.code, &report["nothing-installed"]),
        (Some(126), &true.into())
    );
    for backend in BACKENDS {
        for mesh in MESHES.iter().chain([&TPROXY]) {
            let lab = Lab::new();
            apply(&lab, backend, mesh);
            let what = format!("{backend}, {mesh}");
            let nothing = "--log-format text";
            verify(&lab, "", nothing).ends(0, &what);
            lab.pod.sh("iptables-nft -t nat -I OUTPUT -p tcp -j ACCEPT");
            // An ACCEPT ends the chain, not the chains of other tables.
            let code = match backend {
                "netlink" | "iptables-nft" => 126,
                _ => 0,
            };
            verify(&lab, "", nothing).ends(code, &format!("{what}, accepted ahead"));
        }
    }
}

#[test]
fn a_rule_that_is_gone_is_missed_where_it_counts() {
    let lab = Lab::new();
    let mesh = MESHES[0];
    apply(&lab, "netlink", mesh);
    lab.pod.sh("iptables-nft -t nat -S ISTIO_OUTPUT | grep uid-owner | sed 's/^-A/iptables-nft -t nat -D/' | sh");
    let done = verify(&lab, "", mesh).ends(126, mesh);
    let failed = done.checks("fails");
    assert!(failed.iter().all(|c| c["user"]["uid"] == 1337), "{done:?}");
    let held = done.checks("holds");
    assert!(held.iter().any(|c| c["user"]["uid"] == 1000), "{done:?}");
}

#[test]
fn what_comes_in_is_judged_by_the_rules() {
    let lab = Lab::new();
    let mesh = "--mesh istio -b 8080 -i *";
    apply(&lab, "netlink", mesh);
    let done = verify(&lab, "", mesh).ends(0, mesh);
    assert!(done.inbound("holds", 8080), "{done:?}");
    lab.pod
        .sh("iptables-nft -t nat -I PREROUTING -p tcp --dport 8080 -j RETURN");
    let done = verify(&lab, "", mesh).ends(126, mesh);
    assert!(done.inbound("fails", 8080), "{done:?}");
    // What cannot be decoded may be about anything: nothing that comes in is proved to be captured.
    lab.pod.sh("iptables-nft -t nat -D PREROUTING 1; nft insert rule ip nat PREROUTING numgen random mod 2 == 0 drop");
    let done = verify(&lab, "", mesh).ends(2, mesh);
    assert!(done.inbound("inconclusive", 8080), "{done:?}");
}

#[test]
fn a_foreign_rule_ahead_is_named() {
    for (rule, port) in [
        ("-p tcp -d 192.0.2.0/24 -j REDIRECT --to-ports 9", 15002),
        ("-p tcp --dport 3306 -j ACCEPT", 3306),
    ] {
        let lab = Lab::new();
        apply(&lab, "netlink", MESHES[0]);
        lab.pod.sh(&format!("iptables-nft -t nat -I OUTPUT {rule}"));
        let done = verify(&lab, "", MESHES[0]).ends(126, rule);
        let failed = done.checks("fails");
        let to = format!("192.0.2.1:{port}");
        let named = |c: &&&Value| c["to"] == *to && c["by"]["managed"] == false;
        assert!(failed.iter().any(|c| named(&c)), "{done:?}");
    }
}

#[test]
fn istios_validation_container_needs_no_capability() {
    let line = format!(
        "istio-iptables {} --run-validation --skip-rule-apply --probe-timeout 0",
        &ISTIO[13..]
    );
    let lab = Lab::new();
    run(&lab, VALIDATION_CONTAINER, &line)
        .expect(126, "no rules")
        .unwrap();
    apply(&lab, "netlink", ISTIO);
    run(&lab, VALIDATION_CONTAINER, &line)
        .expect(0, "rules")
        .unwrap();
    let done = verify(&lab, VALIDATION_CONTAINER, ISTIO).ends(0, "rules");
    let captured = |c: &&Value| c["expected"]["captured"] == 15006;
    assert!(done.checks("holds").iter().any(captured), "{done:?}");
    assert_eq!(done.report["rules-unread"]["why"], "net-admin");
}

#[test]
fn what_may_not_be_read_is_said() {
    let lab = Lab::new();
    apply(&lab, "netlink", ISTIO);
    let net_admin = "setpriv --reuid 1337 --regid 1337 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin";
    let done = verify(&lab, net_admin, ISTIO).ends(0, "NET_ADMIN alone");
    assert_eq!(done.report["rules-unread"]["why"], "legacy");
    let outside = |c: &&Value| c.get("interface").is_some();
    assert!(!done.checks("holds").iter().any(outside), "{done:?}");
}

#[test]
fn rules_that_come_a_moment_later_are_waited_for() {
    let lab = Lab::new();
    let mesh = MESHES[0];
    let validated = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&lab, "", &format!("verify --probe-timeout 120s {mesh}")));
        // By then it has failed at least once, or else it has nothing to wait for: both are allowed.
        std::thread::sleep(std::time::Duration::from_millis(300));
        apply(&lab, "netlink", mesh);
        waiting.join().unwrap()
    });
    validated.expect(0, "later").unwrap();
}

#[test]
fn an_interrupted_run_reports_what_is_known() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let lab = Lab::new();
        let mut command = command(
            "",
            &format!("verify --format json --probe-timeout 1h {}", MESHES[0]),
        );
        let child = lab
            .pod
            .spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let pid = Pid::from_raw(child.id() as i32);
        // A signal is as good as another: one that comes before it can be held back ends it at once.
        std::thread::sleep(std::time::Duration::from_secs(2));
        kill(pid, signal).unwrap();
        let done = Done::from(child.wait_with_output().unwrap());
        let report: Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(report["interrupted"], true, "{signal}: {report}");
        assert_eq!(done.code, Some(2), "{signal}: {report}");
    }
}

#[test]
fn beside_a_proxy_the_kernels_tables_tell() {
    let ports = ["proxy", "15001", "15006"];
    let transparent = ["proxy", "15001", "15006,transparent,from=peer,mark=1337"];
    for (mesh, user, ports) in [(MESHES[2], PROXY, ports), (TPROXY, ROOT_PROXY, transparent)] {
        let lab = Lab::new();
        apply(&lab, "netlink", mesh);
        let _proxy = Server::start(&lab.pod, user, &ports);
        let done = verify(&lab, "", mesh).ends(0, mesh);
        let by_tables = |c: &&Value| c["means"] == "socket-table" || c["means"] == "conntrack";
        assert!(
            done.checks("holds").iter().filter(|c| by_tables(c)).count() > 3,
            "{done:?}"
        );
    }
}

#[test]
fn beside_a_proxy_no_privilege_is_needed_to_see_it() {
    let lab = Lab::new();
    apply(&lab, "netlink", MESHES[0]);
    let _proxy = Server::start(&lab.pod, PROXY, &["proxy", "15001"]);
    let User(uid, gid) = APP;
    let wrapper = format!("setpriv --reuid {uid} --regid {gid} --clear-groups");
    let done = verify(&lab, &wrapper, MESHES[0]).ends(0, "the app");
    let by_table = |c: &&Value| c["means"] == "socket-table";
    assert!(done.checks("holds").iter().any(by_table), "{done:?}");
}

#[test]
fn nothing_goes_further_than_the_next_hop() {
    let lab = Lab::new();
    // The peer is a router on the way to 192.0.2.0/24, and counts what it would pass on.
    lab.peer
        .sh("ip route add 192.0.2.0/24 via 10.66.0.2 dev eth0 onlink
         iptables-nft -A FORWARD -d 192.0.2.0/24");
    apply(&lab, "netlink", MESHES[0]);
    verify(&lab, "", MESHES[0]).ends(0, "verify");
    let counted = lab
        .peer
        .sh("iptables-nft -L FORWARD -nvx | awk '/192.0.2.0/ {print $1}'");
    assert_eq!(counted.trim(), "0");
}

#[test]
fn where_nothing_can_be_tried_it_is_inconclusive() {
    let nowhere = crate::lab::Namespace::new();
    nowhere.sh("ip addr flush dev lo && ip link set lo down");
    let mut command = product();
    command
        .args(["verify", "--format", "json", "--probe-timeout", "0"])
        .args(words(MESHES[0]));
    let done = nowhere.run(&mut command).expect(2, "lo is down").unwrap();
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["verdict"], "inconclusive");
}

#[test]
fn each_result_is_printed_and_what_fails_once_more_with_a_remedy() {
    let lab = Lab::new();
    apply(&lab, "netlink", MESHES[0]);
    lab.pod
        .sh("iptables-nft -t nat -I OUTPUT -p tcp --dport 3306 -j ACCEPT");
    let done = run(&lab, "", &format!("verify --probe-timeout 0 {}", MESHES[0]));
    let done = done.expect(126, "accepted ahead").unwrap();
    let (lines, summary) = done.out.split_once("\n\n").expect("a summary");
    let failed = |text: &str| text.lines().filter(|l| l.starts_with('✗')).count();
    assert!(
        failed(lines) > 0 && failed(lines) == failed(summary),
        "{}",
        done.out
    );
    assert!(lines.lines().any(|l| l.starts_with('✓')), "{}", done.out);
    assert!(summary.starts_with('✗'), "{}", done.out);
    assert_eq!(
        summary.lines().filter(|l| l.starts_with("  ")).count(),
        failed(summary)
    );
}
