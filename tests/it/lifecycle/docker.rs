//! Docker in the pod: containers behind a bridge, their DNS, and the ports that it publishes.

use super::on_every_backend;
use super::world::{apply, run};
use crate::lab::{APP, Done, Lab, Namespace, PROXY, ROOT, Server, Variant, lab, same};
use prepare_proxy::netfilter::model::Family;

const CAPTURED: &str = "--mesh istio -i * -b * --redirect-dns";

/// A query of a container comes in through the bridge, and its answer as that of any query.
#[test]
fn containers_get_answers_while_dns_is_captured() {
    on_every_backend(|backend| {
        let world = Lab::around(Namespace::with_resolv_conf("nameserver 203.0.113.53\n"));
        let container = world.guest_behind("docker0");
        world.pod.sysctl("ipv4/ip_forward", "1");
        world
            .pod
            .sh("iptables-nft -t nat -A POSTROUTING -s 10.67.0.0/24 ! -o docker0 -j MASQUERADE");
        let _server = Server::start(
            &world.peer,
            ROOT,
            &["serve", "--name=server", "udp:203.0.113.53:53"],
        );
        let _agent = Server::start(
            &world.pod,
            PROXY,
            &["serve", "--name=agent", "udp:127.0.0.1:15053"],
        );
        let asks = |who: &Namespace, answers: &str| {
            let done = who.run(lab(APP).args(["query", "203.0.113.53:53"]));
            let done = done.expect(0, answers)?;
            match done.out.contains(answers) {
                true => Ok(()),
                false => Err(format!("not {answers}: {}", done.out)),
            }
        };
        asks(&container, "server").map_err(|e| format!("before: {e}"))?;
        for more in ["", "-k docker0", "-c docker0", "--capture-all-dns"] {
            apply(&world.pod, backend, &format!("{CAPTURED} {more}"))?;
            asks(&world.pod, "agent").map_err(|e| format!("{more}: {e}"))?;
            asks(&container, "server").map_err(|e| format!("{more}: {e}"))?;
        }
        Ok(())
    });
}

#[track_caller]
fn warns(done: &Done, kind: &str, whether: bool) {
    let said = done.kinds().iter().any(|k| k == kind);
    assert_eq!(said, whether, "{kind}: {}", done.err);
}

/// What docker writes in a container of a network of its own, where its nameserver is 127.0.0.11.
const NAMESERVER: &str = "
    TOOL -t nat -N DOCKER_OUTPUT
    TOOL -t nat -N DOCKER_POSTROUTING
    TOOL -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT
    TOOL -t nat -A POSTROUTING -d 127.0.0.11 -j DOCKER_POSTROUTING
    TOOL -t nat -A DOCKER_OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:36321
    TOOL -t nat -A DOCKER_POSTROUTING -s 127.0.0.11 -p udp --sport 36321 -j SNAT --to :53
";

/// Docker's script with the tool whose tables a backend writes, or else those of nf_tables.
fn in_tables_of(backend: &str, script: &str) -> String {
    script.replace("TOOL", &Variant::of(backend).tool(Family::V4, ""))
}

#[test]
fn its_own_nameserver_answers_the_agent_and_the_agent_the_app() {
    on_every_backend(|backend| {
        let pod = Namespace::with_resolv_conf("nameserver 127.0.0.11\n");
        pod.sh(&in_tables_of(backend, NAMESERVER));
        let _servers = [
            (ROOT, ["serve", "--name=docker", "udp:127.0.0.11:36321"]),
            (PROXY, ["serve", "--name=agent", "udp:127.0.0.1:15053"]),
        ]
        .map(|(user, args)| Server::start(&pod, user, &args));
        let asks = |user, answers: &str| {
            let done = pod.run(lab(user).args(["query", "127.0.0.11:53"]));
            let done = done.expect(0, answers)?;
            done.check(done.out.contains(answers), answers)
        };
        asks(APP, "docker")?;
        for more in ["", "--capture-all-dns"] {
            let options = format!("{CAPTURED} {more}");
            let done = apply(&pod, backend, &options)?;
            warns(&done, "rule-ahead", false);
            asks(APP, "agent")?;
            asks(PROXY, "docker")?;
            run(&pod, &format!("diff --backend {backend} {options}")).expect(0, more)?;
        }
        run(&pod, "clean").expect(0, "clean")?;
        asks(APP, "docker")
    });
}

