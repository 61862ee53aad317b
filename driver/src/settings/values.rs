//! Values of flags, environment variables and configuration files. Each value is checked when it is read, so
//! that an error names the flag, or the line of the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;

/// The reason why a value is refused, with the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl BadValue {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A value in a configuration file. A value that is not a string gets the same error message as a wrong
/// string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(i64),
    Truth(bool),
}

/// Implements reading for values that a configuration file writes as strings.
macro_rules! from_text {
    ($($name:ident),*) => {$(
        impl TryFrom<Written> for $name {
            type Error = BadValue;

            fn try_from(written: Written) -> Result<Self, BadValue> {
                match written {
                    Written::Text(text) => text.parse(),
                    Written::Number(number) => number.to_string().parse(),
                    Written::Truth(truth) => truth.to_string().parse(),
                }
            }
        }
    )*};
}

from_text!(FidText, HostPort, Span, Size, StateDir, Switch, LogLevel);

/// The folder of the state that outlives hax, or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct StateDir(Option<PathBuf>);

impl StateDir {
    /// The default folder.
    const DEFAULT: &'static str = "/run/hax";

    /// Returns the folder; `None` if no state is kept.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Returns whether this is the default folder.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for StateDir {
    fn default() -> Self {
        Self(Some(Self::DEFAULT.into()))
    }
}

impl fmt::Display for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "{}", path.display()),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for StateDir {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "none" => Ok(Self(None)),
            path if path.starts_with('/') => Ok(Self(Some(path.into()))),
            _ => Err(BadValue::new("expected the path of a folder from the root, or none")),
        }
    }
}

/// The fid of a process, written `0xCONTAINER:0xKEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct FidText(pub hax_core::base::fid::Fid);

impl FromStr for FidText {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let fid: hax_core::base::fid::Fid =
            text.parse().map_err(|why| BadValue::new(format!("{why}")))?;
        if !fid.is_process() {
            let example = "expected the fid of a process, for example 0x7200000000000001:0x4";
            return Err(BadValue::new(example));
        }
        Ok(Self(fid))
    }
}

/// `HOST:PORT`, where HOST is an address or a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct HostPort {
    /// An address without brackets, or a name.
    pub host: String,
    /// The port; 0 if the system may choose.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for HostPort {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new("expected ADDRESS:PORT, where PORT is a number up to 65535");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(host) => host.ok_or_else(bad)?,
            None if host.contains(':') => {
                return Err(BadValue::new("an IPv6 address needs brackets: [::1]:8008"));
            }
            None => host,
        };
        if host.is_empty() || host.contains(['[', ']']) || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.into(), port })
    }
}

/// A duration: `500ms`, `10s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_ms = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => 0,
        };
        let ms = digits.parse().ok().and_then(|n: u64| n.checked_mul(unit_ms));
        match ms {
            Some(ms) if unit_ms > 0 => Ok(Self(Duration::from_millis(ms))),
            _ => Err(BadValue::new("expected a time with its unit: 500ms, 10s or 2m")),
        }
    }
}

/// A number of bytes: `65536`, `64KiB`, `4MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            None => (text, 1),
            Some(at) => match &text[at..] {
                "KiB" => (&text[..at], 1 << 10),
                "MiB" => (&text[..at], 1 << 20),
                "GiB" => (&text[..at], 1 << 30),
                _ => ("", 0),
            },
        };
        let bytes = digits.parse().ok().and_then(|n: usize| n.checked_mul(unit));
        let bytes = bytes.filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| BadValue::new("expected a size: 65536, 64KiB, 4MiB or 1GiB"))
    }
}

/// The transport between hax and Motr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MotrTransport {
    /// What the endpoint's name asks for.
    #[default]
    Auto,
    /// Motr's sock transport, spoken by hax itself.
    Wire,
    /// Motr's library, which the site has to have.
    Lib,
    /// There is no Motr on this node, only services.
    #[cfg(feature = "services")]
    None,
}

/// A label of a node, written `KEY=VALUE`.
#[cfg(feature = "services")]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Label(pub Box<str>, pub Box<str>);

#[cfg(feature = "services")]
impl FromStr for Label {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let is_word = |word: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
            !word.is_empty() && word.len() <= 64 && word.chars().all(is_plain)
        };
        match text.split_once('=') {
            Some((key, value)) if is_word(key) && is_word(value) => {
                Ok(Self(key.into(), value.into()))
            }
            _ => Err(BadValue::new(
                "a label is KEY=VALUE, of letters, digits and - _ . / :, 64 of each at most",
            )),
        }
    }
}

#[cfg(feature = "services")]
from_text!(Label);

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(try_from = "Written")]
#[expect(missing_docs, reason = "it is as it says")]
pub enum Switch {
    #[default]
    On,
    Off,
}

impl FromStr for Switch {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        word(text).ok_or_else(|| BadValue::new("expected on or off"))
    }
}

/// Parses the value of a flag, in any case.
fn word<T: clap::ValueEnum>(text: &str) -> Option<T> {
    T::from_str(text, true).ok()
}

/// The effect of a message on which the specification demands to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnUnexpectedMessage {
    /// Stop, with exit code 4.
    #[default]
    Panic,
    /// Acknowledge it and go on.
    Ignore,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

/// Which log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(try_from = "Written")]
#[expect(missing_docs, reason = "the usual words")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl FromStr for LogLevel {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let right = "expected `error`, `warn`, `info`, `debug` or `trace`";
        word(text).ok_or_else(|| BadValue::new(right))
    }
}

impl LogLevel {
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("2m".parse(), Ok(Span(Duration::from_secs(120))));
        assert_eq!("4MiB".parse(), Ok(Size(4 << 20)));
        assert_eq!("12".parse(), Ok(Size(12)));
        for bad in ["", "5", "s", "5 s", "-5s", "5h", "18446744073709551615m"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert_eq!("1GiB".parse(), Ok(Size(1 << 30)));
        for bad in ["", "0", "0MiB", "KiB", "4MB", "-1", "18446744073709551615MiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        let v6: HostPort = "[::]:0".parse().unwrap();
        assert_eq!((v6.host.as_str(), v6.port, v6.to_string().as_str()), ("::", 0, "[::]:0"));
        assert_eq!("localhost:80".parse::<HostPort>().unwrap().to_string(), "localhost:80");
        for bad in ["", "80", ":80", "::1:80", "[::1:80", "[[a]:80", "h:", "h:99999", "h:-1"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }
}
