//! Restricted hosts: missing files, users and kernel features.

use super::on_every_backend;
use super::world::{SOME, apply, everything, rules, run, run_under, the_program};
use crate::lab::{Done, Namespace, Variant, product, same};
use prepare_proxy::netfilter::model::Family;
use std::fs;
use std::process::Command;

/// Runs a shell script in its own mount namespace.
fn own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script]);
    command
}

#[test]
fn a_read_only_root_without_tmp_and_run_is_enough() {
    on_every_backend(|backend| {
        let (namespace, desired) = (Namespace::new(), Namespace::new());
        apply(&desired, backend, SOME)?;
        let program = the_program();
        let script = format!(
            "root=/mnt; mount -t tmpfs none $root
            for d in usr bin sbin lib lib64; do
                [ ! -e /$d ] || {{ mkdir $root/$d; mount --rbind /$d $root/$d; }}
            done
            mkdir $root/proc; mount --rbind /proc $root/proc
            : >$root/product; mount --bind {} $root/product
            mount -o remount,ro $root
            if touch $root/x 2>/dev/null; then exit 99; fi
            exec chroot $root /product --backend {backend} {SOME}",
            program.display()
        );
        let done = namespace.run(&mut own_mounts(&script));
        done.expect(0, "on a read-only root")?;
        same(&rules(&desired), &rules(&namespace), "on a read-only root")
    });
}

#[test]
fn ipv6_that_is_asked_for_and_switched_off_is_an_error() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
        let before = everything(&namespace);
        let line = format!("--backend {backend} -p 15001 -u 1337");
        let done = run(
            &namespace,
            &format!("--log-format json {line} --dual-stack"),
        )
        .expect(2, "IPv6")?;
        done.says("no-ipv6")?;
        same(&before, &everything(&namespace), "after a refusal")?;
        run(&namespace, &line).expect(0, "IPv4 alone")?;
        Ok(())
    });
}

#[test]
fn a_namespace_without_ipv6_gets_ipv4_alone() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
        for mesh in ["nginmesh -u 1337 -p 15001", "istio-1.0", "istio -b * -i *"] {
            let line = format!("--backend {backend} --mesh {mesh}");
            let done = run(&namespace, &line).expect(0, mesh)?;
            if !done.err.contains("(IPv4)") {
                return Err(done.err);
            }
        }
        Ok(())
    });
}

/// IPv6 is read over netlink, not from /proc, which may be hidden (`ProcSubset=pid`).
#[test]
fn ipv6_is_seen_without_proc() {
    let namespace = Namespace::new();
    namespace.sh(
        "ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up; ip addr add fd00::1/64 dev eth0 nodad",
    );
    let script = format!(
        "mount -t tmpfs none /proc; exec {} --mesh istio -b '*' -i '*'",
        the_program().display()
    );
    let hidden = namespace.run(&mut own_mounts(&script));
    let hidden = hidden.expect(0, "without /proc").unwrap();
    assert!(hidden.err.contains("(IPv4 and IPv6)"), "{}", hidden.err);
}

/// IPv6 is set per interface.
#[test]
fn one_interface_with_ipv6_is_enough() {
    let namespace = Namespace::new();
    namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
    namespace
        .sh("ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up");
    let line = "--mesh istio -b * -i * --dual-stack";
    run(&namespace, line).expect(2, line).unwrap();
    namespace.sysctl("ipv6/conf/eth0/disable_ipv6", "0");
    namespace.sh("ip addr add fd00::1/64 dev eth0 nodad");
    let done = run(&namespace, line).expect(0, line).unwrap();
    assert!(done.err.contains("(IPv4 and IPv6)"), "{}", done.err);
}

/// Without descriptors or memory the kernel cannot be queried.
#[test]
fn failed_queries_are_errors() {
    let namespace = Namespace::new();
    let before = everything(&namespace);
    let strace = "strace -f -o /dev/null -e trace=socket -e inject=socket:error=EMFILE:when=1";
    let line = "--log-format json --mesh istio -b * -i *";
    let done = run_under(&namespace, strace, &the_program(), line);
    let done = done.expect(1, "without an answer").unwrap();
    done.says("routing").unwrap();
    same(&before, &everything(&namespace), "without an answer").unwrap();
}

/// Runs a dry run with this /etc/passwd in its own mount namespace.
fn with_passwd(bytes: &str, options: &str) -> Done {
    let script = format!(
        "mount -t tmpfs none /mnt; printf '{bytes}' >/mnt/passwd; mount --bind /mnt/passwd /etc/passwd
        exec timeout 20 {} {options}",
        the_program().display()
    );
    Namespace::new().run(&mut own_mounts(&script))
}

#[test]
fn users_are_found_among_names_in_other_alphabets() {
    let latin = "root:x:0:0:root:/:/bin/sh\\nj\\374rgen:x:1000:1000:J\\374rgen:/:/bin/sh\\nistio-proxy:x:2102:2102::/:/bin/sh\\n";
    for options in ["--mesh istio -i '*'", "-p 15001 -u istio-proxy"] {
        let done = with_passwd(latin, options).expect(0, options).unwrap();
        assert!(done.err.contains("exempt uid 2102"), "{}", done.err);
    }
}

