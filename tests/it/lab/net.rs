//! Network namespaces, alone and joined.

use super::Done;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// A network namespace with `lo` up, and perhaps a mount namespace of its own, and
/// a user namespace to which it belongs.
pub struct Namespace {
    net: File,
    mounts: Option<(File, NamedTempFile)>,
    users: Option<File>,
}

impl Namespace {
    /// A namespace with nothing but `lo`.
    pub fn new() -> Self {
        Self::build(None, None)
    }

    /// The same, with a /etc/resolv.conf of its own.
    pub fn with_resolv_conf(text: &str) -> Self {
        Self::build(None, Some(text))
    }

    /// The same, of a user namespace where every user has its usual number, but
    /// root is not the system's: such is a pod with `hostUsers: false`.
    pub fn with_users_and_resolv_conf(text: &str) -> Self {
        // A process with threads cannot make one.
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--net", "sh", "-c", "echo; cat"]);
        let mut holder = unshare
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = [0];
        let stdout = holder.stdout.as_mut().expect("stdout is a pipe");
        stdout.read_exact(&mut line).expect("a user namespace");
        let proc = PathBuf::from(format!("/proc/{}", holder.id()));
        for map in ["uid_map", "gid_map"] {
            fs::write(proc.join(map), "0 0 65536").expect("users are mapped");
        }
        let open = |ns| File::open(proc.join("ns").join(ns)).expect("a namespace can be opened");
        let files = (open("net"), open("user"));
        // The open files hold the namespaces.
        holder.kill().expect("a child can be killed");
        holder.wait().expect("a child can be waited for");
        Self::build(Some(files), Some(text))
    }

    fn build(given: Option<(File, File)>, resolv_conf: Option<&str>) -> Self {
        let namespace = in_own_thread(|| -> io::Result<Self> {
            let (net, users) = match given {
                Some((net, users)) => {
                    setns(&net, CloneFlags::CLONE_NEWNET)?;
                    (net, Some(users))
                }
                None => {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    (File::open("/proc/thread-self/ns/net")?, None)
                }
            };
            // IPv6 addresses are usable at once, also on links made later.
            for knob in ["accept_dad", "dad_transmits"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/default/{knob}"), "0")?;
            }
            let mounts = resolv_conf.map(own_mounts).transpose()?;
            Ok(Self { net, mounts, users })
        });
        let namespace = namespace.unwrap_or_else(|e| {
            panic!("cannot make a network namespace ({e}): these tests need root and IPv6")
        });
        namespace.ip(&["link set lo up"]);
        namespace
    }

    /// The command as the namespace's own root runs it, with the given
    /// capabilities (`+net_admin,+net_raw`) and no other.
    pub fn own_root(&self, capabilities: &str, command: &Command) -> Command {
        let mut wrapped = Command::new("nsenter");
        if let Some(users) = &self.users {
            wrapped.arg(format!("--user={}", file_path(users).display()));
            wrapped.args(["--setuid=0", "--setgid=0"]);
        }
        wrapped.args(["--", "setpriv", "--inh-caps=-all"]);
        wrapped.arg(format!("--bounding-set=-all,{capabilities}"));
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.env_clear();
        wrapped.envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        wrapped
    }

