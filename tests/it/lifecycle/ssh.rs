//! A host that people log in to: where port 22 leads under each mesh, whether that is said, and
//! sessions that are open while rules come and go.

use super::on_every_backend;
use super::world::{SOME, apply, run};
use crate::lab::{Lab, Namespace};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Options, and whether they send port 22 to the proxy.
const MESHES: &[(&str, bool)] = &[
    (SOME, true),
    ("--mesh istio-1.0 -b * -i *", false),
    ("--mesh istio-1.0 -b 22,80 -i *", true),
    ("--mesh istio-1.0 -b 80 -i *", false),
    ("--mesh istio -b * -i *", true),
    ("--mesh istio -b * -i * -d 22,15090", false),
    ("--mesh istio -b * -i * -d 20:30", false),
    ("--mesh istio -b * -i * -o 22", true),
    ("--mesh istio -b 80,1:30 -i *", true),
    ("--mesh istio -i *", false),
];

const SAID: &str = "SSH (port 22) will be redirected";

/// A pod with something that listens where sshd does, and where the proxies do.
struct Host {
    lab: Lab,
    sshd: TcpListener,
    proxies: Vec<TcpListener>,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new();
        let listen = |port: u16| {
            let listener = lab.pod.enter(|| TcpListener::bind(("0.0.0.0", port)));
            let listener = listener.expect("the port is free");
            listener.set_nonblocking(true).expect("a socket");
            listener
        };
        Host {
            sshd: listen(22),
            proxies: vec![listen(15001), listen(15006)],
            lab,
        }
    }

    fn pod(&self) -> &Namespace {
        &self.lab.pod
    }

    /// Logs in: the client's end, sshd's or the proxy's, and whether it was the proxy's.
    fn log_in(&self) -> Session {
        let client = self.lab.peer.enter(|| TcpStream::connect("10.66.0.2:22"));
        let client = client.expect("somebody listens");
        let accepted = |listener: &TcpListener| match listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("accept: {e}"),
        };
        // The client is connected, so one of them has it in its queue.
        let (server, by_proxy) = match accepted(&self.sshd) {
            Some(stream) => (stream, false),
            None => (
                self.proxies
                    .iter()
                    .find_map(accepted)
                    .expect("the proxy has it"),
                true,
            ),
        };
        server.set_nonblocking(false).expect("a socket");
        for stream in [&client, &server] {
            let timeout = Some(Duration::from_secs(5));
            stream.set_read_timeout(timeout).expect("a socket");
        }
        Session {
            client,
            server,
            by_proxy,
        }
    }
}

struct Session {
    client: TcpStream,
    server: TcpStream,
    by_proxy: bool,
}

impl Session {
    /// Fails unless each end hears what the other says; the server's end begins, as it does when a
    /// command prints something.
    fn talk(&mut self) -> Result<(), String> {
        let pass = |from: &mut TcpStream, to: &mut TcpStream| {
            let mut heard = [0];
            from.write_all(b"x")?;
            to.read_exact(&mut heard)
        };
        pass(&mut self.server, &mut self.client).map_err(|e| format!("to the client: {e}"))?;
        pass(&mut self.client, &mut self.server).map_err(|e| format!("to the server: {e}"))
    }
}

#[test]
fn a_warning_says_when_ssh_goes_to_the_proxy() {
    on_every_backend(|backend| {
        for (options, captured) in MESHES {
            let host = Host::new();
            let done = apply(host.pod(), backend, options)?;
            if done.err.contains(SAID) != *captured {
                return Err(format!("{options}: {}", done.err));
            }
            let mut session = host.log_in();
            if session.by_proxy != *captured {
                return Err(format!(
                    "{options}: SSH reaches the proxy: {}",
                    session.by_proxy
                ));
            }
            session.talk().map_err(|e| format!("{options}: {e}"))?;
        }
        Ok(())
    });
}

#[test]
fn in_a_pod_nobody_logs_in() {
    let namespace = Namespace::new();
    let mut command = crate::lab::product();
    command
        .args(SOME.split(' '))
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let done = namespace.run(&mut command);
    let done = done.expect(0, "in a pod").unwrap();
    assert!(!done.err.contains("SSH"), "{}", done.err);
}

/// Connections that the kernel tracks already stay where they are.
#[test]
fn open_sessions_stay_open() {
    on_every_backend(|backend| {
        let host = Host::new();
        // As any host with a firewall has it.
        host.pod()
            .sh("iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
        let mut sessions = vec![host.log_in()];
        for (options, _) in MESHES {
            apply(host.pod(), backend, options)?;
            for session in &mut sessions {
                session.talk().map_err(|e| format!("{options}: {e}"))?;
            }
            sessions.push(host.log_in());
        }
        run(host.pod(), "clean").expect(0, "clean")?;
        // Those by the proxy may end: with the last NAT chain, the kernel's translation goes.
        for session in sessions.iter_mut().filter(|s| !s.by_proxy) {
            session.talk().map_err(|e| format!("clean: {e}"))?;
        }
        Ok(())
    });
}

/// Where no connection was tracked before, an open session looks new at its next packet; port 22 and
/// root are left alone all the same.
#[test]
fn a_session_survives_the_first_apply_that_leaves_ssh_alone() {
    on_every_backend(|backend| {
        let host = Host::new();
        let mut session = host.log_in();
        apply(host.pod(), backend, "--mesh istio-1.0 -b * -i *")?;
        session.talk()
    });
}
