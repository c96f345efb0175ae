//! Options as typed: what was given for each, and where.

use super::Opt;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The option as it was typed (`-p`, `--envoy-port`).
    Flag(String),
    Env(&'static str),
    File(&'static str, PathBuf),
    /// An annotation of the pod.
    Annotation(&'static str),
    /// A variable, in an annotation that holds some.
    Variable(&'static str, &'static str),
    /// A key of a CNI plugin's configuration (`defaults.proxy-uid`).
    Entry(String),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(typed) => f.write_str(typed),
            Origin::Env(name) => f.write_str(name),
            Origin::File(name, path) => write!(f, "{name} in {}", path.display()),
            Origin::Annotation(name) => write!(f, "annotation {name}"),
            Origin::Variable(name, annotation) => write!(f, "{name} in annotation {annotation}"),
            Origin::Entry(key) => f.write_str(key),
            Origin::Default => f.write_str("by default"),
        }
    }
}

/// A value as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub opt: Opt,
    pub value: String,
    pub origin: Origin,
}

impl Given {
    /// Whether it is an empty variable, which means the same as an absent one. An empty list of owner
    /// groups is different: the default is every group.
    pub fn is_unset(&self) -> bool {
        let variable = matches!(
            self.origin,
            Origin::Env(_) | Origin::File(..) | Origin::Variable(..)
        );
        variable && self.value.is_empty() && self.opt != Opt::OwnerGroups
    }
}

/// The name under which the value was given: what an error message points at.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => write!(f, "--{}", self.opt.spec().long),
            origin => origin.fmt(f),
        }
    }
}

/// What was given, option by option. Layers are added from the strongest to the weakest.
#[derive(Clone, Debug, Default)]
pub struct Options(BTreeMap<Opt, Given>);

impl Options {
    /// Takes the value unless a stronger layer has set the option already.
    pub fn offer(&mut self, given: Given) {
        self.0.entry(given.opt).or_insert(given);
    }

    /// Takes the value in the place of what was given for the option before.
    pub fn replace(&mut self, given: Given) {
        self.0.insert(given.opt, given);
    }

    /// Makes another value of what was given for an option.
    pub fn change(&mut self, opt: Opt, change: impl FnOnce(&str) -> String) {
        if let Some(given) = self.0.get_mut(&opt) {
            given.value = change(&given.value);
        }
    }

    /// What was given for an option, if anything was.
    pub fn get(&self, opt: Opt) -> Option<&Given> {
        self.0.get(&opt)
    }

    /// Everything that was given, in the order of [`Opt`].
    pub fn iter(&self) -> impl Iterator<Item = &Given> {
        self.0.values()
    }
}
