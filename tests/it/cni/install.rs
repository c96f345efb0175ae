//! The installer, in folders of its own.

use crate::lab::{Done, product};
use crate::lifecycle::faults::{calls, sample};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "k8s-pod-network",
  "plugins": [
    {"type": "bridge", "ipam": {"type": "host-local"}, "mtu": 1.40e3},
    { "type":"portmap", "capabilities": {"portMappings": true} }
  ],
  "disableCheck": false
}
"#;

/// The folders of a runtime.
struct Runtime(TempDir);

impl Runtime {
    fn with(files: &[(&str, &str)]) -> Self {
        let runtime = Runtime(tempfile::tempdir().unwrap());
        fs::create_dir(runtime.path("bin")).unwrap();
        fs::create_dir(runtime.path("net.d")).unwrap();
        for (name, text) in files {
            fs::write(runtime.conf(name), text).unwrap();
        }
        runtime
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn conf(&self, name: &str) -> PathBuf {
        self.path("net.d").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.conf(name)).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = product();
        command.arg("cni").args(line.split_whitespace());
        command.arg("--bin-dir").arg(self.path("bin"));
        command.arg("--conf-dir").arg(self.path("net.d"));
        command
    }

    fn run(&self, line: &str) -> Done {
        Done::of(&mut self.command(line))
    }

    fn must(&self, line: &str) {
        self.run(line).must(line);
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.run("status --json").out).expect("a status")
    }

    /// The names of the files that a runtime sees, and the types of the plugins in each.
    fn seen(&self) -> Vec<(String, Vec<String>)> {
        let names = fs::read_dir(self.path("net.d")).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        let ending = |name: &String| {
            ["conf", "conflist", "json"].contains(&name.rsplit('.').next().unwrap())
        };
        let mut names: Vec<String> = names.filter(ending).collect();
        names.sort();
        let read = |name: String| {
            let file: Value = serde_json::from_str(&self.text(&name)).expect("whole");
            let types = match file["plugins"].as_array() {
                Some(plugins) => plugins
                    .iter()
                    .map(|p| p["type"].as_str().unwrap().to_owned())
                    .collect(),
                None => vec![file["type"].as_str().unwrap().to_owned()],
            };
            (name, types)
        };
        names.into_iter().map(read).collect()
    }
}

/// Files of a runtime, a line of the installer that is run before, and the one that meets the faults.
type Fault<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

const INSTALL: &str = "install --mesh istio";

#[test]
fn an_entry_comes_and_goes_and_the_rest_keeps_every_byte() {
    let runtime = Runtime::with(&[
        ("10-x.conflist", LIST),
        ("20-y.conflist", LIST),
        ("README", ""),
    ]);
    assert_eq!(runtime.status()["ready"], false);
    runtime.must(INSTALL);
    assert_eq!(runtime.status()["ready"], true);
    let text = runtime.text("10-x.conflist");
    let (start, end) = LIST.split_once("\n  ],").unwrap();
    assert!(text.starts_with(start) && text.ends_with(end), "{text}");
    assert_eq!(runtime.text("20-y.conflist"), LIST);
    assert_eq!(runtime.seen()[0].1, ["bridge", "portmap", "prepare-proxy"]);
    // Nothing is written where nothing is to be changed.
    let inode = || fs::metadata(runtime.conf("10-x.conflist")).unwrap().ino();
    let before = inode();
    runtime.must(INSTALL);
    assert_eq!(inode(), before);
    // Other options take the place of the entry.
    runtime.must("install --mesh istio,linkerd --default proxy-uid=2000 --namespace-default a/proxy-uid=3000");
    let text = runtime.text("10-x.conflist");
    assert!(
        text.contains("2000") && text.contains("3000") && text.starts_with(start),
        "{text}"
    );
    runtime.must("remove");
    assert_eq!(runtime.text("10-x.conflist"), LIST);
    assert!(runtime.path("bin/prepare-proxy").exists());
    runtime.must("remove --binary");
    assert!(!runtime.path("bin/prepare-proxy").exists());
}

