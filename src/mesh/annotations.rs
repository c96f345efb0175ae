//! What the injectors of meshes write into the annotations of a pod, for a CNI plugin to read.
//!
//! Labels, containers and the annotations of the namespace are not handed to a plugin; whatever
//! decides on the rules of a pod, injectors write into its own annotations.

use crate::mesh::config::{ConfigError, Given, Opt, Options, Origin};
use std::collections::BTreeMap;

/// The annotations of a pod.
pub type Pod = BTreeMap<String, String>;

/// How the annotations of one mesh are read.
#[derive(Debug)]
pub struct Annotations {
    /// Whether the injector left the redirection of this pod to a CNI plugin. What it wrote and
    /// cannot be read is an error: a guess could let traffic past the proxy.
    pub claims: fn(&Pod) -> Result<bool, ConfigError>,
    /// Which annotation gives which option; of several for one option the first that is there.
    pub table: &'static [(&'static str, Opt)],
    /// Variables of the proxy that are options too, as far as annotations hold them.
    pub variables: fn(&Pod) -> Result<Vec<Given>, ConfigError>,
    /// Whether an empty annotation means no more than one that is not there.
    pub empty_is_unset: bool,
    /// Lists that an annotation adds to: what the plugin's configuration says stays.
    pub added: &'static [Opt],
    /// What holds where nothing else is said: what the mesh's own plugin does.
    pub defaults: &'static [(Opt, &'static str)],
    /// Items that a list has whatever is said.
    pub always: &'static [(Opt, &'static str)],
}

impl Annotations {
    /// The options of a pod, from its annotations and, weaker, from the plugin's configuration.
    ///
    /// # Errors
    /// Where an annotation that holds variables cannot be read.
    pub fn options(&self, pod: &Pod, configured: &Options) -> Result<Options, ConfigError> {
        let mut weaker = configured.clone();
        for (opt, value) in self.defaults {
            weaker.offer(Given {
                opt: *opt,
                value: (*value).to_owned(),
                origin: Origin::Default,
            });
        }
        let mut options = Options::default();
        for given in self.given(pod) {
            options.offer(match weaker.get(given.opt) {
                Some(weaker) if self.added.contains(&given.opt) => Given {
                    value: format!("{},{}", weaker.value, given.value),
                    ..given
                },
                _ => given,
            });
        }
        for given in (self.variables)(pod)?.into_iter().filter(|g| !g.is_unset()) {
            options.offer(given);
        }
        for given in weaker.iter() {
            options.offer(given.clone());
        }
        for (opt, items) in self.always {
            options.change(*opt, |value| with_items(value, items));
        }
        Ok(options)
    }

    fn given(&self, pod: &Pod) -> impl Iterator<Item = Given> {
        self.table.iter().filter_map(|(name, opt)| {
            let value = pod.get(*name)?;
            let unset = self.empty_is_unset && value.is_empty();
            let value = match opt {
                // Plugins read a mode in any case, programs do not.
                Opt::Mode => value.to_ascii_uppercase(),
                _ => value.clone(),
            };
            (!unset).then_some(Given {
                opt: *opt,
                value,
                origin: Origin::Annotation(name),
            })
        })
    }
}

/// A list with further items at its end, each once.
fn with_items(list: &str, items: &str) -> String {
    let mut all: Vec<&str> = Vec::new();
    for item in list.split(',').chain(items.split(',')) {
        if !item.is_empty() && !all.contains(&item) {
            all.push(item);
        }
    }
    all.join(",")
}

/// An annotation that cannot be used.
pub(super) fn bad(annotation: &'static str, problem: impl ToString) -> ConfigError {
    ConfigError::BadValue {
        option: Origin::Annotation(annotation).to_string(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_items_come_last_and_once() {
        assert_eq!(
            with_items("8080,15020,,8080", "15020,15021"),
            "8080,15020,15021"
        );
        assert_eq!(with_items("", "15020"), "15020");
    }
}
