//! The host: environment, files and kernel facts.
#![expect(
    clippy::disallowed_types,
    reason = "the one place that reads files and the environment"
)]

use crate::engine::error::Error;
use crate::mesh::config::facts::{GROUP, PASSWD};
use crate::mesh::config::{Environment, Ipv6, TextFile};
use crate::netfilter::model::Interface;
use crate::netfilter::netlink::Socket;
use crate::netfilter::rtnetlink::Router;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::unistd::{SysconfVar, geteuid, sysconf};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The longest file that is read: a list of a hundred thousand users has some 8 MB.
const LONGEST: u64 = 16 << 20;

/// The longest file of a user other than root and this process's, so that such a user cannot delay a run.
const LONGEST_OF_OTHER_USER: u64 = 64 << 10;

/// The environment, including values that are not UTF-8.
pub fn environment() -> Environment {
    Rc::new(std::env::vars_os().collect())
}

/// IPv6 in the network namespace.
///
/// # Errors
/// When the kernel does not list its addresses.
pub(crate) fn ipv6(router: &mut Router<Socket>) -> Result<Ipv6, Error> {
    let found = router.ipv6()?;
    Ok(Ipv6 {
        enabled: found.enabled,
        on_loopback: found.on_loopback,
        addresses: found.addresses,
    })
}

/// The bridges in the network namespace.
///
/// # Errors
/// When the kernel does not list its interfaces.
pub(crate) fn bridges(router: &mut Router<Socket>) -> Result<Vec<Interface>, Error> {
    Ok(router.bridges()?)
}

/// Whether a path exists; only "not found" means no.
///
/// # Errors
/// When that cannot be determined.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match stat(path) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// For how long a process has been running, if /proc shows it.
pub(crate) fn running_for(pid: i32) -> Option<Duration> {
    let read = |path: &str| Some(file(Path::new(path)).ok()?.text);
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may hold anything; proc_pid_stat(5) counts from 1.
    let started: u64 = stat.rsplit_once(')')?.1.split(' ').nth(20)?.parse().ok()?;
    let uptime: f64 = read("/proc/uptime")?.split(' ').next()?.parse().ok()?;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
    let started = started as f64 / ticks as f64;
    Duration::try_from_secs_f64(uptime - started).ok()
}

/// Reads a text file; bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// [`io::ErrorKind::NotFound`]; [`io::ErrorKind::FileTooLarge`] beyond 16 MiB, or 64 KiB for a file
/// of another user; anything that is not a regular file.
pub fn file(path: &Path) -> io::Result<TextFile> {
    // Opening a FIFO or a device can block, or have an effect.
    regular(&stat(path)?)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let status = fstat(&file)?;
    regular(&status)?;
    let of_other_user = status.st_uid != 0 && status.st_uid != geteuid().as_raw();
    let longest = match of_other_user && ![PASSWD, GROUP].map(Path::new).contains(&path) {
        true => LONGEST_OF_OTHER_USER,
        false => LONGEST,
    };
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let problem = match of_other_user {
            true => format!(
                "longer than the {} KiB of a file of another user",
                longest >> 10
            ),
            false => format!("longer than {} MiB", longest >> 20),
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(TextFile {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        of_other_user,
    })
}

fn regular(status: &FileStat) -> io::Result<()> {
    match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Ok(()),
        _ => Err(io::Error::other("not a regular file")),
    }
}
