//! How the program is called instead of the tools it replaces: by their names, with their files
//! and variables, and with the rest of istio-iptables' command line.

use crate::lab::{Done, Namespace, Variant, product};
use prepare_proxy::netfilter::model::Family;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use tempfile::TempDir;

/// The arguments that Istio's injector writes.
const INJECTED: [&str; 14] = [
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
];

#[track_caller]
fn ends(done: Done, code: i32) -> Done {
    done.expect(code, "").unwrap_or_else(|e| panic!("{e}"))
}

/// All rules of one family.
fn rules(namespace: &Namespace, family: Family) -> String {
    namespace.iptables_save(family, Variant::Nft)
}

/// The program under another name.
fn called(name: &str) -> Command {
    let mut command = product();
    command.arg0(name);
    command
}

fn istio(args: &[&str]) -> Command {
    let mut command = product();
    command.arg("istio-iptables").args(INJECTED).args(args);
    command
}

/// What a dry run with these files, variables and arguments makes of the inbound ports: the ports
/// of the rules that capture.
fn captured_ports(
    dir: &TempDir,
    files: &[(&str, &str)],
    env: &[(&str, &str)],
    args: &[&str],
) -> String {
    for name in ["cluster.env", "sidecar.env", "more.env"] {
        let content = files.iter().find(|(n, _)| *n == name);
        match content {
            Some((_, content)) => fs::write(dir.path().join(name), content).unwrap(),
            None => drop(fs::remove_file(dir.path().join(name))),
        }
    }
    let mut command = product();
    command
        .args(["--mesh", "istio-1.0", "--dry-run"])
        .env("ISTIO_CLUSTER_CONFIG", dir.path().join("cluster.env"))
        .env("ISTIO_SIDECAR_CONFIG", dir.path().join("sidecar.env"))
        .envs(env.iter().copied())
        .current_dir(dir.path())
        .args(args);
    let printed = Done::of(&mut command).must("a dry run");
    let captures = printed
        .lines()
        .filter(|l| l.ends_with("-j ISTIO_IN_REDIRECT"));
    let port = |l: &str| Some(l.split_once("--dport ")?.1.split(' ').next()?.to_owned());
    captures.filter_map(port).collect::<Vec<_>>().join(",")
}

#[test]
fn flags_win_over_environment_over_sidecar_over_cluster() {
    let dir = TempDir::new().unwrap();
    let cluster = ("cluster.env", "ISTIO_INBOUND_PORTS=1\n");
    let sidecar = ("sidecar.env", "export ISTIO_INBOUND_PORTS='2'\n");
    let more = ("more.env", "# more\nISTIO_INBOUND_PORTS=\"3\"\n");
    let variable = ("ISTIO_INBOUND_PORTS", "4");
    let ports = |files: &[_], env: &[_], args: &[&str]| captured_ports(&dir, files, env, args);
    assert_eq!(ports(&[], &[], &[]), "");
    assert_eq!(ports(&[cluster], &[], &[]), "1");
    assert_eq!(ports(&[cluster, sidecar], &[], &[]), "2");
    let with_more = ["--env-file", "more.env"];
    assert_eq!(ports(&[cluster, sidecar, more], &[], &with_more), "3");
    assert_eq!(
        ports(&[cluster, sidecar, more], &[variable], &with_more),
        "4"
    );
    let flag = ["--env-file", "more.env", "-b", "5"];
    assert_eq!(ports(&[cluster, sidecar, more], &[variable], &flag), "5");
    // An empty flag, or one in a later file, takes back what the weaker ones say; an empty variable
    // does not.
    let empty = ("sidecar.env", "ISTIO_INBOUND_PORTS=\n");
    assert_eq!(ports(&[cluster, empty], &[], &[]), "");
    assert_eq!(ports(&[cluster], &[("ISTIO_INBOUND_PORTS", "")], &[]), "1");
    assert_eq!(ports(&[cluster], &[], &["-b", ""]), "");
    // A leading "-" allows the file to be absent.
    assert_eq!(
        ports(&[sidecar], &[], &["--env-file", "-/nonexistent/absent.env"]),
        "2"
    );
}

