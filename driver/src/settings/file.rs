//! The configuration file: its settings, and all its errors.

use std::path::{Path, PathBuf};

use super::flags::Flags;
use super::{Error, recover};

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

    fn of(path: &Path, text: String) -> Self {
        let (flags, wrong) = recover::parse::<Flags>(&text);
        let error = |(_, why)| Error::File { path: path.into(), why: Box::new(why) };
        let wrong = wrong.into_iter().map(error).collect();
        Self { path: path.into(), text, flags: flags.unwrap_or_default(), wrong }
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
}