#[test]
fn a_single_plugin_becomes_a_list() {
    let single = r#"{"cniVersion":"0.3.1","name":"n","type":"calico"}"#;
    let runtime = Runtime::with(&[("10-x.conf", single), ("15-z.json", LIST)]);
    runtime.must(INSTALL);
    let wanted = vec!["calico".to_owned(), "prepare-proxy".to_owned()];
    assert_eq!(runtime.seen()[0], ("10-x.conflist".to_owned(), wanted));
    assert_eq!(runtime.seen().len(), 2);
    // Somebody else's list of that name is not replaced.
    let runtime = Runtime::with(&[("10-x.conf", single), ("10-x.conflist", LIST)]);
    runtime.run(INSTALL).expect(1, INSTALL).unwrap();
    assert_eq!(
        (runtime.text("10-x.conf"), runtime.text("10-x.conflist")),
        (single.to_owned(), LIST.to_owned())
    );
}

#[test]
fn an_entry_is_dropped_in_beside_the_list() {
    let runtime = Runtime::with(&[("10-x.conflist", LIST)]);
    runtime.must(INSTALL);
    runtime.must("install --mesh istio --drop-in");
    assert_eq!(runtime.text("10-x.conflist"), LIST);
    let dropped = "k8s-pod-network/90-prepare-proxy.conf";
    let entry: Value = serde_json::from_str(&runtime.text(dropped)).unwrap();
    assert_eq!(entry["type"], "prepare-proxy");
    let status = runtime.status();
    assert_eq!(status["ready"], true);
    assert!(
        status["entry"].as_str().unwrap().ends_with(dropped),
        "{status}"
    );
    // One way or the other, never both.
    runtime.must(INSTALL);
    assert!(!runtime.conf(dropped).exists());
    assert_eq!(runtime.seen()[0].1, ["bridge", "portmap", "prepare-proxy"]);
    runtime.must("remove");
    assert_eq!(runtime.text("10-x.conflist"), LIST);
}

#[test]
fn mode_owner_and_links_stay() {
    let runtime = Runtime::with(&[]);
    let real = runtime.path("real.conflist");
    fs::write(&real, LIST).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&real, Some(1234), Some(4321)).unwrap();
    symlink(&real, runtime.conf("10-x.conflist")).unwrap();
    runtime.must(INSTALL);
    let metadata = fs::metadata(&real).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
        (0o600, 1234, 4321)
    );
    assert!(runtime.conf("10-x.conflist").is_symlink());
    assert!(fs::read_to_string(real).unwrap().contains("prepare-proxy"));
    let binary = fs::metadata(runtime.path("bin/prepare-proxy")).unwrap();
    assert_eq!(binary.mode() & 0o7777, 0o755);
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let runtime = Runtime::with(&[("10-x.conflist", LIST)]);
    for line in [
        "install",
        "install --mesh consul",
        "install --mesh istio --default proxy-user=1",
        "install --mesh istio --default proxy-uid=x",
        "install --mesh istio --default proxy-uid",
        "install --mesh linkerd --default mode=TPROXY",
        "install --mesh istio --namespace-default a/proxy-port=0",
        "install --mesh istio --backend ipchains",
        "install --mesh istio --log file",
    ] {
        runtime.run(line).expect(2, line).unwrap();
        assert_eq!(runtime.text("10-x.conflist"), LIST, "{line}");
        assert!(!runtime.path("bin/prepare-proxy").exists(), "{line}");
    }
    for text in ["", "{", "{\"name\":\"n\",\"plugins\":[]}", "[]"] {
        let runtime = Runtime::with(&[("05-bad.conflist", text), ("10-x.conflist", LIST)]);
        runtime.run(INSTALL).expect(1, text).unwrap();
        assert_eq!(runtime.text("05-bad.conflist"), text);
    }
    Runtime::with(&[])
        .run(INSTALL)
        .expect(1, "no list")
        .unwrap();
}

