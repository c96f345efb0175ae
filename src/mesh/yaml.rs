//! YAML that stands in an annotation, as far as configuration needs it: every scalar with the keys
//! that lead to it. Anybody who can make a pod can write it, so nothing in it is worth more memory
//! than it has bytes: aliases are refused, and so is deep nesting.

use saphyr_parser::{Event, Parser};

/// Deeper than any mesh's configuration.
const DEEPEST: usize = 16;

/// A mapping, with the key whose value is next, or a list.
enum Open {
    Map(Option<String>),
    List,
}

/// All scalars of the first document with their keys, `a.b.c`; the items of a list have the list's.
///
/// # Errors
/// What is not YAML, or not understood here.
pub(super) fn scalars(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| format!("not YAML: {e}"))?;
        let started = match event {
            Event::DocumentEnd => break,
            Event::Alias(_) => return Err("aliases are not understood here".to_owned()),
            Event::MappingStart(..) => Some(Open::Map(None)),
            Event::SequenceStart(..) => Some(Open::List),
            Event::Scalar(value, ..) => match open.last_mut() {
                Some(Open::Map(key @ None)) => {
                    *key = Some(value.into_owned());
                    continue;
                }
                _ => {
                    found.push((path(&open), value.into_owned()));
                    None
                }
            },
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                None
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {
                continue;
            }
        };
        match started {
            Some(_) if matches!(open.last(), Some(Open::Map(None))) => {
                return Err("a key is not a text".to_owned());
            }
            Some(_) if open.len() == DEEPEST => return Err("nested too deeply".to_owned()),
            Some(started) => open.push(started),
            // A value has ended.
            None => {
                if let Some(Open::Map(key)) = open.last_mut() {
                    *key = None;
                }
            }
        }
    }
    Ok(found)
}

fn path(open: &[Open]) -> String {
    let keys = open.iter().filter_map(|open| match open {
        Open::Map(key) => key.as_deref(),
        Open::List => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scalars_have_the_keys_that_lead_to_them() {
        let text =
            "# a comment\na:\n  b: \"true\"\n  c: {d: 1, e: [x, 'y']}\n  f:\ng: ''\n---\nh: 2\n";
        let wanted = [
            ("a.b", "true"),
            ("a.c.d", "1"),
            ("a.c.e", "x"),
            ("a.c.e", "y"),
            ("a.f", ""),
            ("g", ""),
        ];
        let found = scalars(text).unwrap();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(scalars("{\"a\": {\"b\": 1}}").unwrap()[0].0, "a.b");
        assert_eq!(scalars("").unwrap(), []);
    }

    #[test]
    fn what_could_grow_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            deep.as_str(),
            "a: &x [b]\nc: *x",
            "? [a]\n: b",
            "a: [b",
            "a: b: c",
        ] {
            assert!(scalars(bad).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([a-c:{}&*|>?\"' \\n\\[\\],#~-]|- |: )*") {
            let _ = scalars(&text);
        }
    }
}
