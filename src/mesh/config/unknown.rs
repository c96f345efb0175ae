//! Facts of the host that are not known, and why.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Unreadable {
    pub kind: io::ErrorKind,
    pub reason: String,
}

impl Unreadable {
    /// Whether the file itself is not the reason: memory or descriptors have run out, an I/O error.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind as Kind;
        !matches!(
            self.kind,
            Kind::NotFound
                | Kind::PermissionDenied
                | Kind::NotADirectory
                | Kind::IsADirectory
                | Kind::InvalidFilename
                | Kind::FileTooLarge
                | Kind::Other
        )
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable {
            kind: error.kind(),
            reason: error.to_string(),
        }
    }
}

/// Why a fact is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FactError {
    /// Nobody has read this file yet: add it with `Facts::learn`, then ask again.
    #[error("{} was not read", .0.display())]
    NotGathered(PathBuf),

    /// The IPv6 addresses of the kernel have not been read yet.
    #[error("IPv6 is not known")]
    Ipv6NotGathered,

    #[error("{}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: Unreadable },

    /// An entry of /etc/passwd or /etc/group whose number no user or group can have.
    #[error("{path} has no valid number for {name:?}: {field:?}")]
    BadEntry {
        path: &'static str,
        name: String,
        field: String,
    },

    /// A name that is not text. In a file, too, U+FFFD stands for bytes that are not UTF-8.
    #[error("the name {0:?} is not UTF-8")]
    NotText(String),
}