/// What docker does for `-p 80:8080`.
const PUBLISHED: &str = "
    iptables-nft -t nat -N DOCKER
    iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
    iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
    iptables-nft -t nat -A DOCKER ! -i docker0 -p PROTOCOL --dport 80 -j DNAT --to-destination 172.17.0.2:8080
";

#[test]
fn a_published_port_is_said_to_bypass_the_proxy() {
    for (protocol, options, bypasses) in [
        ("tcp", "-b *", true),
        ("tcp", "-b 80", true),
        ("tcp", "-b 81", false),
        ("tcp", "-b * -d 80", false),
        ("tcp", "-i *", false),
        ("udp", "-b *", false),
    ] {
        for backend in ["netlink", "nftables"] {
            let namespace = Namespace::new();
            namespace.sh(&PUBLISHED.replace("PROTOCOL", protocol));
            let line = format!("--backend {backend} --mesh istio {options} --log-format json");
            let what = format!("{protocol} {line}");
            // nftables' own tables come before iptables'.
            let bypasses = bypasses && backend == "netlink";
            for _ in 0..2 {
                let done = run(&namespace, &line).expect(0, &what).unwrap();
                warns(&done, "rule-ahead", bypasses);
            }
        }
    }
}

/// A port that docker publishes comes to the proxy where that is asked for, whatever is put ahead later.
#[test]
fn a_published_port_comes_to_the_proxy_where_our_rules_are_first() {
    for (options, port) in [
        ("-p 15001 -u 1337", "15001"),
        ("--mesh istio-1.0 -u 1337 -b 80", "15001"),
        ("--mesh istio -u 1337 -b *", "15006"),
        ("--mesh linkerd", "4143"),
    ] {
        on_every_backend(|backend| {
            let world = Lab::new();
            let script = PUBLISHED.replace("PROTOCOL", "tcp");
            let tool = Variant::of(backend).tool(Family::V4, "");
            let script = script.replace("iptables-nft", &tool);
            world.pod.sh(&script);
            let _proxy = Server::start(
                &world.pod,
                PROXY,
                &["proxy", "--announce", &format!("{port},to=nowhere")],
            );
            let arrives = || {
                let connect = ["connect", "--timeout=1", "10.66.0.2:80"];
                world
                    .peer
                    .run(lab(APP).args(connect))
                    .out
                    .contains("by=proxy")
            };
            let native = backend == "nftables";
            let check = |expected: bool, when: &str| match arrives() == expected {
                true => Ok(()),
                false => Err(format!(
                    "{options}: the proxy is reached {when}: {}",
                    !expected
                )),
            };
            apply(&world.pod, backend, options)?;
            check(native, "behind docker's rules")?;
            let line = format!("{options} --prerouting-first");
            let diff = |status| {
                let diff = format!("diff --backend {backend} {line}");
                run(&world.pod, &diff).expect(status, &diff)
            };
            diff(i32::from(!native))?;
            let done = apply(&world.pod, backend, &line)?;
            warns(&done, "rule-ahead", false);
            check(true, "before them")?;
            diff(0)?;
            let before = world.pod.sh(&format!("{tool} -t nat -S DOCKER"));
            world
                .pod
                .sh(&format!("{tool} -t nat -I PREROUTING -p tcp -j ACCEPT"));
            diff(i32::from(!native))?;
            apply(&world.pod, backend, &line)?;
            check(true, "after a second apply")?;
            diff(0)?;
            let after = world.pod.sh(&format!("{tool} -t nat -S DOCKER"));
            same(&*before, &*after, "docker's rules")
        });
    }
}

/// Docker comes later as a rule, and then its rules are behind ours.
#[test]
fn a_rule_behind_ours_is_none_of_it() {
    let namespace = Namespace::new();
    let line = "--mesh istio -b * --log-format json";
    run(&namespace, line).expect(0, line).unwrap();
    namespace.sh(&PUBLISHED.replace("PROTOCOL", "tcp"));
    let done = run(&namespace, line).expect(0, line).unwrap();
    warns(&done, "rule-ahead", false);
}