/// Whatever goes wrong wherever, a runtime sees the list before or the one after, and the next run
/// ends well.
#[test]
fn faults_at_every_system_call() {
    const SINGLE: &str = r#"{"cniVersion":"0.3.1","name":"n","type":"bridge"}"#;
    let faults: [Fault<'_>; 4] = [
        (&[("10-x.conflist", LIST)], "", INSTALL),
        (&[("10-x.conf", SINGLE)], "", INSTALL),
        (
            &[("10-x.conflist", LIST)],
            INSTALL,
            "install --mesh istio --drop-in",
        ),
        (&[("10-x.conflist", LIST)], INSTALL, "remove --binary"),
    ];
    for (files, before, line) in faults {
        let start = || {
            let runtime = Runtime::with(files);
            if !before.is_empty() {
                runtime.must(before);
            }
            runtime
        };
        let traced = |runtime: &Runtime, words: &[String]| {
            let command = runtime.command(line);
            let mut wrapped = Command::new(&words[0]);
            wrapped
                .args(&words[1..])
                .arg(command.get_program())
                .args(command.get_args());
            wrapped
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            Done::of(&mut wrapped)
        };
        let log = tempfile::NamedTempFile::new().unwrap();
        let strace = [
            "strace",
            "-qq",
            "-e",
            "signal=none",
            "-o",
            log.path().to_str().unwrap(),
        ];
        let runtime = start();
        let old = runtime.seen();
        traced(&runtime, &strace.map(str::to_owned))
            .expect(0, line)
            .unwrap();
        let new = runtime.seen();
        let calls = calls::in_log(log.path());
        let main = calls
            .iter()
            .position(|call| call == "poll")
            .expect("Rust's start");
        let mut faults = calls::faults(&calls, main, true);
        // Each copies two programs of a debug build.
        sample(&mut faults, 10);
        for fault in faults {
            let runtime = start();
            let done = traced(&runtime, &fault.strace());
            let seen = runtime.seen();
            // What counts is the first file.
            let whole = [&old, &new]
                .iter()
                .any(|state| seen.first() == state.first());
            assert!(whole, "{line}: {fault}: {seen:?}");
            let in_list = seen
                .first()
                .is_some_and(|(_, types)| types.iter().any(|t| t == "prepare-proxy"));
            assert!(
                !in_list || runtime.path("bin/prepare-proxy").exists(),
                "{line}: {fault}: no binary"
            );
            assert!(
                done.code != Some(0) || seen == new,
                "{line}: {fault}: {seen:?}\n{}",
                done.err
            );
            runtime
                .run(line)
                .expect(0, &format!("{line} after {fault}"))
                .unwrap();
            assert_eq!(runtime.seen(), new, "{line}: {fault}");
        }
    }
}

/// A DaemonSet's main process, which ends with the test.
struct Watch(Child);

impl Watch {
    fn start(runtime: &Runtime, line: &str) -> Self {
        let mut command = runtime.command(line);
        Watch(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Ends it, and returns its log.
    fn stop(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut log).unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_watch_puts_the_entry_back_and_leaves_it() {
    let runtime = Runtime::with(&[]);
    let watch = Watch::start(&runtime, "install --mesh istio --watch");
    // The other plugins may come later.
    until("the binary", || runtime.path("bin/prepare-proxy").exists());
    let ready = || runtime.run("status").code == Some(0);
    let replace = || {
        fs::write(runtime.conf(".new"), LIST).unwrap();
        fs::rename(runtime.conf(".new"), runtime.conf("10-x.conflist")).unwrap();
    };
    replace();
    until("the list is there", ready);
    replace();
    until("it was replaced", ready);
    fs::write(runtime.conf("10-x.conflist"), LIST).unwrap();
    until("it was written again", ready);
    fs::write(runtime.conf("05-new.conflist"), LIST).unwrap();
    until("another one comes first", ready);
    fs::remove_file(runtime.path("bin/prepare-proxy")).unwrap();
    until("the binary was removed", ready);
    let (code, _) = watch.stop();
    assert_eq!(code, Some(0));
    assert!(ready());
}

/// Somebody who rewrites the list for ever is not fought for ever, and the log says so.
#[test]
fn a_fight_slows_down() {
    let runtime = Runtime::with(&[("10-x.conflist", LIST)]);
    let watch = Watch::start(&runtime, "install --mesh istio --watch");
    let ready = || runtime.text("10-x.conflist").contains("prepare-proxy");
    for _ in 0..5 {
        until("it is put back", ready);
        fs::write(runtime.conf(".new"), LIST).unwrap();
        fs::rename(runtime.conf(".new"), runtime.conf("10-x.conflist")).unwrap();
    }
    until("it is put back, later", ready);
    let (code, log) = watch.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("cni.exclusive=false"), "{log}");
}
