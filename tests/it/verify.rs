//! `verify`, against rules that are right, wrong, or not there, with much privilege and with none.

use crate::lab::{APP, BACKENDS, Done, Lab, PROXY, Server, User, product};
use serde_json::Value;
use std::process::Command;

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

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ')
}

fn run(lab: &Lab, wrapper: &str, line: &str) -> Done {
    let product = product();
    let mut all = wrapper
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    all.push(product.get_program().to_str().unwrap().to_owned());
    let mut command = Command::new(&all[0]);
    command.args(&all[1..]).args(words(line));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    lab.pod.run(&mut command)
}

fn apply(lab: &Lab, backend: &str, mesh: &str) {
    run(lab, "", &format!("apply --backend {backend} {mesh}")).must("apply");
}

/// Tries without patience.
fn verify(lab: &Lab, wrapper: &str, mesh: &str) -> Done {
    run(lab, wrapper, &format!("verify --probe-timeout 0 {mesh}"))
}

/// The checks that begin with this sign.
fn lines<'a>(done: &'a Done, sign: &'a str) -> Vec<&'a str> {
    done.out
        .lines()
        .filter(|line| line.starts_with(sign))
        .collect()
}

#[test]
fn rules_that_are_right_hold_on_every_backend() {
    for backend in BACKENDS {
        for mesh in MESHES {
            let lab = Lab::new();
            apply(&lab, backend, mesh);
            let done = verify(&lab, "", mesh)
                .expect(0, &format!("{backend}, {mesh}"))
                .unwrap();
            assert!(
                lines(&done, "✓").len() >= 8,
                "{backend}, {mesh}: {}",
                done.out
            );
            assert_eq!(lines(&done, "–"), [""; 0], "{backend}, {mesh}");
        }
    }
}

#[test]
fn tproxy_holds() {
    for family in ["", " --dual-stack"] {
        let lab = Lab::new();
        let mesh = format!("--mesh istio -m TPROXY -i * -b *{family}");
        apply(&lab, "netlink", &mesh);
        let done = verify(&lab, "", &mesh).expect(0, "TPROXY").unwrap();
        assert!(lines(&done, "✓").len() >= 8, "{}", done.out);
    }
}

#[test]
fn without_rules_nothing_holds() {
    for mesh in MESHES {
        let lab = Lab::new();
        let done = verify(&lab, "", mesh).expect(126, mesh).unwrap();
        assert!(!lines(&done, "✗").is_empty(), "{}", done.out);
    }
}

#[test]
fn a_rule_that_is_gone_is_missed_where_it_counts() {
    let lab = Lab::new();
    let mesh = MESHES[0];
    apply(&lab, "netlink", mesh);
    lab.pod.sh("iptables-nft -t nat -S ISTIO_OUTPUT | grep uid-owner | sed 's/^-A/iptables-nft -t nat -D/' | sh");
    let done = verify(&lab, "", mesh).expect(126, mesh).unwrap();
    let failed = lines(&done, "✗");
    assert!(
        !failed.is_empty() && failed.iter().all(|l| l.contains("uid 1337")),
        "{}",
        done.out
    );
    assert!(
        lines(&done, "✓").iter().any(|l| l.contains("uid 1000")),
        "{}",
        done.out
    );
}

#[test]
fn what_comes_in_is_told_by_the_rules() {
    let lab = Lab::new();
    let mesh = "--mesh istio -b 8080 -i *";
    apply(&lab, "netlink", mesh);
    let inbound = |done: &Done, sign: &str, port: u16| {
        let to = format!("from outside to 10.66.0.2:{port} ");
        lines(done, sign)
            .iter()
            .any(|l| l.contains(&to) && l.contains("by the rules"))
    };
    let done = verify(&lab, "", mesh).expect(0, mesh).unwrap();
    assert!(
        inbound(&done, "✓", 8080) && inbound(&done, "✓", 15002),
        "{}",
        done.out
    );
    lab.pod
        .sh("iptables-nft -t nat -I PREROUTING -p tcp --dport 8080 -j RETURN");
    let done = verify(&lab, "", mesh).expect(126, mesh).unwrap();
    assert!(
        inbound(&done, "✗", 8080) && inbound(&done, "✓", 15002),
        "{}",
        done.out
    );
    // What cannot be read may be about anything.
    lab.pod.sh("iptables-nft -t nat -D PREROUTING 1; nft insert rule ip nat PREROUTING numgen random mod 2 == 0 drop");
    let done = verify(&lab, "", mesh).expect(0, mesh).unwrap();
    let untold = |l: &&&str| l.contains("from outside") && l.contains("cannot be read");
    assert_eq!(
        lines(&done, "–").iter().filter(untold).count(),
        3,
        "{}",
        done.out
    );
}