    /// Waits until no process is in it any more, dead ones that nobody has waited
    /// for left aside.
    pub fn wait_until_deserted(&self) {
        let inode = |file: io::Result<fs::Metadata>| file.map(|m| m.ino()).ok();
        let ours = inode(self.net.metadata());
        let is_here =
            |process: fs::DirEntry| inode(fs::metadata(process.path().join("ns/net"))) == ours;
        let processes = || fs::read_dir("/proc").expect("/proc is there").flatten();
        while processes().any(is_here) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A path by which programs can open the namespace while the test lives.
    pub fn path(&self) -> PathBuf {
        file_path(&self.net)
    }

    /// Runs `work` in a thread that has entered the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_own_thread(|| {
            if let Some((mounts, _)) = &self.mounts {
                unshare(CloneFlags::CLONE_FS).expect("a thread's own root and working directory");
                setns(mounts, CloneFlags::CLONE_NEWNS).expect("the mount namespace is there");
            }
            setns(&self.net, CloneFlags::CLONE_NEWNET).expect("the network namespace is there");
            work()
        })
    }

    pub fn spawn(&self, command: &mut Command) -> Child {
        let child = self.enter(|| command.spawn());
        child.unwrap_or_else(|e| panic!("cannot start {:?}: {e}", command.get_program()))
    }

    /// Runs to the end, whatever the exit status.
    pub fn run(&self, command: &mut Command) -> Done {
        self.run_with_input(command, "")
    }

    /// The same, with something to read.
    pub fn run_with_input(&self, command: &mut Command, input: &str) -> Done {
        let command = command.stdin(Stdio::piped());
        let mut child = self.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stdin = child.stdin.take();
        thread::scope(|scope| {
            // A program that does not read closes the pipe; that is its own affair.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            let output = child.wait_with_output();
            output.expect("a child can be waited for").into()
        })
    }

    /// Runs a command that must succeed; what it wrote to stdout.
    #[track_caller]
    pub fn output(&self, command: &mut Command) -> String {
        let done = self.run(command);
        done.must(&format!("{command:?}"))
    }

    /// Runs a shell script that must succeed; what it wrote to stdout.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.output(Command::new("sh").args(["-ec", script]))
    }

    /// All that routing goes by: policy rules, addresses of lo, and the routes of both families. The
    /// kernel makes those to its own IPv6 addresses a moment after the addresses: they are waited for.
    #[track_caller]
    pub fn routing(&self) -> String {
        const MOMENT: Duration = Duration::from_millis(10);
        let mut tries = 0;
        loop {
            let shown = ["rule show", "addr show dev lo", "route show table all"];
            let of_family = |family| self.ip_batch(&[family], &shown).must("ip shows");
            let text = ["-4", "-6"].map(of_family).concat();
            let addresses = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("inet6 "));
            let mut addresses = addresses.filter_map(|line| line.split('/').next());
            let is_complete = addresses.all(|a| text.contains(&format!("local {a} dev lo")));
            if is_complete || tries == 500 {
                return text;
            }
            tries += 1;
            thread::sleep(MOMENT);
        }
    }

    /// Runs `ip` commands in one process.
    #[track_caller]
    pub fn ip<S: AsRef<str>>(&self, commands: &[S]) {
        let all: Vec<&str> = commands.iter().map(AsRef::as_ref).collect();
        self.ip_batch(&[], commands).must(&all.join("\n"));
    }

    /// The same with options of `ip`, whether they succeed or not.
    pub fn ip_batch<S: AsRef<str>>(&self, options: &[&str], commands: &[S]) -> Done {
        let lines = commands.iter().map(|c| c.as_ref().to_owned() + "\n");
        let lines: String = lines.collect();
        let mut ip = Command::new("ip");
        self.run_with_input(ip.args(options).args(["-batch", "-"]), &lines)
    }

    /// Sets a value under /proc/sys/net.
    pub fn sysctl(&self, key: &str, value: &str) {
        let written = self.enter(|| fs::write(format!("/proc/sys/net/{key}"), value));
        written.unwrap_or_else(|e| panic!("cannot set net/{key}: {e}"));
    }

    /// Joins two namespaces by a veth pair: this end gets host number 2 in
    /// 10.NET.0.0/24 and fdNET::/64, the other end number 1. Returns when both
    /// ends speak IPv6.
    pub fn join(&self, link: &str, other: &Self, other_link: &str, net: u8) {
        let there = other.path();
        // With the same index on both sides, the kernel takes its time (a second)
        // to notice that the link is up.
        let (index, other_index) = (u32::from(net) * 2, u32::from(net) * 2 + 1);
        self.ip(&[
            format!(
                "link add {link} index {index} type veth peer name {other_link} index {other_index} netns {}",
                there.display()
            ),
            format!("addr add 10.{net}.0.2/24 dev {link}"),
            format!("addr add fd{net}::2/64 dev {link}"),
            format!("link set {link} up"),
        ]);
        other.ip(&[
            format!("addr add 10.{net}.0.1/24 dev {other_link}"),
            format!("addr add fd{net}::1/64 dev {other_link}"),
            format!("link set {other_link} up"),
        ]);
        self.wait_for_ipv6(link);
        other.wait_for_ipv6(other_link);
    }

    /// Waits until the kernel has given a link its link-local address, its last
    /// step on the way to IPv6.
    fn wait_for_ipv6(&self, link: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let link_local =
            |line: &str| line.starts_with("fe80") && line.split_whitespace().last() == Some(link);
        self.enter(|| {
            while !fs::read_to_string("/proc/thread-self/net/if_inet6")
                .is_ok_and(|t| t.lines().any(link_local))
            {
                assert!(Instant::now() < deadline, "{link} does not come up");
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Things that belong to a thread (its namespaces) are changed in one that ends.
fn in_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A path by which other processes can open what this one has open.
fn file_path(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

/// Moves the thread to a mount namespace with another /etc/resolv.conf.
fn own_mounts(resolv_conf: &str) -> io::Result<(File, NamedTempFile)> {
    const NONE: Option<&str> = None;
    let mut file = NamedTempFile::new()?;
    file.write_all(resolv_conf.as_bytes())?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let (source, target) = (Some(file.path()), "/etc/resolv.conf");
    mount(source, target, NONE, MsFlags::MS_BIND, NONE)?;
    Ok((File::open("/proc/thread-self/ns/mnt")?, file))
}

/// A pod and the world it can reach.
///
/// | namespace | has |
/// |---|---|
/// | `pod` | `eth0` with 10.66.0.2 and fd66::2, default routes to the peer |
/// | `peer` | `eth0` with 10.66.0.1 and fd66::1; answers as well for all of 203.0.113.0/24 and 2001:db8:113::/48, and says "unreachable" for the rest of the world |
pub struct Lab {
    pub pod: Namespace,
    pub peer: Namespace,
}

impl Lab {
    pub fn new() -> Self {
        Self::around(Namespace::new())
    }

    pub fn around(pod: Namespace) -> Self {
        let peer = Namespace::new();
        pod.join("eth0", &peer, "eth0", 66);
        pod.ip(&[
            "route add default via 10.66.0.1",
            "route add default via fd66::1",
        ]);
        peer.ip(&[
            "route add local 203.0.113.0/24 dev lo",
            "route add local 2001:db8:113::/48 dev lo",
            "route add unreachable 0.0.0.0/0",
            "route add unreachable ::/0",
        ]);
        // Unlike IPv4's, a local IPv6 route alone lets nobody bind.
        peer.sysctl("ipv6/ip_nonlocal_bind", "1");
        // Only who forwards says that a place is unreachable, and every time.
        peer.sysctl("ipv4/conf/all/forwarding", "1");
        peer.sysctl("ipv6/conf/all/forwarding", "1");
        peer.sysctl("ipv4/icmp_ratelimit", "0");
        peer.sysctl("ipv6/icmp/ratelimit", "0");
        Self { pod, peer }
    }

    /// A bridge in the pod, 10.67.0.2 and fd67::2, with a virtual machine's
    /// namespace behind it (10.67.0.1, fd67::1), as KubeVirt makes them.
    pub fn guest_behind(&self, bridge: &str) -> Namespace {
        let guest = Namespace::new();
        self.pod.ip(&[
            format!("link add {bridge} type bridge"),
            format!("link set {bridge} up"),
        ]);
        self.pod.join("tap0", &guest, "eth0", 67);
        self.pod.ip(&[
            "addr flush dev tap0".into(),
            format!("link set tap0 master {bridge}"),
            format!("addr add 10.67.0.2/24 dev {bridge}"),
            format!("addr add fd67::2/64 dev {bridge}"),
        ]);
        guest.ip(&[
            "route add default via 10.67.0.2",
            "route add default via fd67::2",
        ]);
        guest
    }
}
