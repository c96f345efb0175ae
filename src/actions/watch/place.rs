//! The network namespace that is watched, where it was named: it lives as long as somebody is in it,
//! so that we would keep it for ever.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A network namespace and the path by which it was entered.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    /// Device and inode: what tells namespaces apart (namespaces(7)).
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

    /// Whether the path still leads here: for others there is no namespace any more if it does not.
    pub(super) fn is_there(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Whether nobody tells when it goes, as with `/proc/PID/ns/net`.
    pub(super) fn goes_silently(&self) -> bool {
        self.path.starts_with("/proc")
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}
