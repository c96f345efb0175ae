//! nginmesh's rules, installed by every tool that can.

use crate::world::{file, fresh, median, run};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempPath;

/// What the program is called with.
const RULES: [&str; 6] = ["--mesh", "nginmesh", "-p", "15001", "-u", "1337"];

/// One way to install the rules.
struct Way {
    name: String,
    command: Vec<PathBuf>,
    input: Option<TempPath>,
    times: Vec<Duration>,
}

impl Way {
    fn new(name: impl Into<String>, command: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Way {
            name: name.into(),
            command: command.into_iter().map(Into::into).collect(),
            input: None,
            times: Vec::new(),
        }
    }

    fn reading(self, text: &str) -> io::Result<Self> {
        let input = Some(file(text)?);
        Ok(Way { input, ..self })
    }

    /// Runs it to its end, with something in front of it.
    fn run(&self, before: &[&str]) -> io::Result<Duration> {
        let words = before.iter().map(Path::new);
        let mut words = words.chain(self.command.iter().map(PathBuf::as_path));
        let mut command = Command::new(words.next().expect("a program"));
        let input = match &self.input {
            Some(path) => Stdio::from(File::open(path)?),
            None => Stdio::null(),
        };
        command.args(words).stdin(input);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status()?;
        let took = start.elapsed();
        match status.success() {
            true => Ok(took),
            false => Err(io::Error::other(format!("{}: {status}", self.name))),
        }
    }

    /// How many programs it starts, and how many system calls it makes.
    fn calls(&self) -> io::Result<(usize, usize)> {
        let trace = file("")?;
        let path = trace.to_string_lossy().into_owned();
        fresh(|| self.run(&["strace", "-f", "-qq", "-o", &path]))?;
        let trace = std::fs::read_to_string(&trace)?;
        let programs = trace.matches(" execve(").count();
        let calls = trace.lines().filter(|l| l.contains('(')).count();
        Ok((programs, calls))
    }

    /// The most memory that one of its programs had, in KiB, and the page faults of all of them.
    fn memory(&self) -> io::Result<(usize, usize)> {
        let out = file("")?;
        let path = out.to_string_lossy().into_owned();
        fresh(|| self.run(&["/usr/bin/time", "-f", "%M %R", "-o", &path]))?;
        let text = std::fs::read_to_string(&out)?;
        let mut numbers = text
            .split_whitespace()
            .map(|n| n.parse().unwrap_or_default());
        Ok((
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        ))
    }
}

/// Prints one line for each way.
pub fn compare(product: &Path, empty: &Path, rounds: usize) -> io::Result<()> {
    let mut ways = ways(product, empty)?;
    let mut order: Vec<&mut Way> = ways.iter_mut().collect();
    for _ in 0..rounds {
        // In a fixed order one way always pays for what the one before it leaves the kernel to clean up.
        fastrand::shuffle(&mut order);
        for way in &mut order {
            let took = fresh(|| way.run(&[]))?;
            way.times.push(took);
        }
    }
    let mut times = |name: &str| {
        let way = ways.iter_mut().find(|w| w.name == name);
        way.map(|w| median(&mut w.times).as_secs_f64() * 1e3)
            .unwrap_or_default()
    };
    let (start, ours) = (times(EMPTY), times(&ours("netlink")));
    println!(
        "nginmesh's rules, IPv4, in a fresh network namespace, median of {rounds}; an empty program takes {start:.2} ms:\n"
    );
    println!(
        "| way | wall time | above an empty program | to ours | programs | system calls | page faults | peak RSS |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for way in &mut ways {
        let took = median(&mut way.times).as_secs_f64() * 1e3;
        let (programs, calls) = way.calls()?;
        let (memory, faults) = way.memory()?;
        println!(
            "| {} | {took:.2} ms | {:.2} ms | {:.1}× | {programs} | {calls} | {faults} | {:.1} MB |",
            way.name,
            took - start,
            (took - start) / (ours - start),
            memory as f64 / 1024.0,
        );
    }
    Ok(())
}

fn ours(backend: &str) -> String {
    format!("**prepare-proxy**, {backend}")
}

/// What a process costs that does nothing at all.
const EMPTY: &str = "an empty program";

fn ways(product: &Path, empty: &Path) -> io::Result<Vec<Way>> {
    let rules = |format: &str| run(product, RULES.iter().chain(&["-n", "--format", format]));
    let script = file(&rules("commands")?)?;
    let restore = rules("restore")?;
    let mut ways = vec![
        Way {
            input: None,
            ..Way::new(
                "one iptables call for each rule",
                [Path::new("bash"), &script],
            )
        },
        Way::new("iptables-nft-restore", ["iptables-nft-restore"]).reading(&restore)?,
        Way::new("iptables-legacy-restore", ["iptables-legacy-restore"]).reading(&restore)?,
        Way::new("nft -f", ["nft", "-f", "-"]).reading(&rules("nft")?)?,
    ];
    for backend in ["netlink", "nftables", "iptables-nft", "iptables-legacy"] {
        let words = [&RULES[..], &["--backend", backend]].concat();
        let words = words.into_iter().map(PathBuf::from);
        ways.push(Way::new(
            ours(backend),
            std::iter::once(product.to_owned()).chain(words),
        ));
    }
    ways.push(Way::new(EMPTY, [empty]));
    // The script must be there as long as it is run.
    ways[0].input = Some(script);
    Ok(ways)
}