/// Different invalid bytes must not compare equal after conversion to UTF-8.
#[test]
fn a_user_name_that_is_not_utf8_matches_no_user() {
    let script = format!(
        "mount -t tmpfs none /mnt; printf 'j\\374rgen:x:1000:1000::/:/bin/sh\\n' >/mnt/passwd
        printf 'ENVOY_USER=j\\344rgen\\n' >/mnt/env; mount --bind /mnt/passwd /etc/passwd
        exec {} --mesh istio --env-file /mnt/env",
        the_program().display()
    );
    let done = Namespace::new().run(&mut own_mounts(&script));
    let done = done.expect(1, "a name of other bytes").unwrap();
    assert!(done.err.contains("not UTF-8"), "{}", done.err);
}

#[test]
fn a_number_that_no_user_can_have_is_an_error() {
    for number in ["+0", "4294967295", "4294967296", "", "0x7"] {
        let entry = format!("istio-proxy:x:{number}:0::/:/bin/sh\\n");
        let by_default = with_passwd(&entry, "--mesh istio -i '*'");
        let by_default = by_default.expect(1, number).unwrap();
        assert!(by_default.err.contains("/etc/passwd"), "{}", by_default.err);
        let by_name = with_passwd(&entry, "-p 15001 -u istio-proxy");
        let by_name = by_name.expect(2, number).unwrap();
        assert!(by_name.err.contains("no valid number"), "{}", by_name.err);
    }
}

/// A FIFO blocks; a device, or a file, may be endless.
#[test]
fn files_that_never_end_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fifo = directory.path().join("fifo");
    let endless = directory.path().join("endless");
    let script = format!(
        "mkfifo {}; truncate -s 1G {}",
        fifo.display(),
        endless.display()
    );
    let made = Command::new("sh").args(["-ec", &script]).status();
    assert!(made.expect("a shell").success());
    let (fifo, endless) = (fifo.display(), endless.display());
    let product = the_program();
    let product = product.display();
    const ODD: &str = "not a regular file";
    for (setting, code, says) in [
        (format!("{product} -p 1 -u 2 --env-file {fifo}"), 2, ODD),
        (format!("{product} -p 1 -u 2 --env-file -{fifo}"), 2, ODD),
        (format!("{product} -p 1 -u 2 --env-file /dev/zero"), 2, ODD),
        (format!("{product} -p 1 -u 2 --env-file /"), 2, ODD),
        (
            format!("{product} -p 1 -u 2 --env-file {endless}"),
            2,
            "longer than 16 MiB",
        ),
        (
            format!("ISTIO_SIDECAR_CONFIG={fifo} {product} --mesh istio-1.0"),
            2,
            ODD,
        ),
        (
            format!("mount --bind {fifo} /etc/resolv.conf; {product} --mesh istio --redirect-dns"),
            1,
            ODD,
        ),
        (
            format!("mount --bind {fifo} /etc/passwd; {product} --mesh istio"),
            1,
            ODD,
        ),
        (
            format!("{product} -p 1 -u 2 --network-namespace {fifo}"),
            2,
            "not a network namespace",
        ),
    ] {
        let script = format!("exec timeout 20 sh -ec '{setting}'");
        let done = Namespace::new().run(&mut own_mounts(&script));
        let done = done.expect(code, &setting).unwrap();
        assert!(done.err.contains(says), "{setting}: {}", done.err);
    }
}

#[test]
fn a_uid_that_the_user_namespace_does_not_map_is_named() {
    on_every_backend(|backend| {
        let outer = Namespace::new();
        // Root is the only mapped user.
        let unshare = "unshare --user --map-root-user --net --mount";
        let line = format!("--backend {backend} -p 15001 -u");
        let program = the_program();
        let done = run_under(&outer, unshare, &program, &format!("{line} 0,1337"));
        // nftables accepts the rule, which then never matches.
        let code = i32::from(backend != "nftables");
        let done = done.expect(code, "an unknown uid")?;
        if !done.err.contains("uid 1337") || !done.err.contains("/proc/self/uid_map") {
            return Err(done.err);
        }
        run_under(&outer, unshare, &program, &format!("{line} 0")).expect(0, "a known uid")?;
        Ok(())
    });
}

#[test]
fn a_tool_without_an_extension_says_which() {
    let namespace = Namespace::new();
    let before = rules(&namespace);
    let script = format!(
        "extensions=/usr/lib/x86_64-linux-gnu/xtables; mount -t tmpfs none /mnt
        cp -a $extensions/. /mnt; rm /mnt/libxt_owner.so; mount --bind /mnt $extensions
        exec {} --backend iptables-legacy {SOME}",
        the_program().display()
    );
    let done = namespace.run(&mut own_mounts(&script));
    let done = done.expect(1, "no libxt_owner").unwrap();
    assert!(done.err.contains("owner"), "{}", done.err);
    assert_eq!(before, rules(&namespace));
}

