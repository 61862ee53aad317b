//! A TOML text with all its errors: a parser stops at the first one.

use std::ops::Range;

use serde::de::DeserializeOwned;

/// The maximum number of reported errors; a text with more belongs to another program.
const WRONG_MAX: usize = 20;

/// Returns the value of the valid lines, if they make one, and each error with its line, counted from 0.
///
/// The text is parsed again without the wrong lines until it is valid. A field that is missing because its
/// line is wrong is not an error of its own.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<(usize, toml::de::Error)>) {
    let (mut rest, mut wrong) = (text.to_owned(), Vec::new());
    let value = loop {
        let why = match toml::from_str(&rest) {
            Ok(value) => break Some(value),
            Err(why) => why,
        };
        if !wrong.is_empty() && why.message().starts_with("missing field") {
            break None;
        }
        let span = why.span().unwrap_or_default();
        wrong.push((line_of(&rest, span.start), why));
        match without(&rest, span) {
            Some(blank) if wrong.len() < WRONG_MAX => rest = blank,
            _ => break None,
        }
    };
    wrong.sort_by_key(|(line, _)| *line);
    (value, wrong)
}

/// Returns the line at a place, counted from 0.
pub(crate) fn line_of(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|b| *b == b'\n').count()
}

/// Returns the text with the lines of a part emptied; `None` if they are empty already.
fn without(text: &str, part: Range<usize>) -> Option<String> {
    let before = text.get(..part.start)?;
    let begin = before.rfind('\n').map_or(0, |at| at + 1);
    // An error at the end of a line belongs to that line.
    let last = part.end.max(part.start).min(text.len());
    let last =
        if last > part.start && text.as_bytes()[last - 1] == b'\n' { last - 1 } else { last };
    let end = text.get(last..)?.find('\n').map_or(text.len(), |at| last + at);
    let lines = text.get(begin..end).filter(|lines| !lines.trim().is_empty())?;
    let blank: String = lines.chars().filter(|c| *c == '\n').collect();
    Some(format!("{}{blank}{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Value {
        name: String,
        size: u8,
    }

    #[test]
    fn a_field_whose_line_is_wrong_is_not_missing_besides() {
        let of = |text: &str| {
            let (value, wrong) = parse::<Value>(text);
            let lines = wrong.iter().map(|(line, why)| format!("{}: {}", line + 1, why.message()));
            (value.is_some(), lines.collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(of("name = 'a'\nsize = 1\n"), (true, String::new()));
        let (is_valid, wrong) = of("name = 1\nsize = 300\nx = 2\n");
        assert!(!is_valid && wrong.lines().count() == 3, "{wrong}");
        assert!(!wrong.contains("missing"), "{wrong}");
        let (is_valid, wrong) = of("name = 'a'\n");
        assert!(!is_valid && wrong == "1: missing field `size`", "{wrong}");
    }

    #[test]
    fn f44_a_text_of_something_else_ends() {
        for text in ["\u{0}", "[", "=\n=\n", "\"\"\"", "a\r", "{}", "x = \"\"\"\n\n", "ü\nö = 1\n"]
        {
            let n = parse::<Value>(text).1.len();
            assert!((1..=WRONG_MAX).contains(&n), "{text:?}: {n}");
        }
        assert_eq!(parse::<Value>(&"=\n".repeat(100)).1.len(), WRONG_MAX);
    }
}
