//! The address of Consul: its URL and its datacenter, as in flags, variables and files.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use super::values::{BadValue, HostPort};

/// The URL of Consul's HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ConsulUrl {
    /// `http://HOST:PORT`
    Http(HostPort),
    /// `https://HOST:PORT`
    Https(HostPort),
    /// `unix:///PATH`
    Unix(PathBuf),
}

impl ConsulUrl {
    /// Returns the value for `Host` and for a request's URI: `HOST:PORT`.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Http(at) | Self::Https(at) => at.to_string(),
            Self::Unix(_) => "localhost".into(),
        }
    }

    /// Returns the same address with TLS, as `CONSUL_HTTP_SSL` asks for.
    pub(super) fn with_tls(self) -> Self {
        match self {
            Self::Http(at) => Self::Https(at),
            other => other,
        }
    }
}

impl Default for ConsulUrl {
    fn default() -> Self {
        Self::Http(HostPort { host: "127.0.0.1".into(), port: 8500 })
    }
}

impl fmt::Display for ConsulUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(at) => write!(f, "http://{at}"),
            Self::Https(at) => write!(f, "https://{at}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl TryFrom<String> for ConsulUrl {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl FromStr for ConsulUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let expected = "expected http://HOST:PORT, https://HOST:PORT or unix:///PATH";
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let port = match scheme {
            "http" => 8500,
            "https" => 8501,
            "unix" if rest.starts_with('/') && rest.len() > 1 => {
                return Ok(Self::Unix(rest.into()));
            }
            _ => return Err(BadValue::new(expected)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) || rest.contains(char::is_whitespace) {
            return Err(BadValue::new(format!("{expected}, and nothing after the port")));
        }
        let has_port = rest.rsplit_once(']').map_or(rest, |(_, tail)| tail).contains(':');
        let at = if has_port { rest.parse()? } else { format!("{rest}:{port}").parse()? };
        Ok(if scheme == "https" { Self::Https(at) } else { Self::Http(at) })
    }
}

/// The name of a datacenter of Consul.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Datacenter(String);

impl Datacenter {
    /// Adds the datacenter to the path and query `target`. Requests about the agent itself (`/v1/agent/…`) do
    /// not have this parameter.
    #[must_use]
    pub fn of(&self, target: &str) -> String {
        if target.starts_with("/v1/agent/") {
            return target.into();
        }
        let join = if target.contains('?') { '&' } else { '?' };
        format!("{target}{join}dc={}", self.0)
    }
}

impl TryFrom<String> for Datacenter {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl FromStr for Datacenter {
    type Err = BadValue;

    /// The check is Consul's own rule for such names.
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            return Err(BadValue::new("a datacenter's name has letters, digits, - and _ only"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Datacenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consul_urls() {
        for (text, url) in [
            ("http://127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("http://127.0.0.1:8500/", "http://127.0.0.1:8500"),
            ("127.0.0.1:18500", "http://127.0.0.1:18500"),
            ("http://consul.local", "http://consul.local:8500"),
            ("https://consul.local", "https://consul.local:8501"),
            ("https://h:1", "https://h:1"),
            ("http://[::1]", "http://[::1]:8500"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
        ] {
            let parsed = text.parse::<ConsulUrl>().unwrap();
            assert_eq!(parsed.to_string(), url, "{text}");
            assert_eq!(url.parse(), Ok(parsed), "{text}");
        }
        for bad in
            ["", "unix://", "unix://run/c", "ftp://h:1", "http://h:1/v1", "http://u@h:1", "h:x"]
        {
            assert!(bad.parse::<ConsulUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_datacenter_joins_the_query_but_not_at_the_agent() {
        let dc: Datacenter = "dc-2".parse().unwrap();
        assert_eq!(dc.of("/v1/kv/leader?consistent"), "/v1/kv/leader?consistent&dc=dc-2");
        assert_eq!(dc.of("/v1/txn"), "/v1/txn?dc=dc-2");
        assert_eq!(dc.of("/v1/agent/self"), "/v1/agent/self");
        assert!("a&b".parse::<Datacenter>().is_err());
    }
}
