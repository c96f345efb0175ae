//! A poor place to live in: capabilities, users, files and parts of the kernel that are missing.

use crate::lab::{Namespace, product};
use crate::on_every_backend;
use crate::world::{Done, SOME, apply, everything, rules, run, same};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the product by way of another program, given with its options, that changes what it may.
fn run_under(namespace: &Namespace, wrapper: &str, program: &Path, line: &str) -> Done {
    let mut words = wrapper.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    namespace.run(command.args(line.split_whitespace())).into()
}

fn the_product() -> PathBuf {
    product().get_program().into()
}

/// Root with these capabilities and no others.
fn with_only(namespace: &Namespace, capabilities: &[&str], line: &str) -> Done {
    let plus: String = capabilities.iter().map(|c| format!(",+{c}")).collect();
    let wrapper = format!("setpriv --bounding-set=-all{plus} --inh-caps=-all");
    run_under(namespace, &wrapper, &the_product(), line)
}

/// A shell script with a mount namespace of its own.
fn own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script]);
    command
}

#[test]
fn without_a_capability_nothing_is_touched_and_the_message_names_it() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        apply(&namespace, backend, "-p 1 -u 1")?;
        let before = everything(&namespace);
        for action in ["apply", "clean", "diff"] {
            let line = format!("{action} --backend {backend} {SOME}");
            let done = with_only(&namespace, &[], &line).expect(3, action)?;
            if !done.err.contains("CAP_NET_ADMIN is missing") || !done.err.contains("NET_ADMIN]") {
                return Err(done.err);
            }
        }
        same(&before, &everything(&namespace), "without a capability")
    });
}

#[test]
fn one_capability_is_enough_and_no_other_will_do() {
    let list = Command::new("setpriv").arg("--list-caps").output().unwrap();
    let all = String::from_utf8(list.stdout).unwrap();
    assert!(all.lines().count() > 35, "{all}");
    for capability in all.lines() {
        let namespace = Namespace::new();
        let apply = format!("--backend netlink {SOME}");
        let code = if capability == "net_admin" { 0 } else { 3 };
        for line in [&apply, "diff -p 1 -u 1", "clean"] {
            let code = if line.starts_with("diff") && code == 0 {
                1
            } else {
                code
            };
            let done = with_only(&namespace, &[capability], line);
            done.expect(code, &format!("{capability}: {line}")).unwrap();
        }
    }
}

#[test]
fn the_old_iptables_needs_raw_sockets_too() {
    let namespace = Namespace::new();
    let line = format!("--backend iptables-legacy {SOME}");
    let done = with_only(&namespace, &["net_admin"], &line);
    let done = done.expect(3, "without CAP_NET_RAW").unwrap();
    assert!(done.err.contains("CAP_NET_RAW"), "{}", done.err);
    let both = with_only(&namespace, &["net_admin", "net_raw"], &line);
    both.expect(0, "with CAP_NET_RAW").unwrap();
    // What cannot be looked into cannot be cleaned, and that is said.
    let clean = with_only(&namespace, &["net_admin"], "clean");
    let clean = clean.expect(3, "clean without CAP_NET_RAW").unwrap();
    assert!(clean.err.contains("CAP_NET_RAW"), "{}", clean.err);
    with_only(&namespace, &["net_admin", "net_raw"], "clean")
        .expect(0, "clean")
        .unwrap();
    // An apply beside it works, with a warning.
    let line = format!("--backend netlink {SOME}");
    let beside = with_only(&namespace, &["net_admin"], &line)
        .expect(0, &line)
        .unwrap();
    assert!(beside.err.contains("CAP_NET_RAW"), "{}", beside.err);
}

#[test]
fn another_namespace_needs_one_more() {
    let (here, there) = (Namespace::new(), Namespace::new());
    let line = format!("--network-namespace {} {SOME}", there.path().display());
    let done = with_only(&here, &["net_admin", "sys_ptrace"], &line)
        .expect(3, &line)
        .unwrap();
    assert!(done.err.contains("CAP_SYS_ADMIN"), "{}", done.err);
    with_only(&here, &["net_admin", "sys_ptrace", "sys_admin"], &line)
        .expect(0, &line)
        .unwrap();
    assert_eq!(rules(&here), "");
    assert_ne!(rules(&there), "");
}

#[test]
fn a_dry_run_needs_none() {
    let namespace = Namespace::new();
    let nobody =
        "setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --regid=65534 --clear-groups";
    let copy = Copy::new();
    let done = run_under(
        &namespace,
        nobody,
        &copy.program,
        &format!("--dry-run {SOME}"),
    );
    let done = done.expect(0, "a dry run").unwrap();
    assert!(done.out.contains("-j ISTIO_REDIRECT"), "{}", done.out);
}

