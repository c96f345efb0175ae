//! What the host said when the run began, as a value: the configuration is resolved from options and
//! facts alone.
//!
//! Only "not found" means no. A fact that could not be read is an error wherever it matters: a wrong
//! guess would let traffic bypass the proxy.

use super::unknown::{FactError, Unreadable};
use super::values;
use crate::mesh::managed::PASSTHROUGH;
use crate::netfilter::model::Interface;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Users by name (passwd(5)).
pub const PASSWD: &str = "/etc/passwd";
/// Groups by name (group(5)).
pub const GROUP: &str = "/etc/group";

/// Environment variables, whatever their bytes. Shared: Kubernetes gives a container seven for each
/// service of its namespace.
pub type Environment = Rc<BTreeMap<OsString, OsString>>;

/// Everything known of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub environment: Environment,
    /// IPv6 in the network namespace, once it is known.
    pub ipv6: Option<Ipv6>,
    /// The bridges in the network namespace, if they were asked for: containers may be behind them.
    pub bridges: Vec<Interface>,
    files: BTreeMap<PathBuf, Result<TextFile, Unreadable>>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    pub text: String,
    /// It belongs to neither root nor the user of this process: what it may ask for is bounded.
    pub of_other_user: bool,
}

impl From<String> for TextFile {
    fn from(text: String) -> Self {
        TextFile {
            text,
            of_other_user: false,
        }
    }
}

impl Facts {
    /// An environment, and nothing else yet.
    pub fn of(environment: Environment) -> Self {
        Facts {
            environment,
            ..Facts::default()
        }
    }

    /// An environment variable.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// Adds what reading a file gave.
    pub fn learn(&mut self, path: PathBuf, file: io::Result<impl Into<TextFile>>) {
        self.files
            .insert(path, file.map(Into::into).map_err(Unreadable::from));
    }

    /// The env files that were read, with their text; an absent one has none.
    pub fn env_files(&self) -> impl Iterator<Item = (&Path, &str)> {
        const OTHERS: [&str; 3] = [PASSWD, GROUP, super::resolv_conf::PATH];
        let files = self.files.iter().filter_map(|(path, file)| match file {
            Ok(file) => Some((path.as_path(), file.text.as_str())),
            Err(e) if e.kind == io::ErrorKind::NotFound => Some((path.as_path(), "")),
            Err(_) => None,
        });
        files.filter(|(path, _)| OTHERS.iter().all(|other| *path != Path::new(other)))
    }

    /// Whether a file that was read belongs to another user.
    pub fn is_of_other_user(&self, path: &Path) -> bool {
        matches!(self.files.get(path), Some(Ok(file)) if file.of_other_user)
    }

    /// Forgets a file, so that it is read again when it is needed.
    pub fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// The text of a file; `None` if there is no such file.
    ///
    /// # Errors
    /// [`FactError::NotGathered`] and [`FactError::Unreadable`].
    pub fn file(&self, path: &Path) -> Result<Option<&str>, FactError> {
        match self.files.get(path) {
            None => Err(FactError::NotGathered(path.to_owned())),
            Some(Ok(file)) => Ok(Some(&file.text)),
            Some(Err(e)) if e.kind == io::ErrorKind::NotFound => Ok(None),
            Some(Err(e)) => Err(FactError::Unreadable {
                path: path.to_owned(),
                problem: e.clone(),
            }),
        }
    }

