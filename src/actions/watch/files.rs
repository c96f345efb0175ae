//! Files that decide on the rules, followed by inotify(7): by name, so that a file that is replaced
//! is followed too, through every symbolic link on the way, and from directories that do not exist
//! yet.
//!
//! What is on the way can change as well. So nothing is kept up to date here: when anything on the
//! way has changed, all watches are made anew.

use nix::errno::Errno;
use nix::libc::IN_MASK_ADD;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What has happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// It is there, whole: closed by who wrote it, or moved to its place.
    Whole,
    /// It went, or something on the way did, or is being made: there may be more to come.
    Partial,
}

/// Followed files.
#[derive(Debug)]
pub(super) struct Files {
    inotify: Inotify,
    paths: BTreeSet<PathBuf>,
    watches: BTreeMap<i32, Watch>,
}

/// What one inotify watch is for.
#[derive(Debug, Default)]
struct Watch {
    /// The names of interest in a directory, and the files that depend on each.
    names: BTreeMap<OsString, BTreeSet<PathBuf>>,
    /// The files that depend on the watched object itself.
    itself: BTreeSet<PathBuf>,
}

impl Files {
    /// Follows no file yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Files {
            inotify: start()?,
            paths: BTreeSet::new(),
            watches: BTreeMap::new(),
        })
    }

    /// From now on follows just these files, by their absolute paths. Says whether they are others
    /// than before: such may have changed since they were read.
    pub(super) fn follow(&mut self, paths: BTreeSet<PathBuf>) -> io::Result<bool> {
        let others = paths != self.paths;
        if others {
            self.paths = paths;
            self.watch()?;
        }
        Ok(others)
    }

    /// Says which of the files have changed since the last time, and how; does not wait.
    pub(super) fn drain(&mut self) -> io::Result<BTreeMap<PathBuf, Change>> {
        let mut changed = BTreeMap::new();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events {
                for (path, change) in self.concerned(event) {
                    // What was said last counts.
                    changed.insert(path, change);
                }
            }
        }
        if !changed.is_empty() {
            self.watch()?;
        }
        Ok(changed)
    }

    /// The files that an event is about.
    fn concerned(&self, event: &InotifyEvent) -> Vec<(PathBuf, Change)> {
        const WHOLE: AddWatchFlags =
            AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO);
        let change = match event.mask.intersects(WHOLE) {
            true => Change::Whole,
            false => Change::Partial,
        };
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            let all = self.paths.iter().cloned();
            return all.map(|path| (path, Change::Partial)).collect();
        }
        let Some(watch) = self.watches.get(&event.wd.as_raw()) else {
            return Vec::new();
        };
        // The last word of a watch whose object has gone, which was told already.
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            return Vec::new();
        }
        let files = match &event.name {
            Some(name) => watch.names.get(name),
            None => Some(&watch.itself),
        };
        let files = files.into_iter().flatten().cloned();
        files.map(|path| (path, change)).collect()
    }

    /// Makes all watches anew.
    fn watch(&mut self) -> io::Result<()> {
        self.inotify = start()?;
        self.watches.clear();
        for path in self.paths.clone() {
            self.watch_way(&path)?;
        }
        Ok(())
    }

    /// Watches everything on the way to a file, as far as there is a way.
    fn watch_way(&mut self, path: &Path) -> io::Result<()> {
        let mut way = Way::to(path);
        while let Some(name) = way.next_name() {
            let named = way.at.join(&name);
            match self.watch_step(&way, &name, path)? {
                Found::Nothing => return Ok(()),
                Found::Link(target) => way.follow(&target),
                Found::Directory | Found::File => way.at = named,
            }
            if way.links > MOST_LINKS {
                return Ok(());
            }
        }
        // A file can be written by another of its names, or where it is mounted from.
        self.watch_object(&way.at, AddWatchFlags::IN_CLOSE_WRITE, None, path)
    }

    /// Watches one step, and says what is there. Looks again when the watch is in place: from then
    /// on changes are told.
    fn watch_step(&mut self, way: &Way, name: &OsStr, path: &Path) -> io::Result<Found> {
        let named = way.at.join(name);
        loop {
            let found = Found::at(&named);
            match found {
                Found::Directory => self.watch_object(&named, MOVED, None, path)?,
                _ => self.watch_object(&way.at, NAMES, Some(name), path)?,
            }
            if Found::at(&named) == found {
                return Ok(found);
            }
        }
    }

    /// Adds to what is watched about an object, if it is there.
    fn watch_object(
        &mut self,
        at: &Path,
        flags: AddWatchFlags,
        name: Option<&OsStr>,
        path: &Path,
    ) -> io::Result<()> {
        // What is watched already stays so.
        let add = AddWatchFlags::from_bits_retain(IN_MASK_ADD);
        let wd = match self.inotify.add_watch(at, flags | add) {
            Ok(wd) => wd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let watch = self.watches.entry(wd.as_raw()).or_default();
        let files = match name {
            Some(name) => watch.names.entry(name.to_owned()).or_default(),
            None => &mut watch.itself,
        };
        files.insert(path.to_owned());
        Ok(())
    }
}