/// The image has no iptables: every option for nf_tables means netlink.
#[test]
fn every_name_of_nf_tables_works_without_a_program() {
    for line in [
        "--backend iptables-nft -p 15001 -u 1337",
        "istio-iptables --force-iptables-binary nft -b * -i *",
        "proxy-init --iptables-mode nft -p 4143 -o 4140 --proxy-uid 2102",
        "proxy-init --iptables-mode plain -p 4143 -o 4140 --proxy-uid 2102",
    ] {
        let namespace = Namespace::new();
        let script = format!(
            "mount -t tmpfs none /usr/sbin; set -f; exec {} {line}",
            the_program().display()
        );
        let done = namespace.run(&mut own_mounts(&script));
        done.expect(0, line).unwrap();
        let saved = namespace.iptables_save(Family::V4, Variant::Nft);
        assert!(saved.contains("-j REDIRECT"), "{line}: {saved}");
    }
}

/// An unset $PATH does not mean the working directory.
#[test]
fn tools_are_not_looked_for_in_the_working_directory() {
    let namespace = Namespace::new();
    let here = tempfile::tempdir().expect("a temporary directory");
    let plain = here.path().join("iptables-legacy-restore");
    fs::write(&plain, "").expect("a file");
    let mut command = product();
    command.current_dir(here.path()).env_remove("PATH");
    command.args(["--backend", "iptables-legacy"]);
    let done = namespace.run(command.args(SOME.split(' ')));
    done.expect(0, "without $PATH").unwrap();
}

#[test]
fn a_held_xtables_lock_is_waited_for_and_then_reported() {
    let namespace = Namespace::new();
    let script = format!(
        "mount -t tmpfs none /run; exec flock /run/xtables.lock {} --backend iptables-legacy {SOME}",
        the_program().display()
    );
    let done = namespace.run(&mut own_mounts(&script));
    let done = done.expect(1, "with the lock held").unwrap();
    assert!(done.err.contains("xtables lock"), "{}", done.err);
    assert!(done.err.contains("--backend netlink"), "{}", done.err);
    assert_eq!(rules(&namespace), "");
    // Backends without the lock are not delayed.
    let script = script.replace("iptables-legacy", "netlink");
    let done = namespace.run(&mut own_mounts(&script));
    done.expect(0, "netlink with the lock held").unwrap();
}

/// The rules are written, but old ones of another backend cannot be removed: the new ones need
/// their policy route.
#[test]
fn routes_stay_with_the_rules_that_were_written() {
    let namespace = Namespace::new();
    apply(&namespace, "iptables-legacy", SOME).unwrap();
    let script = format!(
        "mount -t tmpfs none /run
        exec flock /run/xtables.lock {} --backend netlink --mesh istio -m TPROXY -b 80",
        the_program().display()
    );
    let done = namespace.run(&mut own_mounts(&script));
    done.expect(1, "with the lock held").unwrap();
    let rules = rules(&namespace);
    assert!(rules.contains("-j TPROXY"), "{rules}");
    assert!(rules.contains("fwmark 0x539 lookup 133"), "{rules}");
}

/// gVisor has no xt comment match and reports "line N failed" only; so does this stub of
/// iptables-legacy-restore for every line with a comment.
#[test]
fn a_kernel_without_comments_gets_the_rules_without_them() {
    let namespace = Namespace::new();
    let script = format!(
        "mount -t tmpfs none /mnt
        printf '%s\\n' '#!/bin/sh' 'input=$(cat)' \
            'case $input in *\"-m comment\"*) echo \"iptables-restore: line 5 failed\" >&2; exit 1;; esac' \
            'printf \"%s\\n\" \"$input\" | /usr/sbin/iptables-legacy-restore \"$@\"' >/mnt/iptables-legacy-restore
        sed -i '2i [ \"$1\" != --version ] || exec /usr/sbin/iptables-legacy-restore \"$1\"' /mnt/iptables-legacy-restore
        chmod +x /mnt/iptables-legacy-restore
        PATH=/mnt:$PATH exec {} --backend iptables-legacy {SOME}",
        the_program().display()
    );
    let done = namespace.run(&mut own_mounts(&script));
    let done = done.expect(0, "without comments").unwrap();
    assert!(done.err.contains("no xt comment match"), "{}", done.err);
    let saved = namespace.sh("iptables-legacy-save");
    assert!(
        saved.contains("-A OUTPUT") && !saved.contains("--comment"),
        "{saved}"
    );
    // Managed without comments too: in sync, and removed by clean.
    let again = run(&namespace, &format!("--backend iptables-legacy {SOME}"));
    assert!(
        again
            .expect(0, "again")
            .unwrap()
            .err
            .contains("already in place")
    );
    run(&namespace, "clean").expect(0, "clean").unwrap();
    assert!(!namespace.sh("iptables-legacy-save").contains("-A "));
}
