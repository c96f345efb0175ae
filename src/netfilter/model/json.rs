//! Reading a ruleset back from the JSON of a dry run: the values whose text is checked.

use super::{ChainName, Family, Interface, PortRange, PortSet, RejectWith, RuleId};
use serde::de::{Deserialize, Deserializer, Error};

/// Reads a text that has to name a value.
fn named<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    value: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    value(&text).ok_or_else(|| D::Error::custom(format!("\"{text}\" is not known here")))
}

macro_rules! read {
    ($($type:ty => $value:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                named(deserializer, $value)
            }
        }
    )*};
}

read! {
    Family => |text| match text {
        "ipv4" => Some(Family::V4),
        "ipv6" => Some(Family::V6),
        _ => None,
    };
    ChainName => |text| ChainName::new(text).ok();
    Interface => |text| text.parse().ok();
    RejectWith => |text| RejectWith::all().find(|with| with.as_str() == text);
    RuleId => |text| Some(RuleId::from(text.to_owned()));
    PortRange => |text| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        PortRange::new(first.parse().ok()?, last.parse().ok()?)
    };
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ports = Vec::<PortRange>::deserialize(deserializer)?;
        PortSet::new(ports).ok_or_else(|| D::Error::custom("no ports, or too many for one match"))
    }
}
