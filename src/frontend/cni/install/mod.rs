//! The installer: `prepare-proxy cni install|remove|status` puts the plugin where a container runtime
//! finds it, and takes it away.
//!
//! | file | has |
//! |---|---|
//! | `args` | the command line |
//! | `list` | lists of plugins as text: the managed entries in them, and how they come and go |
//! | `folder` | files that are never there by half |
//! | `watch` | the main process of a DaemonSet |

mod args;
mod folder;
pub mod list;
mod watch;

pub(in crate::frontend) use args::command;

use super::entry::Entry;
use super::failure::Failure;
use crate::engine::host;
use crate::frontend::Exit;
use crate::mesh::config::Environment;
use args::{Line, Place, Verb};
use folder::{Folder, Found};
use list::Kind;
use nix::errno::Errno;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The name of the plugin, which is that of the binary, and its `type`.
const NAME: &str = "prepare-proxy";

/// Behind the files of other plugins that are dropped in.
const DROP_IN: &str = "90-prepare-proxy.conf";

/// Why nothing could be installed or removed.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("{doing} {}: {source}{}", path.display(), remedy(source))]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error("{}: {problem}", path.display())]
    List { path: PathBuf, problem: String },

    #[error("{}: no list of plugins is there yet (.conf, .conflist or .json)", .0.display())]
    NoList(PathBuf),

    #[error("{}: a list of this name is there already, and would be replaced by what {} becomes; remove one of them", list.display(), conf.display())]
    TwoLists { conf: PathBuf, list: PathBuf },

    #[error("{0}")]
    Entry(String),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => {
            " (is it the folder that the runtime uses? --bin-dir and --conf-dir name another)"
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            " (requires root, CAP_DAC_OVERRIDE where root does not own it, and with SELinux the type spc_t)"
        }
        _ => "",
    }
}

/// Whether these arguments, the program's name first, are for the installer.
pub(in crate::frontend) fn is_asked_for(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|word| word == "cni")
}

/// Runs `prepare-proxy cni …`.
pub(in crate::frontend) fn run(
    args: &[OsString],
    environment: &Environment,
) -> Result<Exit, clap::Error> {
    let line = Line::read(&args[1..])?;
    line.log_format.start(log::LevelFilter::Info, environment);
    let done = match &line.verb {
        Verb::Install {
            entry,
            watch: true,
            place,
            drop_in,
        } => watch::run(place, entry, *drop_in),
        Verb::Install {
            entry,
            place,
            drop_in,
            ..
        } => install(place, entry, *drop_in).map(say),
        Verb::Remove { place, binary } => remove(place, *binary).map(|()| Exit::Done),
        Verb::Status { place, json } => status(place).and_then(|status| print(&status, *json)),
    };
    Ok(done.unwrap_or_else(|trouble| {
        log::error!(kind = "cni"; "{trouble}");
        match trouble {
            Trouble::Entry(_) => Exit::BadInput,
            _ => Exit::Failed,
        }
    }))
}

/// What an installation has changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    binary: bool,
    /// The file that names the plugin now, if it did not before.
    list: Option<PathBuf>,
}

fn say(changed: Changed) -> Exit {
    if changed.binary {
        log::info!("the plugin is installed");
    }
    match changed.list {
        Some(path) => log::info!("{}: the plugin is in the list", path.display()),
        None => log::info!("the list is as it should be"),
    }
    Exit::Done
}

/// Puts binary and entry where they belong; what is right stays as it is. The binary comes first: a
/// list never names a plugin that is not there.
fn install(place: &Place, entry: &str, drop_in: bool) -> Result<Changed, Trouble> {
    let binary = install_binary(&place.bin_dir)?;
    let folder = Folder::lock(&place.conf_dir)?;
    let first = folder
        .first_list()?
        .ok_or_else(|| Trouble::NoList(place.conf_dir.clone()))?;
    let list = match drop_in {
        true => {
            let network = folder.subfolder(&first.network()?)?;
            let dropped = network.put(DROP_IN, &format!("{entry}\n"), None)?;
            // Only then the same entry in the list itself, which would be a second call.
            folder.edit(&first, None)?;
            dropped.then(|| network.path(DROP_IN))
        }
        false => {
            let edited = folder.edit(&first, Some(entry))?;
            remove_drop_ins(&folder)?;
            edited
        }
    };
    Ok(Changed { binary, list })
}

/// Takes the entry out of every list, and then, if it is asked for, the binary away.
fn remove(place: &Place, binary: bool) -> Result<(), Trouble> {
    let folder = Folder::lock(&place.conf_dir)?;
    let mut removed = remove_drop_ins(&folder)?;
    for found in folder.lists()? {
        removed |= folder.edit(&found, None)?.is_some();
    }
    match removed {
        true => log::info!(
            "{}: no list names the plugin any more",
            place.conf_dir.display()
        ),
        false => log::info!("{}: no list names the plugin", place.conf_dir.display()),
    }
    match binary {
        true => Folder::lock(&place.bin_dir)?.remove(NAME).map(drop),
        false => Ok(()),
    }
}

fn remove_drop_ins(folder: &Folder) -> Result<bool, Trouble> {
    let mut removed = false;
    for network in folder.subfolders()? {
        removed |= network.remove(DROP_IN)?;
    }
    Ok(removed)
}