#[test]
fn a_foreign_rule_that_comes_first_is_found_out() {
    let lab = Lab::new();
    apply(&lab, "netlink", MESHES[0]);
    lab.pod
        .sh("iptables-nft -t nat -I OUTPUT -p tcp -d 192.0.2.0/24 -j REDIRECT --to-ports 9");
    let done = verify(&lab, "", MESHES[0]).expect(126, "foreign").unwrap();
    assert!(
        lines(&done, "✗")
            .iter()
            .any(|l| l.contains("192.0.2.1:15002")),
        "{}",
        done.out
    );
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
    let done = run(&lab, VALIDATION_CONTAINER, &line)
        .expect(0, "rules")
        .unwrap();
    assert!(
        lines(&done, "✓")
            .iter()
            .any(|l| l.contains("the proxy on port 15006")),
        "{}",
        done.out
    );
}

#[test]
fn rules_that_come_a_moment_later_are_waited_for() {
    let lab = Lab::new();
    let mesh = MESHES[0];
    let validated = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(&lab, "", &format!("verify --probe-timeout 30s {mesh}")));
        // By then it has failed at least once, or else it has nothing to wait for: both are allowed.
        std::thread::sleep(std::time::Duration::from_millis(300));
        apply(&lab, "netlink", mesh);
        waiting.join().unwrap()
    });
    validated.expect(0, "later").unwrap();
}

#[test]
fn where_a_proxy_listens_already_conntrack_tells() {
    let lab = Lab::new();
    let mesh = MESHES[2];
    apply(&lab, "netlink", mesh);
    let ports = ["proxy", "15001", "15006"];
    let _proxy = Server::start(&lab.pod, PROXY, &ports);
    let done = verify(&lab, "", mesh).expect(0, mesh).unwrap();
    let by_conntrack = |line: &&&str| line.contains("by conntrack");
    assert!(
        lines(&done, "✓").iter().filter(by_conntrack).count() > 4,
        "{}",
        done.out
    );
}

#[test]
fn where_it_cannot_be_told_it_says_so() {
    let lab = Lab::new();
    apply(&lab, "netlink", MESHES[0]);
    let _proxy = Server::start(&lab.pod, PROXY, &["proxy", "15001"]);
    let User(uid, gid) = APP;
    let wrapper = format!("setpriv --reuid {uid} --regid {gid} --clear-groups");
    let done = verify(&lab, &wrapper, MESHES[0]);
    assert!(
        done.code == Some(0) || done.code == Some(2),
        "{}{}",
        done.out,
        done.err
    );
    assert!(
        lines(&done, "–").iter().all(|l| l.contains("not told")),
        "{}",
        done.out
    );
    assert!(!lines(&done, "–").is_empty(), "{}", done.out);
}

#[test]
fn nothing_goes_further_than_the_next_hop() {
    let lab = Lab::new();
    // The peer is a router on the way to 192.0.2.0/24, and counts what it would pass on.
    lab.peer
        .sh("ip route add 192.0.2.0/24 via 10.66.0.2 dev eth0 onlink
         iptables-nft -A FORWARD -d 192.0.2.0/24");
    apply(&lab, "netlink", MESHES[0]);
    verify(&lab, "", MESHES[0]).expect(0, "verify").unwrap();
    let counted = lab
        .peer
        .sh("iptables-nft -L FORWARD -nvx | awk '/192.0.2.0/ {print $1}'");
    assert_eq!(counted.trim(), "0");
}

#[test]
fn the_report_is_data_too() {
    let lab = Lab::new();
    apply(&lab, "netlink", MESHES[0]);
    let done = verify(&lab, "", &format!("--format json {}", MESHES[0]))
        .expect(0, "json")
        .unwrap();
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.len() >= 8);
    for check in checks {
        assert_eq!(check["result"], "holds", "{check}");
        assert!(
            check["to"].is_string() && check["means"].is_string(),
            "{check}"
        );
    }
}

#[test]
fn where_nothing_can_be_tried_every_line_says_why() {
    let nowhere = crate::lab::Namespace::new();
    nowhere.sh("ip addr flush dev lo && ip link set lo down");
    let mut command = product();
    command
        .args(["verify", "--probe-timeout", "0"])
        .args(words(MESHES[0]));
    let done = nowhere.run(&mut command).expect(2, "lo is down").unwrap();
    assert!(lines(&done, "–").len() >= 4, "{}", done.out);
    assert!(
        lines(&done, "–")
            .iter()
            .all(|l| l.ends_with("there is no route to it")),
        "{}",
        done.out
    );
}
