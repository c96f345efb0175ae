//! Lists of plugins as text. What is foreign keeps every byte, its place and its form: values are
//! found with serde's raw values, whose places in the text are known, and only those are replaced.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a configuration file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One plugin alone.
    Single,
    List,
}

type Keys<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Typed {
    #[serde(default, rename = "type")]
    kind: String,
}

/// What a file holds.
///
/// # Errors
/// When it is not a configuration.
pub fn kind(text: &str) -> Result<Kind, String> {
    let keys = keys(text)?;
    match (keys.contains_key("plugins"), keys.contains_key("type")) {
        (true, _) => Ok(Kind::List),
        (false, true) => Ok(Kind::Single),
        (false, false) => Err("neither a list of plugins nor a plugin".to_owned()),
    }
}

/// The name of the network.
///
/// # Errors
/// As of [`kind`].
pub fn network(text: &str) -> Result<String, String> {
    let keys = keys(text)?;
    let name = keys.get("name").map(|raw| serde_json::from_str(raw.get()));
    Ok(name
        .transpose()
        .map_err(|e| format!("name: {e}"))?
        .unwrap_or_default())
}

/// The entry of the plugin `name`, if there is one.
///
/// # Errors
/// As of [`kind`].
pub fn entry(text: &str, name: &str) -> Result<Option<String>, String> {
    let found = match kind(text)? {
        Kind::Single => None,
        Kind::List => plugins(text)?.into_iter().find(|plugin| is(plugin, name)),
    };
    Ok(found.map(|plugin| plugin.get().to_owned()))
}

/// The text with `entry` in the place of the entry of the plugin `name`, or behind all others, or
/// without such an entry. A single plugin becomes a list.
///
/// # Errors
/// As of [`kind`].
pub fn edit(text: &str, name: &str, entry: Option<&str>) -> Result<String, String> {
    match (kind(text)?, entry) {
        (Kind::Single, None) => Ok(text.to_owned()),
        (Kind::Single, Some(entry)) => list_of(text, entry),
        (Kind::List, entry) => edit_list(text, name, entry),
    }
}

fn edit_list(text: &str, name: &str, entry: Option<&str>) -> Result<String, String> {
    let plugins = plugins(text)?;
    let spans: Vec<Range<usize>> = plugins.iter().map(|plugin| span(text, plugin)).collect();
    let managed: Vec<usize> = (0..plugins.len())
        .filter(|i| is(plugins[*i], name))
        .collect();
    let Some(last) = spans.last() else {
        return Err("its list of plugins is empty".to_owned());
    };
    let mut edited = text.to_owned();
    if let (Some(entry), []) = (entry, managed.as_slice()) {
        edited.insert_str(
            last.end,
            &format!(",{}{entry}", indentation(text, last.start)),
        );
        return Ok(edited);
    }
    // From the end, so that places before stay what they are.
    for index in managed.iter().rev() {
        match entry.filter(|_| *index == managed[0]) {
            Some(entry) if equal(entry, plugins[*index].get()) => {}
            Some(entry) => edited.replace_range(spans[*index].clone(), entry),
            None if *index > 0 => {
                edited.replace_range(spans[*index - 1].end..spans[*index].end, "")
            }
            // The first goes with the comma behind it.
            None => {
                let end = spans.get(1).map_or(spans[0].end, |next| next.start);
                edited.replace_range(spans[0].start..end, "");
            }
        }
    }
    Ok(edited)
}

fn list_of(text: &str, entry: &str) -> Result<String, String> {
    let keys = keys(text)?;
    let head = ["cniVersion", "name"].into_iter().filter_map(|key| {
        let value = keys.get(key)?;
        Some(format!("  \"{key}\": {},\n", value.get()))
    });
    let head: String = head.collect();
    Ok(format!(
        "{{\n{head}  \"plugins\": [\n    {},\n    {entry}\n  ]\n}}\n",
        text.trim()
    ))
}

fn keys(text: &str) -> Result<Keys<'_>, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))
}

fn plugins(text: &str) -> Result<Vec<&RawValue>, String> {
    let keys = keys(text)?;
    let raw = keys.get("plugins").ok_or("no list of plugins")?;
    serde_json::from_str(raw.get()).map_err(|e| format!("plugins: {e}"))
}

fn is(plugin: &RawValue, name: &str) -> bool {
    serde_json::from_str(plugin.get()).is_ok_and(|typed: Typed| typed.kind == name)
}

/// Whether two texts are the same JSON.
fn equal(a: &str, b: &str) -> bool {
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    value(a).is_some_and(|a| Some(a) == value(b))
}

/// Where a value stands in the text that it was read from.
fn span(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + value.get().len()
}

/// The new line and the white space that stand before a place, or nothing in a text without lines.
fn indentation(text: &str, at: usize) -> &str {
    let before = &text[..at];
    let words = before.trim_end_matches([' ', '\t']);
    match words.ends_with('\n') {
        true => &before[words.len() - 1..],
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"type":"us","mesh":"istio"}"#;

    fn edited(text: &str, entry: Option<&str>) -> String {
        edit(text, "us", entry).unwrap()
    }

    #[test]
    fn what_is_foreign_keeps_every_byte() {
        let before = "{\n \"name\": \"n\", \"plugins\": [\n  {\"type\": \"a\", \"x\": 1.0e2},\n  {\"type\":\"b\"}\n ], \"z\": [ ] }\n";
        let after = edited(before, Some(OURS));
        assert_eq!(
            after,
            before.replace("\"b\"}", &format!("\"b\"}},\n  {OURS}"))
        );
        assert_eq!(edited(&after, Some(OURS)), after);
        assert_eq!(edited(&after, None), before);
        assert_eq!(edited(before, None), before);
    }

    #[test]
    fn an_older_entry_is_replaced_in_its_place_and_further_ones_go() {
        let list = r#"{"plugins":[{"type":"us","old":1},{"type":"a"},{"type":"us"}]}"#;
        let after = edited(list, Some(OURS));
        assert_eq!(after, format!(r#"{{"plugins":[{OURS},{{"type":"a"}}]}}"#));
        assert_eq!(edited(list, None), r#"{"plugins":[{"type":"a"}]}"#);
        assert_eq!(
            edited(r#"{"plugins":[{"type":"us"}]}"#, None),
            r#"{"plugins":[]}"#
        );
        // The same in another form stays.
        let same = r#"{"plugins":[{"type":"a"},{ "mesh":"istio", "type":"us" }]}"#;
        assert_eq!(edited(same, Some(OURS)), same);
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = "{\"cniVersion\":\"0.3.1\",\"name\":\"n\",\"type\":\"a\"}\n";
        let list = edited(single, Some(OURS));
        assert_eq!(kind(&list), Ok(Kind::List));
        assert_eq!(network(&list).unwrap(), "n");
        assert_eq!(entry(&list, "us").unwrap().as_deref(), Some(OURS));
        assert_eq!(edited(single, None), single);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"plugins":{}}"#,
            r#"{"plugins":[]}"#,
        ] {
            assert!(edit(bad, "us", Some(OURS)).is_err(), "{bad}");
        }
    }
}
