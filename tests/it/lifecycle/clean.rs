//! Clean removes everything that apply added.

use super::on_every_backend;
use super::world::{ISTIO, SOME, apply, everything, rules, run};
use crate::lab::{Namespace, same};

#[test]
fn nothing_to_clean_is_no_error() {
    let namespace = Namespace::new();
    let before = everything(&namespace);
    let done = run(&namespace, "clean --log-format json");
    let done = done.expect(0, "clean").unwrap();
    assert_eq!(done.out, "");
    done.says("nothing-to-remove").unwrap();
    assert_eq!(before, everything(&namespace));
}

/// Unused tables and base chains are removed too, except those of iptables-legacy, which stay
/// empty.
#[test]
fn an_empty_namespace_is_empty_again() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let look = match backend {
            "iptables-legacy" => rules,
            _ => everything,
        };
        let before = look(&namespace);
        for options in [SOME, ISTIO] {
            apply(&namespace, backend, options)?;
            run(&namespace, "clean").expect(0, "clean")?;
            same(&before, &look(&namespace), "after apply and clean")?;
        }
        Ok(())
    })
}

/// Containers on a mesh-expansion VM: the clean-up of Istio once removed the DNS rules of Docker.
#[test]
fn clean_keeps_the_dns_rules_of_docker() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sh(
            "for i in iptables-nft iptables-legacy; do
                $i -t nat -N DOCKER_OUTPUT
                $i -t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:36909
                $i -t nat -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
            done",
        );
        let before = rules(&namespace);
        apply(&namespace, backend, ISTIO)?;
        run(&namespace, "clean").expect(0, "clean")?;
        same(&before, &rules(&namespace), "after apply and clean")
    })
}

#[test]
fn clean_keeps_foreign_routes() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sh(
            "ip rule add fwmark 0x10 lookup 133; ip rule add fwmark 0x539/0xff lookup 200
            ip rule add from 10.0.0.0/8 lookup 133 prio 77; ip route add 10.7.0.0/16 dev lo table 133
            ip addr add ::7/128 dev lo nodad; ip addr add 10.9.9.9/32 dev lo; ip -6 rule add fwmark 0x10 lookup 99",
        );
        let before = namespace.routing();
        apply(&namespace, backend, ISTIO)?;
        run(&namespace, "clean").expect(0, "clean")?;
        let after = namespace.routing();
        same(&before, &after, "after apply and clean")
    })
}
