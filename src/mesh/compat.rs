//! The command line of a tool that a mesh replaces, as a table: the front end builds the parser and
//! the help from it, and reads it.

use super::config::Opt;

/// One tool's command line.
#[derive(Debug)]
pub struct CommandLine {
    /// First line of its help.
    pub about: &'static str,
    pub flags: &'static [Flag],
    /// Options of the mesh that the tool has under our letter and Istio's long name, in the order of
    /// the table of options.
    pub options: &'static [Opt],
    /// Flags that must be given.
    pub required: &'static [&'static str],
    /// Flags of which one must be given, and why.
    pub one_of: Option<(&'static [&'static str], &'static str)>,
    /// Flags that exclude one another.
    pub exclusive: &'static [[&'static str; 2]],
    /// The backend that the tool writes with where no flag says another.
    pub backend: Option<&'static str>,
    /// Every flag but those of the log has an environment variable (`--skip-rule-apply`,
    /// `SKIP_RULE_APPLY`).
    pub variables: bool,
    /// The tool only has exit statuses 0 and 1.
    pub fails_with_1: bool,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub means: Means,
    pub help: &'static str,
}

/// The value of a flag, with its name in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true`, `=false`.
    Switch,
    Value(&'static str),
    /// A number; a negative one means none.
    Number(&'static str),
    /// A list; it may be repeated, and its parts add up.
    List(&'static str),
    /// The same, of single ports.
    Ports(&'static str),
}

/// What a flag asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Option(Opt),
    Clean,
    Check,
    DryRun,
    Verify,
    ProbePort,
    ProbeTimeout,
    /// The backend that stands behind each value.
    Backend(&'static [(&'static str, &'static str)]),
    /// This backend, for a switch.
    BackendIs(&'static str),
    NetworkNamespace,
    CloseWait,
    LogJson,
    /// `json`, or another word for text.
    LogFormat,
    LogLevel,
    /// Accepted, and without effect: `apply` does it anyway, or there is nothing to do.
    Nothing,
    /// The same, for one of these values.
    NothingOf(&'static [&'static str]),
}