/// As in /etc/default/prepare-proxy: the mesh stands beside its options.
#[test]
fn an_env_file_can_name_the_mesh() {
    let dir = TempDir::new().unwrap();
    let settings = dir.path().join("settings");
    fs::write(
        &settings,
        "PREPARE_PROXY_MESH=istio\nISTIO_INBOUND_PORTS=80\n",
    )
    .unwrap();
    let dry_run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = product();
        command.args(["--dry-run", "--env-file"]).arg(&settings);
        Done::from(
            command
                .args(args)
                .envs(env.iter().copied())
                .output()
                .unwrap(),
        )
    };
    let done = dry_run(&[], &[]).expect(0, "the file's mesh").unwrap();
    assert!(done.out.contains("--dport 15008"), "{}", done.out);
    // The environment is stronger, and a flag stronger still.
    let variable = [("PREPARE_PROXY_MESH", "istio-1.0")];
    assert!(dry_run(&[], &variable).out.contains("--uid-owner 0"));
    let flag = ["--mesh", "istio"];
    assert!(dry_run(&flag, &variable).out.contains("--dport 15008"));
    fs::write(&settings, "PREPARE_PROXY_MESH=osm\n").unwrap();
    let refused = dry_run(&[], &[]).expect(2, "an unknown mesh").unwrap();
    let place = format!("PREPARE_PROXY_MESH in {}: \"osm\"", settings.display());
    assert!(refused.err.contains(&place), "{}", refused.err);
}

/// The mesh-expansion example of Istio's documentation, with the program under the script's name.
#[test]
fn a_virtual_machine_is_set_up_from_its_two_files() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let cluster = file("cluster.env", "ISTIO_SERVICE_CIDR=10.63.240.0/20\n");
    let sidecar = file(
        "sidecar.env",
        "# who the proxy is\nENVOY_USER=daemon\nISTIO_INBOUND_PORTS=3306,8080\nCONTROL_PLANE_AUTH_POLICY=NONE\n",
    );
    let namespace = Namespace::new();
    let mut apply = called("/usr/local/bin/istio-iptables.sh");
    apply
        .env("ISTIO_CLUSTER_CONFIG", cluster)
        .env("ISTIO_SIDECAR_CONFIG", sidecar);
    ends(namespace.run(&mut apply), 0);
    let v4 = rules(&namespace, Family::V4);
    for (part, id) in [
        ("-p tcp -m tcp --dport 3306", "redirect-inbound-port-3306"),
        ("-p tcp -m tcp --dport 8080", "redirect-inbound-port-8080"),
        ("-d 10.63.240.0/20", "redirect-ip-range-10.63.240.0/20"),
        ("-m owner --uid-owner 1", "bypass-envoy"),
        ("-m owner --uid-owner 0", "bypass-envoy"),
        ("-m owner --gid-owner 0", "bypass-envoy"),
    ] {
        let rule = format!("{part} -m comment --comment \"istio/{id}\"");
        assert!(v4.contains(&rule), "{rule}\n{v4}");
    }
    ends(namespace.run(called("istio-iptables.sh").arg("clean")), 0);
    for family in Family::ALL {
        assert!(!rules(&namespace, family).contains("ISTIO"));
    }
}

#[test]
fn each_name_stands_for_its_mesh() {
    for (name, args, sign) in [
        (
            "prepare_proxy.sh",
            "-p 15001 -u 1337",
            "-A PREROUTING -m comment",
        ),
        ("./istio-iptables.sh", "-u 1337 -b 80", "-j ISTIO_INPUT"),
        (
            "/usr/local/bin/istio-iptables",
            "-u 1337 --log_as_json=false",
            "--dport 15008",
        ),
        ("istio-iptables", "istio-iptables -u 1337", "--dport 15008"),
        (
            "prepare-proxy",
            "--format nft istio-iptables -u 1337",
            "table ip prepare-proxy-nat",
        ),
        (
            "prepare-proxy",
            "-p 15001 -u 1337",
            "-A PREROUTING -m comment",
        ),
    ] {
        let mut command = called(name);
        let printed = Done::of(command.args(args.split(' ')).arg("-n")).must(args);
        assert!(printed.contains(sign), "{name} {args}");
    }
}

#[test]
fn cleanup_only_removes_and_skip_rule_apply_leaves() {
    let namespace = Namespace::new();
    let empty = rules(&namespace, Family::V4);
    ends(namespace.run(&mut istio(&["--skip-rule-apply"])), 0);
    assert_eq!(rules(&namespace, Family::V4), empty);
    ends(
        namespace.run(&mut istio(&["--reconcile", "--force-apply"])),
        0,
    );
    let full = rules(&namespace, Family::V4);
    assert_ne!(full, empty);
    ends(namespace.run(istio(&[]).env("SKIP_RULE_APPLY", "true")), 0);
    assert_eq!(rules(&namespace, Family::V4), full);
    // A flag wins over its variable.
    let mut both = istio(&["--cleanup-only=false"]);
    ends(namespace.run(both.env("CLEANUP_ONLY", "true")), 0);
    assert_eq!(rules(&namespace, Family::V4), full);
    ends(namespace.run(istio(&[]).env("CLEANUP_ONLY", "true")), 0);
    assert!(!rules(&namespace, Family::V4).contains("ISTIO"));
}

