//! Splits a listing of nft into words, quoted texts and groups in braces.

use thiserror::Error;

/// A text that nft has not printed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: expected {expected}")]
pub struct Unreadable {
    pub line: usize,
    pub expected: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Word(&'t str),
    /// Without its quotation marks.
    Text(&'t str),
    /// What is in braces.
    Group(Vec<Token<'t>>),
    Comma,
    /// A statement may begin here: the number of the line.
    Line(usize),
}

/// How deep groups are nested: a set in a chain in a table has three levels.
const DEEPEST: usize = 8;

/// The tokens outside of groups. Comments are omitted.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Unreadable> {
    let mut open = Vec::new();
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |expected| Unreadable { line, expected };
        tokens.push(Token::Line(line));
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let mut length = 1;
            match first {
                '#' => break,
                ';' => tokens.push(Token::Line(line)),
                ',' => tokens.push(Token::Comma),
                '"' => {
                    let quoted = rest[1..].split_once('"');
                    let (quoted, _) = quoted.ok_or(wrong("a closing quotation mark"))?;
                    length += quoted.len() + 1;
                    tokens.push(Token::Text(quoted));
                }
                '{' if open.len() == DEEPEST => return Err(wrong("fewer braces")),
                '{' => open.push(std::mem::replace(&mut tokens, vec![Token::Line(line)])),
                '}' => {
                    let before = open.pop().ok_or(wrong("no closing brace"))?;
                    let group = std::mem::replace(&mut tokens, before);
                    tokens.push(Token::Group(group));
                }
                _ => {
                    let ends = |c: char| c.is_whitespace() || "{},;\"#".contains(c);
                    length = rest.find(ends).unwrap_or(rest.len());
                    tokens.push(Token::Word(&rest[..length]));
                }
            }
            rest = rest[length..].trim_start();
        }
    }
    match open.is_empty() {
        true => Ok(tokens),
        false => Err(Unreadable {
            line: text.lines().count(),
            expected: "a closing brace, the listing is not complete",
        }),
    }
}

/// The statements of a block, each with the number of its line.
pub(super) fn statements<'t>(
    tokens: &'t [Token<'t>],
) -> impl Iterator<Item = (usize, &'t [Token<'t>])> {
    let statements = tokens.chunk_by(|_, next| !matches!(next, Token::Line(_)));
    statements.filter_map(|statement| match statement {
        [Token::Line(line), rest @ ..] if !rest.is_empty() => Some((*line, rest)),
        _ => None,
    })
}
