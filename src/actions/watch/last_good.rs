//! The last good configuration: the env files whose rules were installed last. With it, a bad line
//! in a file that another user may write does not leave a machine without rules at its next boot.

use crate::mesh::config::{Facts, TextFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A directory that only root reads, from systemd's `StateDirectory=`.
#[derive(Debug)]
pub(super) struct LastGood(Option<PathBuf>);

impl LastGood {
    /// In `$STATE_DIRECTORY`, if the service manager set it.
    pub(super) fn of(facts: &Facts) -> Self {
        let directory = facts.variable("STATE_DIRECTORY").map(PathBuf::from);
        LastGood(directory.map(|directory| directory.join("last-good.json")))
    }

    /// Saves the env files among these facts, atomically by rename(2).
    pub(super) fn save(&self, facts: &Facts) {
        let Some(path) = &self.0 else {
            return;
        };
        let files: BTreeMap<&Path, &str> = facts.env_files().collect();
        let saved = serde_json::to_string(&files)
            .map_err(io::Error::other)
            .and_then(|text| replace(path, &text));
        if let Err(e) = saved {
            log::warn!("cannot save the last good configuration: {e}");
        }
    }

    /// Replaces the env files among `facts` by the saved ones. Returns whether there are any.
    pub(super) fn restore(&self, facts: &mut Facts) -> bool {
        let text = self
            .0
            .as_ref()
            .and_then(|p| crate::engine::host::file(p).ok());
        let files = text.and_then(|t| serde_json::from_str(&t.text).ok());
        let files: BTreeMap<PathBuf, String> = files.unwrap_or_default();
        let any = !files.is_empty();
        for (path, text) in files {
            facts.learn(path, Ok(TextFile::from(text)));
        }
        any
    }
}

/// The only file that a watch writes.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    #[expect(clippy::disallowed_types, reason = "as above")]
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