/// A copy of this program, unless there is one.
fn install_binary(bin_dir: &Path) -> Result<bool, Trouble> {
    let program = this_program()?;
    let folder = Folder::lock(bin_dir)?;
    folder.put_bytes(NAME, &program, Some(0o755))
}

fn this_program() -> Result<Vec<u8>, Trouble> {
    folder::read(Path::new("/proc/self/exe"))
}

/// What is installed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Pods of this node are given their rules: all of what follows is as it should be.
    ready: bool,
    /// The plugin in the folder is this program.
    binary: Binary,
    /// The list that the runtime uses.
    list: Option<PathBuf>,
    /// The file that names the plugin: the list, or one that is dropped in.
    entry: Option<PathBuf>,
    /// Why the entry cannot be used.
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Binary {
    Same,
    Other,
    Absent,
}

fn status(place: &Place) -> Result<Status, Trouble> {
    let binary = match host::exists(&place.bin_dir.join(NAME)) {
        Ok(false) => Binary::Absent,
        Err(_) => Binary::Other,
        Ok(true) => match folder::read(&place.bin_dir.join(NAME))? == this_program()? {
            true => Binary::Same,
            false => Binary::Other,
        },
    };
    let folder = Folder::open(&place.conf_dir)?;
    let list = folder.first_list()?;
    let found = list
        .as_ref()
        .map(|list| named_in(&folder, list))
        .transpose()?
        .flatten();
    let problem = found.as_ref().and_then(|(_, entry)| check(entry).err());
    Ok(Status {
        ready: binary == Binary::Same && found.is_some() && problem.is_none(),
        binary,
        list: list.map(|list| list.path),
        entry: found.map(|(path, _)| path),
        problem,
    })
}

/// Where a list has our entry, and the entry.
fn named_in(folder: &Folder, list: &Found) -> Result<Option<(PathBuf, String)>, Trouble> {
    if let Some(entry) = list.entry()? {
        return Ok(Some((list.path.clone(), entry)));
    }
    let dropped = folder.path(&list.network()?).join(DROP_IN);
    match host::file(&dropped) {
        Ok(file) => Ok(Some((dropped, file.text))),
        Err(_) => Ok(None),
    }
}

/// Whether the plugin understands an entry, as a runtime would pass it on.
fn check(entry: &str) -> Result<(), String> {
    let mut whole: serde_json::Value = serde_json::from_str(entry).map_err(|e| e.to_string())?;
    whole["cniVersion"] = super::VERSIONS[0].into();
    whole["name"] = NAME.into();
    let understood = Entry::read(&whole.to_string()).and_then(|entry| entry.check());
    understood.map_err(|Failure { msg, .. }| msg)
}

fn print(status: &Status, json: bool) -> Result<Exit, Trouble> {
    let text = match json {
        true => serde_json::to_string_pretty(status).expect("a struct of texts is JSON") + "\n",
        false => status.to_string(),
    };
    let written = io::stdout().lock().write_all(text.as_bytes());
    if let Err(e) = written {
        log::debug!("{e}");
    }
    Ok(match status.ready {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "none".to_owned(),
        };
        let binary = match self.binary {
            Binary::Same => "this version",
            Binary::Other => "another version",
            Binary::Absent => "absent",
        };
        writeln!(f, "{}", if self.ready { "ready" } else { "not ready" })?;
        writeln!(f, "binary  {binary}")?;
        writeln!(f, "list    {}", path(&self.list))?;
        writeln!(f, "entry   {}", path(&self.entry))?;
        match &self.problem {
            Some(problem) => writeln!(f, "problem {problem}"),
            None => Ok(()),
        }
    }
}

impl Found {
    fn list_error(&self, problem: impl ToString) -> Trouble {
        Trouble::List {
            path: self.path.clone(),
            problem: problem.to_string(),
        }
    }

    /// The name of its network, which is that of the folder for what is dropped in.
    fn network(&self) -> Result<String, Trouble> {
        let name = list::network(&self.text).map_err(|e| self.list_error(e))?;
        match name.is_empty() || name.contains('/') || [".", ".."].contains(&name.as_str()) {
            true => Err(self.list_error("its network has no name")),
            false => Ok(name),
        }
    }

    /// Our entry, if there is one.
    fn entry(&self) -> Result<Option<String>, Trouble> {
        list::entry(&self.text, NAME).map_err(|e| self.list_error(e))
    }
}

impl Folder {
    /// Puts our entry into a list, or takes it out. Returns the file that was written, if one was. A
    /// single plugin becomes a list beside it, which counts when the single one has gone.
    fn edit(&self, found: &Found, entry: Option<&str>) -> Result<Option<PathBuf>, Trouble> {
        let kind = list::kind(&found.text).map_err(|e| found.list_error(e))?;
        let edited = list::edit(&found.text, NAME, entry).map_err(|e| found.list_error(e))?;
        if edited == found.text {
            return Ok(None);
        }
        let name = match kind {
            Kind::List => found.name.clone(),
            Kind::Single => found.name.trim_end_matches(".conf").to_owned() + ".conflist",
        };
        if name != found.name {
            let conf = found.path.clone();
            match self.find(&name)? {
                Some(other) if other.text != edited => {
                    return Err(Trouble::TwoLists {
                        conf,
                        list: other.path,
                    });
                }
                _ => {}
            }
        }
        self.put_like(&name, &edited, found)?;
        if name != found.name {
            self.remove(&found.name)?;
        }
        Ok(Some(self.path(&name)))
    }
}
