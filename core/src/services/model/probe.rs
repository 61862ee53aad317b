//! Probes: whether an instance is ready, and whether it is well.
//!
//! A probe is a helper program with a time limit, and success is its exit code 0. hax itself is the helper for
//! connections, requests and files: `hax probe tcp ADDRESS`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Words;
use super::span::Span;
use super::template::{Values, fill, fill_all};
use crate::exec::Origin;

/// What is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A TCP connection to this address succeeds.
    Tcp(Box<str>),
    /// A GET request of this URL is answered with a status below 400.
    Http(Box<str>),
    /// This file exists.
    File(Box<str>),
    /// This program ends with 0.
    Exec(Words),
}

impl Probe {
    /// Returns the probe with all parameters replaced.
    ///
    /// # Errors
    ///
    /// See [`fill`].
    pub fn filled(&self, values: &Values) -> Result<Self, String> {
        Ok(match self {
            Self::Tcp(address) => Self::Tcp(fill(address, values)?),
            Self::Http(url) => Self::Http(fill(url, values)?),
            Self::File(path) => Self::File(fill(path, values)?),
            Self::Exec(argv) => Self::Exec(fill_all(argv, values)?),
        })
    }

    /// Returns the command line of the probe's helper, and its origin. `hax` is the path of hax itself.
    #[must_use]
    pub fn helper(&self, hax: &str) -> (Words, Origin) {
        let own = |what: &str, of: &str| {
            let argv = [hax, "probe", what, of].map(Box::<str>::from);
            (Words::from(argv), Origin::Own)
        };
        match self {
            Self::Tcp(address) => own("tcp", address),
            Self::Http(url) => own("http", url),
            Self::File(path) => own("file", path),
            Self::Exec(argv) => (argv.clone(), Origin::Configured),
        }
    }

    /// Returns what is wrong with the probe.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(address) if !address.contains(':') => Some("tcp: HOST:PORT is expected"),
            Self::Http(url) if !url.starts_with("http://") => {
                Some("http: an http:// URL is expected")
            }
            Self::File(path) if !path.starts_with('/') => {
                Some("file: an absolute path is expected")
            }
            Self::Exec(argv) if argv.first().is_none_or(|program| !program.starts_with('/')) => {
                Some("exec: the program's absolute path comes first")
            }
            Self::Tcp(_) | Self::Http(_) | Self::File(_) | Self::Exec(_) => None,
        }
    }
}

/// The condition under which a started instance is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenReady", into = "WrittenReady")]
pub enum Ready {
    /// It is ready once it has been started.
    #[default]
    Started,
    /// It tells hax that it is ready.
    Notify,
    /// It is ready once this probe succeeds.
    Probe(Probe),
}

/// The form of [`Ready`] in a record.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenReady {
    Word(String),
    Exec { exec: Words },
}

impl TryFrom<WrittenReady> for Ready {
    type Error = String;

    fn try_from(written: WrittenReady) -> Result<Self, String> {
        let word = match written {
            WrittenReady::Exec { exec } => return Ok(Self::Probe(Probe::Exec(exec))),
            WrittenReady::Word(word) => word,
        };
        match word.split_once(':') {
            None if word == "started" => Ok(Self::Started),
            None if word == "notify" => Ok(Self::Notify),
            Some(("tcp", address)) => {
                let address = if address.contains(':') {
                    address.into()
                } else {
                    format!("127.0.0.1:{address}")
                };
                Ok(Self::Probe(Probe::Tcp(address.into())))
            }
            Some(("file", path)) => Ok(Self::Probe(Probe::File(path.into()))),
            Some(_) | None => Err(format!(
                "{word:?}: ready is started, notify, tcp:[HOST:]PORT, file:PATH or {{ exec = [...] }}"
            )),
        }
    }
}

impl From<Ready> for WrittenReady {
    fn from(ready: Ready) -> Self {
        match ready {
            Ready::Started => Self::Word("started".into()),
            Ready::Notify => Self::Word("notify".into()),
            Ready::Probe(Probe::Tcp(address)) => Self::Word(format!("tcp:{address}")),
            Ready::Probe(Probe::File(path)) => Self::Word(format!("file:{path}")),
            Ready::Probe(Probe::Http(url)) => Self::Word(format!("http:{url}")),
            Ready::Probe(Probe::Exec(exec)) => Self::Exec { exec },
        }
    }
}

/// The regular check of a running instance. Exactly one of `tcp`, `http` and `exec` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// See [`Probe::Tcp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Box<str>>,
    /// See [`Probe::Http`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<str>>,
    /// See [`Probe::Exec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Words>,
    /// The time between two checks.
    #[serde(default = "every")]
    pub every: Span,
    /// The time limit of a check. A check without a result by then has failed.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

const fn every() -> Span {
    Span::secs(1)
}

const fn timeout() -> Span {
    Span::secs(5)
}

impl Check {
    /// Returns the check's probe, if exactly one is set.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let all = [
            self.tcp.clone().map(Probe::Tcp),
            self.http.clone().map(Probe::Http),
            self.exec.clone().map(Probe::Exec),
        ];
        let mut set: Vec<Probe> = all.into_iter().flatten().collect();
        if set.len() == 1 { set.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_read_as_it_is_written() {
        for text in [
            r#""started""#,
            r#""notify""#,
            r#""tcp:[::1]:{port}""#,
            r#""file:/run/x""#,
            r#"{"exec":["/usr/lib/hax/x"]}"#,
        ] {
            let ready: Ready = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&ready).unwrap(), text);
        }
        let ready: Ready = serde_json::from_str(r#""tcp:{port}""#).unwrap();
        assert_eq!(ready, Ready::Probe(Probe::Tcp("127.0.0.1:{port}".into())));
        for text in [r#""soon""#, r#""udp:1""#, "{}", "1"] {
            assert!(serde_json::from_str::<Ready>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_check_has_one_probe() {
        let of = |text: &str| serde_json::from_str::<Check>(text).unwrap().probe();
        assert_eq!(of(r#"{"tcp":"a:1"}"#), Some(Probe::Tcp("a:1".into())));
        assert_eq!(of(r#"{"tcp":"a:1","http":"http://a/"}"#), None);
        assert_eq!(of("{}"), None);
    }
}
