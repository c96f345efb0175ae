//! Programs that tests run in namespaces.

use super::Namespace;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// Uid and gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub u32, pub u32);

impl User {
    /// `UID:GID`
    pub fn parse(text: &str) -> Self {
        let ids = text
            .split_once(':')
            .map(|(uid, gid)| (uid.parse(), gid.parse()));
        let Some((Ok(uid), Ok(gid))) = ids else {
            panic!("{text:?} is not UID:GID")
        };
        Self(uid, gid)
    }
}

pub const ROOT: User = User(0, 0);
pub const APP: User = User(1000, 1000);
pub const PROXY: User = User(1337, 1337);

/// The program under test.
pub fn product() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prepare-proxy"));
    // What happens to be set where the tests run is no part of them.
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The lab's own program (`lab/`), as some user.
pub fn lab(User(uid, gid): User) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg(format!("--user={uid}:{gid}"));
    command
}

/// A long-running sub-command of the lab's program. It ends when this value is
/// dropped, and also when the test dies.
pub struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts it and waits until it says that it listens.
    pub fn start(namespace: &Namespace, user: User, args: &[&str]) -> Self {
        let mut command = lab(user);
        command
            .arg("--lifeline")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = namespace.spawn(&mut command);
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let first = lines.next().and_then(Result::ok);
        assert_eq!(first.as_deref(), Some("ready"), "{command:?} did not start");
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            log,
            reader: Some(reader),
        }
    }

    /// The lines written so far, one for each connection.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Lets it end in order, and returns all that it wrote.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        self.child.wait().expect("a child can be waited for");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of a pipe ends");
        }
        self.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
