//! Files that are never there by half: written under a name that no runtime reads, and renamed.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the installer writes what its name says"
)]

use super::Trouble;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Uid, fchown};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Runtimes read files with these endings, the first by name.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// What is written, until it is whole. Whoever holds the lock may write over what a killed run left.
const TEMPORARY: &str = ".prepare-proxy.tmp";

/// A folder of a container runtime.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held while something may be written: one installer after the other.
    _lock: Option<Flock<File>>,
}

/// A configuration file.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// A whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    fs::read(path).map_err(trouble("reading", path))
}

fn trouble(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Trouble {
    let path = path.to_owned();
    move |source| Trouble::File {
        doing,
        path: path.clone(),
        source,
    }
}

impl Folder {
    /// A folder that is only read.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        Ok(Folder {
            path: path.to_owned(),
            _lock: None,
        })
    }

    /// Waits until no other installer is at work in a folder.
    pub(super) fn lock(path: &Path) -> Result<Self, Trouble> {
        let file = File::open(path).map_err(trouble("opening", path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, e)| trouble("locking", path)(e.into()))?;
        Ok(Folder {
            path: path.to_owned(),
            _lock: Some(lock),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder in this one, which is made if it is not there.
    pub(super) fn subfolder(&self, name: &str) -> Result<Folder, Trouble> {
        let path = self.path(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(trouble("making", &path)(e)),
            _ => Folder::lock(&path),
        }
    }

    /// The folders in this one.
    pub(super) fn subfolders(&self) -> Result<Vec<Folder>, Trouble> {
        let names = self.names(|entry| entry.path().is_dir())?;
        names
            .iter()
            .map(|name| Folder::open(&self.path(name)))
            .collect()
    }

    /// The configuration that the runtime uses.
    pub(super) fn first_list(&self) -> Result<Option<Found>, Trouble> {
        let names = self.list_names()?;
        names.first().map_or(Ok(None), |name| self.find(name))
    }

    /// All configurations, in the order in which runtimes look at them.
    pub(super) fn lists(&self) -> Result<Vec<Found>, Trouble> {
        let names = self.list_names()?;
        names
            .iter()
            .filter_map(|name| self.find(name).transpose())
            .collect()
    }

    fn list_names(&self) -> Result<Vec<String>, Trouble> {
        self.names(|entry| {
            let name = entry.file_name();
            let ending = Path::new(&name).extension().and_then(OsStr::to_str);
            // ".conf" alone is an ending to Go.
            let bare = name.to_str().and_then(|name| name.strip_prefix('.'));
            let is = |ending: Option<&str>| ending.is_some_and(|ending| ENDINGS.contains(&ending));
            (is(ending) || is(bare)) && !entry.path().is_dir()
        })
    }

    fn names(&self, wanted: impl Fn(&fs::DirEntry) -> bool) -> Result<Vec<String>, Trouble> {
        let entries = fs::read_dir(&self.path).map_err(trouble("reading", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(trouble("reading", &self.path))?;
            if let (true, Ok(name)) = (wanted(&entry), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A file of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Found>, Trouble> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Found {
                name: name.to_owned(),
                path,
                text,
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(trouble("reading", &path)(e)),
        }
    }

    /// Writes a file unless it has these contents. Returns whether it was written.
    pub(super) fn put(&self, name: &str, text: &str, mode: Option<u32>) -> Result<bool, Trouble> {
        self.put_bytes(name, text.as_bytes(), mode)
    }

    /// The same; without a mode it keeps that of the file before, or is root's to write.
    pub(super) fn put_bytes(
        &self,
        name: &str,
        bytes: &[u8],
        mode: Option<u32>,
    ) -> Result<bool, Trouble> {
        let path = self.path(name);
        let before = match fs::metadata(&path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(trouble("looking at", &path)(e)),
        };
        let right_mode = |m: &fs::Metadata| mode.is_none_or(|mode| m.mode() & 0o7777 == mode);
        if before.as_ref().is_some_and(right_mode) && read(&path)? == bytes {
            return Ok(false);
        }
        self.replace(&path, bytes, mode, before.as_ref())?;
        Ok(true)
    }

    /// Writes a file with mode and owner of another.
    pub(super) fn put_like(&self, name: &str, text: &str, like: &Found) -> Result<(), Trouble> {
        let before = fs::metadata(&like.path).map_err(trouble("looking at", &like.path))?;
        self.replace(&self.path(name), text.as_bytes(), None, Some(&before))
    }

    fn replace(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: Option<u32>,
        before: Option<&fs::Metadata>,
    ) -> Result<(), Trouble> {
        // A link stays, and what it leads to is replaced.
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(e) => return Err(trouble("looking at", path)(e)),
        };
        let folder = target.parent().unwrap_or(&self.path).to_owned();
        let temporary = folder.join(TEMPORARY);
        let failed = trouble("writing", &temporary);
        let mode = mode.or(before.map(|m| m.mode() & 0o7777)).unwrap_or(0o644);
        remove(&temporary)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o700)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&temporary)
            .map_err(&failed)?;
        if let Some(owner) = before.filter(|m| (m.uid(), m.gid()) != (0, 0)) {
            let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
            fchown(&file, Some(uid), Some(gid)).map_err(|e| failed(e.into()))?;
        }
        let written = file.write_all(bytes).and_then(|()| {
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| fs::rename(&temporary, &target));
        if renamed.is_err() {
            // What is left is written over the next time.
            let _ = fs::remove_file(&temporary);
        }
        renamed.map_err(failed)?;
        sync(&folder)
    }

    /// Removes a file. Returns whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Trouble> {
        let removed = remove(&self.path(name))?;
        if removed {
            sync(&self.path)?;
        }
        Ok(removed)
    }
}

fn remove(path: &Path) -> Result<bool, Trouble> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(trouble("removing", path)(e)),
    }
}

/// Names are on the disk too. A file system that cannot sync is not ours to mend.
fn sync(folder: &Path) -> Result<(), Trouble> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        Err(e) if e.raw_os_error() != Some(Errno::EINVAL as i32) => {
            Err(trouble("syncing", folder)(e))
        }
        _ => Ok(()),
    }
}
