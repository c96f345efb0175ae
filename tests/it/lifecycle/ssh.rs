//! Port 22 under each mesh: where it leads, the warning, and open sessions during changes.

use super::on_every_backend;
use super::world::{SOME, apply, run};
use crate::lab::{Lab, Namespace};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Options, and whether they redirect port 22.
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

/// A pod with listeners in place of sshd and the proxies.
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

    /// Opens a connection to port 22: its two ends, and whether the proxy accepted it.
    fn log_in(&self) -> Session {
        let client = self.lab.peer.enter(|| TcpStream::connect("10.66.0.2:22"));
        let client = client.expect("somebody listens");
        let accepted = |listener: &TcpListener| match listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("accept: {e}"),
        };
        // Connected, so one of the listeners has it in its queue.
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
    /// Fails unless data arrives in both directions, from the server first.
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
fn a_warning_says_that_ssh_is_redirected() {
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
fn no_ssh_warning_in_a_pod_without_sshd() {
    let namespace = Namespace::new();
    let mut command = crate::lab::product();
    command
        .args(SOME.split(' '))
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let done = namespace.run(&mut command);
    let done = done.expect(0, "in a pod").unwrap();
    assert!(!done.err.contains("SSH"), "{}", done.err);
}

/// Tracked connections keep their destination.
#[test]
fn tracked_ssh_sessions_stay_open() {
    on_every_backend(|backend| {
        let host = Host::new();
        // As on any host with a firewall.
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
        // Redirected ones may end: with the last NAT chain, the translation of the kernel ends.
        for session in sessions.iter_mut().filter(|s| !s.by_proxy) {
            session.talk().map_err(|e| format!("clean: {e}"))?;
        }
        Ok(())
    });
}

/// Without tracking before, an open session looks new at its next packet; port 22 and root stay
/// exempt.
#[test]
fn an_untracked_ssh_session_survives_the_first_apply_that_exempts_ssh() {
    on_every_backend(|backend| {
        let host = Host::new();
        let mut session = host.log_in();
        apply(host.pod(), backend, "--mesh istio-1.0 -b * -i *")?;
        session.talk()
    });
}
