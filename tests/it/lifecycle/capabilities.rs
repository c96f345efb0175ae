//! What the program may do, capability by capability, and who else may run it.

use super::on_every_backend;
use super::world::{SOME, apply, everything, rules, run, run_under, the_product};
use crate::lab::{Done, Namespace, same};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Root with these capabilities and no others.
fn with_only(namespace: &Namespace, capabilities: &[&str], line: &str) -> Done {
    let plus: String = capabilities.iter().map(|c| format!(",+{c}")).collect();
    let wrapper = format!("setpriv --bounding-set=-all{plus} --inh-caps=-all");
    run_under(namespace, &wrapper, &the_product(), line)
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
    // What cannot be looked into cannot be cleaned, and that is said. All else goes.
    let elsewhere = "--backend netlink --mesh istio -m TPROXY -b 80 -t 77 -r 99";
    let applied = run(&namespace, elsewhere);
    applied.expect(0, "rules elsewhere").unwrap();
    assert!(rules(&namespace).contains("fwmark 0x4d lookup 99"));
    let clean = with_only(&namespace, &["net_admin"], "clean");
    let clean = clean.expect(3, "clean without CAP_NET_RAW").unwrap();
    assert!(clean.err.contains("CAP_NET_RAW"), "{}", clean.err);
    let left = rules(&namespace);
    assert!(
        !left.contains("fwmark") && !left.contains("ISTIO_"),
        "{left}"
    );
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
    // The kernel shows root alone whether there are legacy tables (where it has such tables at all): no
    // reason to warn each pod.
    Namespace::new().sh("iptables-legacy -S");
    let done = run_under(&namespace, user, &copy.program, &line);
    let done = done.expect(0, &line).unwrap();
    assert!(!done.err.contains("ip_tables_names"), "{}", done.err);
    let wanted = rules(&namespace);
    assert_ne!(wanted, "");
    run_under(&namespace, user, &copy.program, &format!("diff {line}"))
        .expect(0, "diff")
        .unwrap();
    // All is clean, but that remains unknown.
    let done = run_under(&namespace, user, &copy.program, "clean");
    let done = done.expect(3, "clean").unwrap();
    assert!(done.err.contains("ip_tables_names"), "{}", done.err);
    assert_eq!(rules(&namespace), "");
    let copy_for_clean = Copy::capable("cap_net_admin,cap_dac_read_search=ep");
    run_under(&namespace, user, &copy_for_clean.program, "clean")
        .expect(0, "clean")
        .unwrap();
    // Not for who could gain by it when that is forbidden.
    let shell = format!("{user} setpriv --no-new-privs");
    run_under(&namespace, &shell, &copy.program, &line)
        .expect(3, "with no_new_privs")
        .unwrap();
}