/// In a directory: a name that comes, goes, or is written.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ONLYDIR);

/// A directory that is no longer where it was.
const MOVED: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Link(PathBuf),
    Directory,
    File,
}

impl Found {
    fn at(path: &Path) -> Self {
        match path.symlink_metadata() {
            Err(_) => Found::Nothing,
            Ok(found) if found.is_symlink() => {
                std::fs::read_link(path).map_or(Found::Nothing, Found::Link)
            }
            Ok(found) if found.is_dir() => Found::Directory,
            Ok(_) => Found::File,
        }
    }
}

impl AsFd for Files {
    /// Readable when something on the way to a file has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn start() -> io::Result<Inotify> {
    Ok(Inotify::init(
        InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK,
    )?)
}

/// The way to a file, one name after the other, as path_resolution(7) goes it.
struct Way {
    /// Where we are: no link is on the way to here.
    at: PathBuf,
    names: VecDeque<OsString>,
    links: usize,
}

impl Way {
    fn to(path: &Path) -> Self {
        let mut way = Way {
            at: PathBuf::from("/"),
            names: VecDeque::new(),
            links: 0,
        };
        way.put_before(path);
        way
    }

    /// Goes this path before what is left.
    fn put_before(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.names.push_front(name.to_owned()),
                Component::ParentDir => self.names.push_front("..".into()),
                Component::RootDir => self.at = PathBuf::from("/"),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    /// The next name to look for.
    fn next_name(&mut self) -> Option<OsString> {
        loop {
            let name = self.names.pop_front()?;
            if name != ".." {
                return Some(name);
            }
            self.at.pop();
        }
    }

    /// Goes where a link leads.
    fn follow(&mut self, target: &Path) {
        self.links += 1;
        self.put_before(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A directory, and a follower of one file below it.
    fn followed(name: &str, prepare: impl FnOnce(&Path)) -> (TempDir, PathBuf, Files) {
        let dir = TempDir::new().unwrap();
        let root = dir.path().canonicalize().unwrap();
        prepare(&root);
        let path = root.join(name);
        let mut files = Files::new().unwrap();
        assert!(files.follow([path.clone()].into()).unwrap());
        (dir, root, files)
    }

    /// What has happened to the one file.
    fn told(files: &mut Files) -> Option<Change> {
        let changed = files.drain().unwrap();
        assert!(changed.len() <= 1);
        changed.into_values().next()
    }

    #[test]
    fn every_way_to_change_a_file_is_told() {
        let (_dir, root, mut files) =
            followed("env", |root| fs::write(root.join("env"), "").unwrap());
        let env = root.join("env");
        assert_eq!(told(&mut files), None);
        for _ in 0..3 {
            fs::write(&env, "A=1").unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
            fs::File::options()
                .write(true)
                .open(&env)
                .unwrap()
                .set_len(0)
                .unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
            fs::write(root.join("new"), "A=2").unwrap();
            assert_eq!(told(&mut files), None);
            fs::rename(root.join("new"), &env).unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
            fs::remove_file(&env).unwrap();
            assert_eq!(told(&mut files), Some(Change::Partial));
            fs::write(&env, "").unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
        }
        fs::read(&env).unwrap();
        assert_eq!(told(&mut files), None);
    }

    #[test]
    fn directories_may_come_later_and_go_again() {
        let (_dir, root, mut files) = followed("a/b/env", |_| ());
        for _ in 0..3 {
            fs::create_dir_all(root.join("a/b")).unwrap();
            assert_eq!(told(&mut files), Some(Change::Partial));
            fs::write(root.join("a/b/env"), "").unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
            fs::rename(root.join("a"), root.join("c")).unwrap();
            assert_eq!(told(&mut files), Some(Change::Partial));
            fs::write(root.join("c/b/env"), "").unwrap();
            assert_eq!(told(&mut files), None);
            fs::rename(root.join("c"), root.join("a")).unwrap();
            assert_eq!(told(&mut files), Some(Change::Whole));
            fs::remove_dir_all(root.join("a")).unwrap();
            assert_eq!(told(&mut files), Some(Change::Partial));
        }
    }

    #[test]
    fn links_are_followed_and_so_are_their_changes() {
        let (_dir, root, mut files) = followed("etc/resolv.conf", |root| {
            fs::create_dir(root.join("etc")).unwrap();
            symlink("../run/stub.conf", root.join("etc/resolv.conf")).unwrap();
        });
        fs::create_dir(root.join("run")).unwrap();
        assert_eq!(told(&mut files), Some(Change::Partial));
        fs::write(root.join("run/stub.conf"), "").unwrap();
        assert_eq!(told(&mut files), Some(Change::Whole));
        fs::write(root.join("run/full.conf"), "").unwrap();
        assert_eq!(told(&mut files), None);
        symlink("../run/full.conf", root.join("etc/new")).unwrap();
        fs::rename(root.join("etc/new"), root.join("etc/resolv.conf")).unwrap();
        assert_eq!(told(&mut files), Some(Change::Whole));
        fs::write(root.join("run/full.conf"), "").unwrap();
        assert_eq!(told(&mut files), Some(Change::Whole));
        fs::write(root.join("run/stub.conf"), "").unwrap();
        assert_eq!(told(&mut files), None);
    }

    #[test]
    fn another_name_of_the_file_will_do() {
        let (_dir, root, mut files) = followed("env", |root| {
            fs::write(root.join("env"), "").unwrap();
            fs::hard_link(root.join("env"), root.join("other")).unwrap();
        });
        fs::write(root.join("other"), "A=1").unwrap();
        assert_eq!(told(&mut files), Some(Change::Whole));
    }

    #[test]
    fn links_in_a_circle_end() {
        let (_dir, root, mut files) =
            followed("env", |root| symlink("env", root.join("env")).unwrap());
        fs::remove_file(root.join("env")).unwrap();
        assert_eq!(told(&mut files), Some(Change::Partial));
    }

    #[test]
    fn other_files_are_nobodys_business() {
        let (_dir, root, mut files) =
            followed("env", |root| fs::write(root.join("env"), "").unwrap());
        assert!(!files.follow([root.join("env")].into()).unwrap());
        for n in 0..1000 {
            fs::write(root.join(format!("other-{n}")), "").unwrap();
        }
        assert_eq!(told(&mut files), None);
        // More than the queue of inotify has room for: anything may have happened.
        for n in 0..20_000 {
            fs::write(root.join(format!("other-{}", n % 7)), "").unwrap();
        }
        assert_eq!(told(&mut files), Some(Change::Partial));
    }
}
