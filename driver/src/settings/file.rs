//! The configuration file: its settings, and all its errors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Error;
use super::flags::Flags;

/// The maximum number of reported errors; a file with more belongs to another program.
const WRONG_MAX: usize = 20;

/// The valid part of a file, and its errors.
#[derive(Default)]
pub(super) struct File {
    path: PathBuf,
    text: String,
    pub(super) flags: Flags,
    pub(super) wrong: Vec<Error>,
}

impl File {
    pub(super) fn read(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::of(path, text),
            Err(why) => {
                let wrong = vec![Error::Unreadable { path: path.into(), why }];
                Self { wrong, ..Self::default() }
            }
        }
    }

    /// Parses the file again without the wrong lines until it is valid, since a parser stops at the first
    /// error.
    fn of(path: &Path, text: String) -> Self {
        let (mut rest, mut wrong) = (text.clone(), Vec::new());
        let flags = loop {
            let why = match toml::from_str::<Flags>(&rest) {
                Ok(flags) => break flags,
                Err(why) => why,
            };
            let span = why.span().unwrap_or_default();
            let line = rest.bytes().take(span.start).filter(|b| *b == b'\n').count();
            wrong.push((line, Error::File { path: path.into(), why: Box::new(why) }));
            match without(&rest, span) {
                Some(blank) if wrong.len() < WRONG_MAX => rest = blank,
                _ => break Flags::default(),
            }
        };
        wrong.sort_by_key(|(line, _)| *line);
        let wrong = wrong.into_iter().map(|(_, why)| why).collect();
        Self { path: path.into(), text, flags, wrong }
    }

    /// Adds the line to an error of a value, if the value is from the file and no flag or variable replaces
    /// it.
    pub(super) fn place(&self, why: Error, given: &Flags) -> Error {
        let key = match &why {
            Error::Value { from, .. } => key(from),
            Error::Secret(why) => key(why.flag()),
            Error::Endpoint(_) => "motr_endpoint".into(),
            Error::Unreadable { .. } | Error::File { .. } | Error::InFile { .. } => return why,
        };
        let is_it = |line: &str| {
            let rest = line.trim_start().strip_prefix(&key);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        match self.text.lines().position(is_it) {
            Some(nth) if !gives(given, &key) => {
                Error::InFile { path: self.path.clone(), line: nth + 1, why: Box::new(why) }
            }
            _ => why,
        }
    }
}

/// Returns the key of the first setting in an error.
fn key(from: &str) -> String {
    let first = from.split(' ').next().unwrap_or(from);
    first.trim_start_matches('-').replace('-', "_")
}

/// Returns whether flags or their variables replace this key of the file.
fn gives(flags: &Flags, key: &str) -> bool {
    match key {
        "consul_token_file" => flags.consul_token_file.is_some(),
        "consul_auth_file" => flags.consul_auth_file.is_some(),
        "consul_cert" => flags.consul_cert.is_some(),
        "consul_key" => flags.consul_key.is_some(),
        "consul_timeout" => flags.consul_timeout.is_some(),
        "consul_answer_max" => flags.consul_answer_max.is_some(),
        "http_cert" => flags.http_cert.is_some(),
        "http_key" => flags.http_key.is_some(),
        "http_token_file" => flags.http_token_file.is_some(),
        "motr_endpoint" => flags.motr_endpoint.is_some(),
        _ => false,
    }
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
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let file = File::of(Path::new("/hax.toml"), text.into());
        file.wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn f44_all_that_is_wrong_with_a_file_is_named_with_its_line() {
        let text = "node = \"a\"\nhtp = 1\nfid = 4\n\ndrain = 5\nlog = \"human\"\nx = 1\n\
            node = \"b\"\nbq = \n";
        let wrong = wrong(text);
        let lines = [
            (2, "unknown field `htp`"),
            (3, "0xCONTAINER:0xKEY"),
            (5, "a time with its unit"),
            (7, "unknown field `x`"),
            (8, "duplicate key"),
            (9, ""),
        ];
        assert_eq!(wrong.len(), lines.len(), "{wrong:#?}");
        for ((line, part), why) in lines.iter().zip(&wrong) {
            assert!(why.contains(&format!("line {line},")) && why.contains(part), "{line}: {why}");
        }
        assert_eq!(File::of(Path::new("/f"), "node = 'a'\n".into()).wrong.len(), 0);
    }

    #[test]
    fn f44_a_file_of_something_else_ends() {
        for text in ["\u{0}", "[", "=\n=\n", "\"\"\"", "a\r", "{}", "x = \"\"\"\n\n", "ü\nö = 1\n"]
        {
            let n = wrong(text).len();
            assert!((1..=WRONG_MAX).contains(&n), "{text:?}: {n}");
        }
        assert_eq!(wrong(&"=\n".repeat(100)).len(), WRONG_MAX);
    }
}
