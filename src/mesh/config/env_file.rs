//! Files of `KEY=value` lines as systemd's `EnvironmentFile=` reads them, see systemd.exec(5). They
//! are read, never executed.

use thiserror::Error;

/// A line that is not an assignment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    pub problem: &'static str,
}

/// The assignments of a file, in their order; a name may come twice, the last one counts.
///
/// Blank lines and lines that begin with `#` or `;` are skipped, an `export ` before the name is
/// tolerated. Values may be quoted with `'` or `"`, over several lines too; outside single quotes a
/// backslash quotes the next character, and at the end of a line it joins the next one.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    let mut assignments = Vec::new();
    while !rest.is_empty() {
        let trimmed = rest.trim_start_matches([' ', '\t', '\r']);
        if let Some(after) = trimmed.strip_prefix('\n') {
            rest = after;
            line += 1;
        } else if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            rest = trimmed.find('\n').map_or("", |at| &trimmed[at..]);
        } else {
            let error = |problem| EnvFileError { line, problem };
            let (name, value) = trimmed.split_once('=').ok_or(error("no \"=\""))?;
            let name = name_of(name).ok_or(error("not a variable's name before \"=\""))?;
            let (value, after) = value_of(value).ok_or(error("a quote is not closed"))?;
            assignments.push((name.to_owned(), value));
            line += trimmed[..trimmed.len() - after.len()].matches('\n').count();
            rest = after;
        }
    }
    Ok(assignments)
}

fn name_of(text: &str) -> Option<&str> {
    let name = text.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = !name.starts_with(|c: char| c.is_ascii_digit());
    (!name.is_empty() && starts && name.bytes().all(word)).then_some(name)
}

/// The value at the start of `text`, and what follows it (from the line's end on). `None` when a
/// quote is left open.
fn value_of(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    // How much of `value` must stay when white space at the end is cut off.
    let mut keep = 0;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '\n') => {
                value.truncate(keep.max(value.trim_end().len()));
                return Some((value, &text[at..]));
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if c == q => {
                quote = None;
                keep = value.len();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some((_, '\n')) | None => {}
                Some((_, c)) => {
                    value.push(c);
                    keep = value.len();
                }
            },
            (None, c) if value.is_empty() && keep == 0 && c.is_whitespace() => {}
            (_, c) => value.push(c),
        }
    }
    value.truncate(keep.max(value.trim_end().len()));
    quote.is_none().then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> String {
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].0, "KEY");
        all[0].1.clone()
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        assert_eq!(one("KEY=10.63.240.0/20\n"), "10.63.240.0/20");
        assert_eq!(one("# c\n; c\n\nexport KEY = 3306,8080  \n"), "3306,8080");
        assert_eq!(one("KEY=\"a b\"\n"), "a b");
        assert_eq!(one("KEY='a \\ \"b'"), "a \\ \"b");
        assert_eq!(one("KEY=a\\\nb"), "ab");
        assert_eq!(one("KEY=\"a\nb\""), "a\nb");
        assert_eq!(one("KEY=*"), "*");
        assert_eq!(one("KEY="), "");
        assert_eq!(one("KEY=x\r\n"), "x");
    }

    #[test]
    fn nothing_is_executed() {
        assert_eq!(one("KEY=$(touch /x)`id`$HOME"), "$(touch /x)`id`$HOME");
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(parse("A=1\nB=\"x\ny\"\nwhat\n").unwrap_err().line, 4);
        assert_eq!(parse("A=1\nB='x").unwrap_err().line, 2);
        assert_eq!(parse("1A=1").unwrap_err().line, 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn double_quoted_values_come_back(value in "[^\0]*") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(one(&format!("KEY=\"{quoted}\"\n")), value);
        }
    }
}