/// A copy of the program that everybody may run.
struct Copy {
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let program = directory.path().join("prepare-proxy");
        fs::copy(the_product(), &program).expect("the program can be copied");
        Copy {
            program,
            _directory: directory,
        }
    }

    /// The same with file capabilities.
    fn capable(capabilities: &str) -> Self {
        let copy = Copy::new();
        let setcap = Command::new("setcap")
            .arg(capabilities)
            .arg(&copy.program)
            .output();
        let setcap = setcap.expect("setcap (libcap2-bin) is there");
        assert!(setcap.status.success(), "{setcap:?}");
        copy
    }
}

#[test]
fn a_user_needs_only_file_capabilities() {
    let user = "setpriv --reuid=1000 --regid=1000 --clear-groups";
    let namespace = Namespace::new();
    let line = format!("--backend netlink {SOME}");
    let without = run_under(&namespace, user, &Copy::new().program, &line);
    without.expect(3, "a user without anything").unwrap();
    let copy = Copy::capable("cap_net_admin=ep");
    run_under(&namespace, user, &copy.program, &line)
        .expect(0, &line)
        .unwrap();
    let wanted = rules(&namespace);
    assert_ne!(wanted, "");
    run_under(&namespace, user, &copy.program, &format!("diff {line}"))
        .expect(0, "diff")
        .unwrap();
    run_under(&namespace, user, &copy.program, "clean")
        .expect(0, "clean")
        .unwrap();
    assert_eq!(rules(&namespace), "");
    // Tools that are started do not inherit what the file has.
    let line = format!("--backend iptables-nft {SOME}");
    let done = run_under(&namespace, user, &copy.program, &line)
        .expect(3, &line)
        .unwrap();
    assert!(done.err.contains("iptables-nft"), "{}", done.err);
}

#[test]
fn a_read_only_root_without_tmp_and_run_is_enough() {
    on_every_backend(|backend| {
        let (namespace, wanted) = (Namespace::new(), Namespace::new());
        apply(&wanted, backend, SOME)?;
        let program = the_product();
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
        let done: Done = namespace.run(&mut own_mounts(&script)).into();
        done.expect(0, "on a read-only root")?;
        same(&rules(&wanted), &rules(&namespace), "on a read-only root")
    });
}

#[test]
fn ipv6_that_is_asked_for_and_switched_off_is_an_error() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
        let before = everything(&namespace);
        let line = format!("--backend {backend} -p 15001 -u 1337");
        let done = run(&namespace, &format!("{line} --dual-stack")).expect(2, "IPv6")?;
        if !done.err.contains("--dual-stack: IPv6 is asked for") {
            return Err(done.err);
        }
        same(&before, &everything(&namespace), "after a refusal")?;
        run(&namespace, &line).expect(0, "IPv4 alone")?;
        Ok(())
    });
}

#[test]
fn a_uid_that_the_user_namespace_does_not_map_is_named() {
    on_every_backend(|backend| {
        let outer = Namespace::new();
        // Root is the only user in there.
        let unshare = "unshare --user --map-root-user --net --mount";
        let line = format!("--backend {backend} -p 15001 -u");
        let program = the_product();
        let done = run_under(&outer, unshare, &program, &format!("{line} 0,1337"));
        // nftables takes the rule, which is never true then.
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
    let all = fs::read_dir("/usr/lib/x86_64-linux-gnu/xtables").expect("iptables' extensions");
    let some = tempfile::tempdir().expect("a temporary directory");
    for file in all.flatten().filter(|f| f.file_name() != "libxt_owner.so") {
        std::os::unix::fs::symlink(file.path(), some.path().join(file.file_name())).unwrap();
    }
    for backend in ["iptables-nft", "iptables-legacy"] {
        let namespace = Namespace::new();
        let before = rules(&namespace);
        let mut command = product();
        command
            .env("XTABLES_LIBDIR", some.path())
            .args(["--backend", backend]);
        let done: Done = namespace.run(command.args(SOME.split(' '))).into();
        let done = done.expect(1, backend).unwrap();
        assert!(done.err.contains("owner"), "{}", done.err);
        assert_eq!(before, rules(&namespace));
    }
}

#[test]
fn a_lock_that_somebody_holds_is_waited_for_and_then_named() {
    let namespace = Namespace::new();
    let script = format!(
        "mount -t tmpfs none /run; exec flock /run/xtables.lock {} --backend iptables-legacy {SOME}",
        the_product().display()
    );
    let done: Done = namespace.run(&mut own_mounts(&script)).into();
    let done = done.expect(1, "with the lock held").unwrap();
    assert!(done.err.contains("xtables lock"), "{}", done.err);
    assert!(done.err.contains("--backend netlink"), "{}", done.err);
    assert_eq!(rules(&namespace), "");
    // Who needs no lock is not held up by it.
    let script = script.replace("iptables-legacy", "netlink");
    let done: Done = namespace.run(&mut own_mounts(&script)).into();
    done.expect(0, "netlink with the lock held").unwrap();
}
