//! The host as a watch sees it: what it says about itself is always asked anew, what was configured
//! is remembered, until it is to be read again.

use crate::mesh::config::facts::Ipv6;
use crate::mesh::config::{Host, resolv_conf};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What a file said, or why it could not be read.
type Text = Result<String, (io::ErrorKind, String)>;

/// What is remembered of configuration: the env files and the lists of users, as they were when they
/// made a good configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(BTreeMap<PathBuf, Text>);

/// Answers from memory, then from the host, and notes everything that is asked.
pub(super) struct Remembering<'a> {
    host: &'a dyn Host,
    memory: RefCell<Memory>,
    facts: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Remembering<'a> {
    /// Begins with what is known: nothing, for all to be read.
    pub(super) fn new(host: &'a dyn Host, memory: Memory) -> Self {
        Remembering {
            host,
            memory: RefCell::new(memory),
            facts: RefCell::default(),
        }
    }

    /// What is known now, and the files that were asked for facts.
    pub(super) fn finish(self) -> (Memory, BTreeSet<PathBuf>) {
        (self.memory.into_inner(), self.facts.into_inner())
    }
}

impl Memory {
    /// The files that are remembered, also those that were not there.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

impl Host for Remembering<'_> {
    fn env(&self, name: &str) -> Option<OsString> {
        self.host.env(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        if is_fact(path) {
            self.facts.borrow_mut().insert(path.to_owned());
            return self.host.file(path);
        }
        let mut memory = self.memory.borrow_mut();
        let text = memory.0.entry(path.to_owned()).or_insert_with(|| {
            let text = self.host.file(path);
            text.map_err(|e| (e.kind(), e.to_string()))
        });
        text.clone().map_err(|(kind, words)| match kind {
            io::ErrorKind::NotFound => kind.into(),
            kind => io::Error::new(kind, words),
        })
    }

    fn ipv6(&self) -> io::Result<Ipv6> {
        self.host.ipv6()
    }
}

/// Whether a file says what the host is like, and not what is wanted of it.
fn is_fact(path: &Path) -> bool {
    path == Path::new(resolv_conf::PATH) || path.starts_with("/proc")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Every file says how often files were read.
    struct Counter(Cell<u32>);

    impl Host for Counter {
        fn env(&self, _: &str) -> Option<OsString> {
            None
        }

        fn file(&self, path: &Path) -> io::Result<String> {
            self.0.set(self.0.get() + 1);
            match path.ends_with("absent") {
                true => Err(io::ErrorKind::NotFound.into()),
                false => Ok(self.0.get().to_string()),
            }
        }

        fn ipv6(&self) -> io::Result<Ipv6> {
            Ok(Ipv6::default())
        }
    }

    #[test]
    fn configuration_is_remembered_and_facts_are_not() {
        let host = Counter(Cell::new(0));
        let first = Remembering::new(&host, Memory::default());
        let read = |host: &Remembering, path: &str| host.file(Path::new(path)).unwrap_or_default();
        for path in ["/env", "/proc/self/uid_map", "/etc/resolv.conf", "/absent"] {
            read(&first, path);
        }
        let (memory, facts) = first.finish();
        assert_eq!(facts.len(), 2);
        assert_eq!(memory.files().count(), 2);
        let again = Remembering::new(&host, memory);
        assert_eq!(read(&again, "/env"), "1");
        assert_eq!(read(&again, "/etc/resolv.conf"), "5");
        let absent = again.file(Path::new("/absent")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        assert_eq!(host.0.get(), 5);
    }
}