    /// A user's or group's number from [`PASSWD`] or [`GROUP`], `None` if the file or the name is
    /// not there. Name services (NSS) are never asked: they can hang, and a static binary cannot load
    /// them.
    ///
    /// # Errors
    /// When the file cannot be read, or has a number for the name that no user can have.
    pub fn look_up(&self, path: &'static str, name: &str) -> Result<Option<u32>, FactError> {
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(FactError::NotText(name.to_owned()));
        }
        let lines = self.file(Path::new(path))?.unwrap_or_default().lines();
        let entry = lines.map(|line| line.split(':')).find_map(|mut fields| {
            (fields.next()? == name).then(|| fields.nth(1).unwrap_or_default())
        });
        entry.map(|field| number(field, path, name)).transpose()
    }

    /// The primary group of a user in [`PASSWD`].
    ///
    /// # Errors
    /// As those of [`Facts::look_up`].
    pub fn primary_group(&self, uid: u32) -> Result<Option<u32>, FactError> {
        let lines = self.file(Path::new(PASSWD))?.unwrap_or_default().lines();
        let entry = lines.map(|line| line.split(':')).find_map(|mut fields| {
            let name = fields.next()?;
            let is_of = values::id_number(fields.nth(1)?) == Some(uid);
            is_of.then(|| (name, fields.next().unwrap_or_default()))
        });
        entry
            .map(|(name, field)| number(field, PASSWD, name))
            .transpose()
    }

    /// IPv6 in the network namespace.
    ///
    /// # Errors
    /// [`FactError::Ipv6NotGathered`].
    pub fn ipv6(&self) -> Result<&Ipv6, FactError> {
        self.ipv6.as_ref().ok_or(FactError::Ipv6NotGathered)
    }

    /// Whether this runs in a container of Kubernetes.
    pub fn in_kubernetes(&self) -> bool {
        self.variable("KUBERNETES_SERVICE_HOST").is_some()
    }
}

/// The number in a line of such a file. `+0`, which the C library would read, is refused: the number
/// exempts its owner from redirection.
fn number(field: &str, path: &'static str, name: &str) -> Result<u32, FactError> {
    values::id_number(field).ok_or_else(|| FactError::BadEntry {
        path,
        name: name.to_owned(),
        field: field.to_owned(),
    })
}

/// IPv6 in the network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6 {
    /// The kernel has it, and it is enabled on some interface (`ipv6.disable=0`,
    /// `net.ipv6.conf.*.disable_ipv6=0`).
    pub enabled: bool,
    /// lo has it too, so that it can be given an address.
    pub on_loopback: bool,
    /// The addresses of all interfaces.
    pub addresses: Vec<Ipv6Addr>,
}

impl Ipv6 {
    /// Whether some interface has an address that is neither loopback nor link-local, nor the one
    /// that a mesh adds to lo.
    pub fn is_global(&self) -> bool {
        self.addresses.iter().any(is_global)
    }
}

fn is_global(address: &Ipv6Addr) -> bool {
    let local = address.is_loopback() || address.is_unicast_link_local();
    !local && !address.is_multicast() && *address != PASSTHROUGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_link_local_and_passthrough_addresses_are_not_global() {
        for (address, global) in [
            ("fd00:10:244::17", true),
            ("2001:db8::1", true),
            ("fe80::a8bb:ccff:fedd:11", false),
            ("::1", false),
            ("::6", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_global(&address.parse().unwrap()), global, "{address}");
        }
    }

    fn with_passwd(text: Result<&str, io::ErrorKind>) -> Facts {
        let mut facts = Facts::default();
        facts.learn(
            PASSWD.into(),
            text.map(str::to_owned).map_err(io::Error::from),
        );
        facts
    }

    #[test]
    fn only_an_absent_name_or_file_means_no() {
        let file =
            "root:x:0:0::/root:/bin/sh\n+::::::\nzero:x:+0:0\nnobody:x:4294967295:1\nlast:x:7:8";
        let facts = with_passwd(Ok(file));
        let of = |name| facts.look_up(PASSWD, name);
        assert_eq!(of("root").unwrap(), Some(0));
        assert_eq!(of("last").unwrap(), Some(7));
        assert_eq!(of("absent").unwrap(), None);
        for bad in ["zero", "nobody", "+"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let without = |kind| with_passwd(Err(kind)).look_up(PASSWD, "root");
        assert_eq!(without(io::ErrorKind::NotFound).unwrap(), None);
        assert!(without(io::ErrorKind::PermissionDenied).is_err());
        assert!(matches!(
            Facts::default().look_up(PASSWD, "root"),
            Err(FactError::NotGathered(_))
        ));
        assert_eq!(facts.primary_group(7).unwrap(), Some(8));
    }
}
