//! How one option becomes a value: what was given or holds by default, read with the names that the
//! host knows and in the way the mesh writes it.

use super::facts::{Facts, GROUP, PASSWD};
use super::unknown::FactError;
use super::values::{self, BadItem};
use super::{ConfigError, DefaultValue, Given, Opt, Options, Origin, Profile};
use crate::netfilter::model::PortRange;
use ipnet::IpNet;

/// What the reading of a value takes besides its text.
pub(super) struct Reading<'a> {
    pub facts: &'a Facts,
    pub profile: &'a Profile,
}

impl Reading<'_> {
    /// A user, by number or by a name in /etc/passwd.
    pub(super) fn uid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "UID", |name| self.user(name))
    }

    /// A group, by number or by a name in /etc/group.
    pub(super) fn gid(&self, text: &str) -> Result<u32, BadItem> {
        values::id(text, "GID", |name| self.facts.look_up(GROUP, name))
    }

    /// The number of a user in /etc/passwd, see [`Facts::look_up`].
    pub(super) fn user(&self, name: &str) -> Result<Option<u32>, FactError> {
        self.facts.look_up(PASSWD, name)
    }

    /// A port, or a range of ports as the mesh writes it.
    pub(super) fn port_range(&self, text: &str) -> Result<PortRange, BadItem> {
        values::port_range(text, self.profile.port_ranges)
    }

    /// A prefix of either family, as the mesh writes it.
    pub(super) fn cidr(&self, text: &str) -> Result<IpNet, BadItem> {
        match self.profile.bare_addresses {
            true => values::cidr_or_address(text),
            false => values::cidr(text),
        }
    }
}

/// Turns text into values, one option at a time.
pub(super) struct Resolver<'a> {
    pub options: &'a Options,
    pub envoy_user: String,
    pub reading: Reading<'a>,
}

impl Resolver<'_> {
    /// What was given for `opt`, else what holds in this mesh without it; `None` if the mesh has no
    /// such option.
    fn given(&self, opt: Opt) -> Result<Option<Given>, ConfigError> {
        if let Some(given) = self.options.get(opt).filter(|given| !given.is_unset()) {
            return Ok(Some(given.clone()));
        }
        let profile = self.reading.profile;
        let default = profile.default_of(opt);
        let value = match default.or_else(|| profile.fixed_value_of(opt)) {
            None => return Ok(None),
            Some(DefaultValue::Value(text)) => text,
            Some(DefaultValue::Same(other)) => return self.given(other),
            Some(DefaultValue::Required) => return Err(self.required(opt)),
            Some(DefaultValue::EnvoyUser { .. }) => "",
        };
        Ok(Some(Given {
            opt,
            value: value.to_owned(),
            origin: Origin::Default,
        }))
    }

    /// The error that `opt` is missing.
    pub(super) fn required(&self, opt: Opt) -> ConfigError {
        let profile = self.reading.profile;
        ConfigError::Required {
            missing: vec![opt],
            variables: profile.variables,
            mesh: profile.name,
        }
    }

    /// The value; `None` if the mesh has no such option.
    pub(super) fn optional<T>(
        &self,
        opt: Opt,
        parse: impl Fn(&str, &Reading<'_>) -> Result<T, BadItem>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.given(opt)? else {
            return Ok(None);
        };
        let value = parse(&given.value, &self.reading);
        value
            .map(Some)
            .map_err(|item| ConfigError::of_item(&given, item))
    }

    /// The value of an option that every mesh has or fixes.
    pub(super) fn must<T>(
        &self,
        opt: Opt,
        parse: impl Fn(&str, &Reading<'_>) -> Result<T, BadItem>,
    ) -> Result<T, ConfigError> {
        let value = self.optional(opt, parse)?;
        let mesh = self.reading.profile.name;
        Ok(value.unwrap_or_else(|| panic!("the profile of {mesh} has no value for {opt:?}")))
    }

    /// A list or a switch: empty or off in a mesh without the option.
    pub(super) fn list<T: Default>(
        &self,
        opt: Opt,
        parse: impl Fn(&str, &Reading<'_>) -> Result<T, BadItem>,
    ) -> Result<T, ConfigError> {
        Ok(self.optional(opt, parse)?.unwrap_or_default())
    }
}
