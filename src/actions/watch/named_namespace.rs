//! The watched network namespace, if it was named. A watch keeps the namespace alive, so its path
//! is polled to notice that it was deleted.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A network namespace and the path by which it was entered.
#[derive(Debug)]
pub(super) struct NamedNamespace {
    pub path: PathBuf,
    /// Device and inode, which identify a namespace (namespaces(7)).
    id: (u64, u64),
}

impl NamedNamespace {
    /// The namespace of this process, entered by `path`.
    pub(super) fn entered_by(path: &Path) -> io::Result<Self> {
        Ok(NamedNamespace {
            path: path.to_owned(),
            id: id(Path::new("/proc/self/ns/net"))?,
        })
    }

    /// Whether the path still refers to the namespace, as far as that can be determined.
    pub(super) fn exists(&self) -> bool {
        match id(&self.path) {
            Ok(id) => id == self.id,
            Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}
