//! The network namespace that is watched, where it was named. A watch pins the namespace, which would
//! otherwise be gone, so its path is polled.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A network namespace and the path by which it was entered.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    /// Device and inode: what distinguishes namespaces (namespaces(7)).
    id: (u64, u64),
}

impl Place {
    /// The namespace of this process, entered by `path`.
    pub(super) fn entered_by(path: &Path) -> io::Result<Self> {
        Ok(Place {
            path: path.to_owned(),
            id: id(Path::new("/proc/self/ns/net"))?,
        })
    }

    /// Whether the path still leads here, as far as that can be determined.
    pub(super) fn is_there(&self) -> bool {
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
