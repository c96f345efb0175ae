//! The one function through which foreign text passes: comments, names and arguments of others.

use std::borrow::Cow;
use std::fmt;

/// Foreign text, printed so that it cannot act on a terminal or pass for a line of this program: control
/// characters, line ends and those that change the direction of text are escaped.
pub(crate) struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(self.0))
    }
}

/// The text with such characters as Rust's escapes (`\\n`, `\\u{202e}`).
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let chars = text.chars().map(|c| match is_unsafe(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    Cow::Owned(chars.collect())
}

fn is_unsafe(c: char) -> bool {
    let bidirectional = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || bidirectional
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_all_else_stays() {
        assert_eq!(
            escaped("a\u{1b}[2K\nb\u{202e}c"),
            "a\\u{1b}[2K\\nb\\u{202e}c"
        );
        assert_eq!(escaped("-p tcp “ä” 漢"), "-p tcp “ä” 漢");
        assert_eq!(format!("{:4}|", Foreign("ab")), "ab  |");
    }
}
