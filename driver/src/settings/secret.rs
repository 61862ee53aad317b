//! Secrets: their sources, and types that keep them out of log lines.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::values::BadValue;

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a secret.
    ///
    /// # Errors
    ///
    /// If the text cannot be the value of an HTTP header.
    pub fn new(text: &str) -> Result<Self, BadValue> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadValue::new("expected one word of printable ASCII"));
        }
        Ok(Self(text.into()))
    }

    /// Returns the text itself, for the one place that sends or compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The source of a secret. A secret in a file can be changed while hax runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Variable(&'static str, Secret),
    /// A file with only the secret; the text is the setting that names the file.
    File(&'static str, PathBuf),
}

/// The reason why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{flag}: cannot read {}: {why}", path.display())]
    Unreadable {
        /// The setting that names it.
        flag: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        why: io::Error,
    },
    /// The content of the file is not valid.
    #[error("{flag}: {}: {why}", path.display())]
    Content {
        /// The setting that names it.
        flag: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the content.
        why: BadValue,
    },
}

impl Error {
    /// Returns the setting that names the file.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Unreadable { flag, .. } | Self::Content { flag, .. } => flag,
        }
    }
}

impl SecretSource {
    /// Returns the current secret.
    pub fn read(&self) -> Result<Secret, Error> {
        match self {
            Self::Variable(_, secret) => Ok(secret.clone()),
            Self::File(flag, path) => read(flag, path),
        }
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Secret, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|why| Error::Unreadable { flag, path: path.into(), why })?;
    Secret::new(text.trim()).map_err(|why| Error::Content { flag, path: path.into(), why })
}

/// Names the source, for messages.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name, _) => write!(f, "${name}"),
            Self::File(_, path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word_and_never_shown() {
        let secret = Secret::new("abc-123").unwrap();
        assert_eq!(secret.expose(), "abc-123");
        let source = SecretSource::Variable("CONSUL_HTTP_TOKEN", secret);
        assert!(!format!("{source} {source:?}").contains("abc"));
        for bad in ["", "two words", "line\nline", "ümlaut"] {
            assert!(Secret::new(bad).is_err(), "{bad:?}");
        }
    }
}
