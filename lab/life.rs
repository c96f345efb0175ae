//! As whom the program runs, and how it ends: by signal, or when whoever started
//! it is gone.

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use std::io;
use std::sync::Mutex;
use std::thread;

type LastWords = Box<dyn FnOnce() + Send>;

static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

/// Becomes another user, supplementary groups and capabilities gone. The binary
/// is started by root first: it may lie where that user cannot look.
pub fn become_user(uid: u32, gid: u32) -> nix::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(gid))?;
    setuid(Uid::from_raw(uid))
}

/// Ends the process in order on SIGTERM and SIGINT, and with `lifeline` also
/// when stdin is closed: a parent that keeps the other end of a pipe takes this
/// process with it, however it dies. Call before any thread is started, since
/// threads inherit the blocked signals.
pub fn watch(lifeline: bool) -> nix::Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    thread::spawn(move || {
        let _ = signals.wait();
        end();
    });
    if lifeline {
        thread::spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            end();
        });
    }
    Ok(())
}

/// What to say when the process ends.
pub fn set_last_words(words: impl FnOnce() + Send + 'static) {
    *LAST_WORDS.lock().unwrap() = Some(Box::new(words));
}

/// Says the last words, once, and exits with 0.
pub fn end() -> ! {
    let mut words = LAST_WORDS.lock().unwrap();
    if let Some(words) = words.take() {
        words();
    }
    // The lock is held until the exit: nobody else ends before all was said.
    std::process::exit(0)
}