/// As systemd starts it: with the variables of all three files, of which the last one wins.
#[test]
fn an_empty_setting_of_the_unit_takes_back_what_istios_files_say() {
    let unit = include_str!("../../deploy/systemd/prepare-proxy.service");
    let start = unit.lines().find_map(|l| l.strip_prefix("ExecStart="));
    let files = TempDir::new().expect("a temporary directory");
    let [sidecar, settings] = ["sidecar.env", "default"].map(|name| files.path().join(name));
    fs::write(&sidecar, "ISTIO_INBOUND_PORTS=3306\n").expect("a file");
    fs::write(&settings, "ISTIO_INBOUND_PORTS=\n").expect("a file");
    let line = start.expect("a command").replace(
        "/etc/default/prepare-proxy",
        &settings.display().to_string(),
    );
    let mut command = product();
    command.args(line.split(' ').skip(1)).arg("--dry-run");
    command
        .env("PREPARE_PROXY_MESH", "istio-1.0")
        .env("ISTIO_SIDECAR_CONFIG", &sidecar)
        .env("ISTIO_INBOUND_PORTS", "");
    let rules = Done::of(&mut command).must("a dry run");
    assert!(
        rules.contains("ISTIO_OUTPUT") && !rules.contains("3306"),
        "{rules}"
    );
}

#[test]
fn validation_tells_rules_that_are_not_there() {
    let namespace = Namespace::new();
    let only_look = ["--run-validation", "--skip-rule-apply"];
    let absent = ends(namespace.run(&mut istio(&only_look)), 126);
    assert!(absent.out.contains("15006"), "{}", absent.out);
    ends(namespace.run(&mut istio(&["--run-validation"])), 0);
    ends(namespace.run(&mut istio(&only_look)), 0);
    let other = [&only_look[..], &["-z", "15007"]].concat();
    ends(namespace.run(&mut istio(&other)), 126);
    namespace.sh("iptables -t nat -F ISTIO_OUTPUT");
    ends(namespace.run(&mut istio(&only_look)), 126);
}

#[test]
fn dry_runs_and_logs_are_asked_for_in_istios_way() {
    let namespace = Namespace::new();
    let empty = rules(&namespace, Family::V4);
    let dry = namespace.run(istio(&[]).env("DRY_RUN", "true"));
    assert!(dry.must("a dry run").contains(":ISTIO_OUTPUT"));
    assert_eq!(rules(&namespace, Family::V4), empty);
    let json = namespace.run(&mut istio(&["--log_as_json"]));
    let log = json.err;
    assert!(!log.is_empty());
    for line in log.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_ne!(parsed["level"], "error", "{line}");
        assert!(parsed["msg"].is_string(), "{line}");
        let time = parsed["time"].as_str().expect(line);
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    }
    let silent = namespace.run(&mut istio(&["--log_output_level=default:none"]));
    assert_eq!(silent.err, "");
    let bad = namespace.run(&mut istio(&["--log_as_json", "--nope"]));
    let message = ends(bad, 2).err;
    serde_json::from_str::<serde_json::Value>(message.trim()).unwrap();
}

#[test]
fn resolv_conf_without_nameservers_is_a_warning() {
    let namespace = Namespace::with_resolv_conf("search local\n");
    let output = namespace.run(&mut istio(&["--redirect-dns"]));
    let log = ends(output, 0).err;
    assert!(
        log.contains("warning") && log.contains("/etc/resolv.conf"),
        "{log}"
    );
    assert!(!rules(&namespace, Family::V4).contains("15053"));
}

#[test]
fn every_recipe_is_taken() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md");
    let page = fs::read_to_string(page).expect("the page");
    let lines = page
        .lines()
        .filter(|line| line.starts_with("    prepare-proxy "));
    let recipes: Vec<&str> = lines.collect();
    assert!(recipes.len() > 4, "{recipes:?}");
    let namespace = Namespace::with_resolv_conf("nameserver 10.96.0.10\n");
    for recipe in recipes {
        let program = product().get_program().display().to_string();
        let line = recipe.replace("prepare-proxy", &program);
        namespace.sh(&line);
        namespace.run(product().arg("clean")).must("clean");
    }
}

#[test]
fn explain_takes_a_destination_with_and_without_its_option() {
    let explain = |line: &str| {
        let line = format!("explain {line} --mesh istio -i * --local-address 10.244.1.17/24");
        let mut command = product();
        let done = Namespace::new().run(command.args(line.split(' ')));
        done.expect(0, &line).unwrap().out
    };
    assert_eq!(explain("10.0.0.5:3306"), explain("--to 10.0.0.5:3306"));
}
