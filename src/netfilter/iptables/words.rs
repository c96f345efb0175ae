//! Splits rules into words, as iptables-save writes and iptables-restore reads them.
//!
//! iptables-save quotes texts unless they consist of letters, digits, `-` and `_`
//! (`xtables_save_string` in libxtables): in quotes a backslash escapes the next character, and
//! newlines may occur. Names (interfaces, chains) are not quoted.

use std::borrow::Cow;

/// A word, raw and unquoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'t> {
    pub written: &'t str,
    pub meant: Cow<'t, str>,
}

/// A quotation mark where iptables-save would not write one: the rest may be text or rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Options whose values are never quoted.
const OF_NAMES: [&str; 2] = ["-i", "-o"];

/// The words of a rule, which ends with `text` or at the first unquoted newline, and the rest of
/// the text.
pub(super) fn words(text: &str) -> Result<(Vec<Word<'_>>, &str), Unreadable> {
    let mut words: Vec<Word> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(' ');
        if rest.is_empty() || rest.starts_with('\n') {
            return Ok((words, rest));
        }
        let of_name = words.last().is_some_and(|w| OF_NAMES.contains(&w.written));
        let word = match rest.strip_prefix('"') {
            Some(_) if of_name => return Err(Unreadable),
            Some(inside) => quoted(rest, inside)?,
            None => plain(rest)?,
        };
        rest = &rest[word.written.len()..];
        words.push(word);
    }
}

fn plain(text: &str) -> Result<Word<'_>, Unreadable> {
    let written = &text[..text.find([' ', '\n']).unwrap_or(text.len())];
    match written.contains('"') {
        true => Err(Unreadable),
        false => Ok(Word {
            written,
            meant: written.into(),
        }),
    }
}

/// The word at the start of `text`; `inside` follows its first quotation mark.
fn quoted<'t>(text: &'t str, inside: &'t str) -> Result<Word<'t>, Unreadable> {
    let mut meant = String::new();
    let mut chars = inside.chars();
    loop {
        match chars.next().ok_or(Unreadable)? {
            '"' => break,
            '\\' => meant.push(chars.next().ok_or(Unreadable)?),
            c => meant.push(c),
        }
    }
    let rest = chars.as_str();
    if !rest.is_empty() && !rest.starts_with([' ', '\n']) {
        return Err(Unreadable);
    }
    Ok(Word {
        written: &text[..text.len() - rest.len()],
        meant: meant.into(),
    })
}

/// Quotes a rule or command for a shell: special characters in single quotes, comments as
/// iptables-save quotes them.
pub(super) fn for_shell(line: &str) -> String {
    let Ok((words, _)) = words(line) else {
        return in_single_quotes(line);
    };
    let words: Vec<String> = words.iter().map(word_for_shell).collect();
    words.join(" ")
}

fn word_for_shell(word: &Word) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@%!".contains(c);
    match !word.meant.is_empty() && word.meant.chars().all(harmless) {
        true => word.written.to_owned(),
        false => in_single_quotes(&word.meant),
    }
}

fn in_single_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn meant(text: &str) -> Result<(Vec<String>, &str), Unreadable> {
        let (words, rest) = words(text)?;
        Ok((words.iter().map(|w| w.meant.to_string()).collect(), rest))
    }

    #[test]
    fn a_newline_in_quotes_does_not_end_a_rule() {
        let text = "-m comment --comment \"one\n-A ISTIO_X -j DROP\n*nat\" -j ACCEPT\nnext";
        let (words, rest) = meant(text).unwrap();
        assert_eq!(words[3], "one\n-A ISTIO_X -j DROP\n*nat");
        assert_eq!((words.len(), rest), (6, "\nnext"));
    }

    #[test]
    fn quotes_that_iptables_save_does_not_write_are_not_guessed_at() {
        for text in [
            "-m comment --comment \"open",
            "-m comment --comment \"open\\",
            "-i a\"b -j ACCEPT",
            "-i \"x -m comment --comment \" y\" -j ACCEPT",
            "-m comment --comment \"a\"b\" -j ACCEPT",
        ] {
            assert_eq!(words(text), Err(Unreadable), "{text}");
        }
    }

    proptest! {
        /// Unquoting reverses xtables_save_string for any text.
        #[test]
        fn every_text_comes_back(text in "(\\PC|\n){0,20}") {
            let escaped: String = text
                .chars()
                .flat_map(|c| "\"\\'".contains(c).then_some('\\').into_iter().chain([c]))
                .collect();
            let line = format!("--comment \"{escaped}\" -j X\nnext");
            let (words, rest) = meant(&line).unwrap();
            prop_assert_eq!(&words[1], &text);
            prop_assert_eq!((words.len(), rest), (4, "\nnext"));
        }

        /// A shell splits the line into the same words.
        #[test]
        fn a_shell_reads_the_same_words(text in "[!-~\n]{1,20}", name in "[!#-~]{1,15}") {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("-i {name} -m comment --comment \"{escaped}\" -j ACCEPT");
            let script = format!("printf '%s\\0' {}", for_shell(&line));
            let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            let read: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().split_terminator('\0').collect();
            prop_assert_eq!(read, meant(&line).unwrap().0);
        }
    }
}
