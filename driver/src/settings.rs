//! Settings: flags, environment and file made into one checked whole.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::wire::{self, name::BadName};

use crate::cli::{Flags, RunArgs};
use crate::values::{
    BadValue, ConsulUrl, HostPort, LogFormat, LogLevel, MotrTransport, OnUnexpectedMessage, Size,
    Span,
};

/// What `hax run` is to do. Where Consul says what no flag does, there is an `Option`.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the flags, which have their text in `cli`")]
pub struct Settings {
    pub consul: ConsulUrl,
    /// The ACL token; never printed.
    pub consul_token: Option<String>,
    pub consul_timeout: Duration,
    pub consul_answer_max: usize,
    pub node: Option<String>,
    pub fid: Option<Fid>,
    pub http: Option<HostPort>,
    pub motr: MotrTransport,
    pub motr_endpoint: Option<String>,
    pub link_grace: Duration,
    pub on_unexpected_message: OnUnexpectedMessage,
    pub elect: bool,
    pub drain: Duration,
    pub http_body_max: usize,
    pub http_connections_max: usize,
    pub motr_connections_max: usize,
    pub log: LogFormat,
    pub log_level: LogLevel,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{flag}: cannot read {}: {why}", path.display())]
    Unreadable {
        /// Who names it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// The configuration file is wrong; the text has line, column and the line itself.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What and where.
        why: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{from}: {why}")]
    Value {
        /// Where it was given.
        from: &'static str,
        /// What is wrong with it.
        why: BadValue,
    },
    /// The endpoint belongs to a transport that is not spoken.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// Why a Motr endpoint's name is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// libfabric.
    #[error(
        "the Motr endpoint {0} belongs to libfabric, which hax does not speak itself: give hax and its \
         Motr processes an inet:stream:IP@PORT endpoint, with --motr-endpoint (HAX_MOTR_ENDPOINT) or in \
         Consul's entry of the service hax"
    )]
    Libfabric(String),
    /// Not a name at all.
    #[error(
        "{name:?} is not a Motr endpoint ({why}): expected inet:stream:IP@PORT or \
         IP@tcp:12345:PORTAL:TMID (--motr-endpoint, or Consul's entry of the service hax)"
    )]
    Unknown {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Settings {
    /// Merges flags (with their variables), the file that they name and the variables that other
    /// programs use too, which `env` looks up.
    pub fn load(args: RunArgs, env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => Flags::default(),
        };
        let env = |name| env(name).filter(|value| !value.is_empty());
        Self::merge(args.flags, file, env)
    }

    fn merge(
        flags: Flags,
        file: Flags,
        env: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, Error> {
        let consul = match flags.consul {
            Some(url) => Some(url),
            None => consul_from(&env)?.or(file.consul),
        };
        let token_file = flags.consul_token_file.or(file.consul_token_file);
        let span = |flag: Option<Span>, file, default| {
            flag.or(file).map_or_else(|| Duration::from_secs(default), |span| span.0)
        };
        let count =
            |flag: Option<u16>, file, default| usize::from(flag.or(file).unwrap_or(default).max(1));
        let size = |flag: Option<Size>, file, default| flag.or(file).map_or(default, |size| size.0);
        let settings = Self {
            consul: consul.unwrap_or_default(),
            consul_token: token(token_file.as_deref(), &env)?,
            consul_timeout: span(flags.consul_timeout, file.consul_timeout, 5),
            consul_answer_max: size(flags.consul_answer_max, file.consul_answer_max, 64 << 20),
            node: flags.node.or_else(|| env("HARE_HAX_NODE_NAME")).or(file.node),
            fid: flags.fid.or(file.fid).map(|fid| fid.0),
            http: flags.http.or(file.http),
            motr: flags.motr.or(file.motr).unwrap_or_default(),
            motr_endpoint: flags.motr_endpoint.or(file.motr_endpoint),
            link_grace: span(flags.link_grace, file.link_grace, 60),
            on_unexpected_message: flags
                .on_unexpected_message
                .or(file.on_unexpected_message)
                .unwrap_or_default(),
            elect: !flags.no_elect.or(file.no_elect).unwrap_or(false),
            drain: span(flags.drain, file.drain, 10),
            http_body_max: size(flags.http_body_max, file.http_body_max, 4 << 20),
            http_connections_max: count(flags.http_connections_max, file.http_connections_max, 512),
            motr_connections_max: count(
                flags.motr_connections_max,
                file.motr_connections_max,
                2048,
            ),
            log: flags.log.or(file.log).unwrap_or_default(),
            log_level: flags.log_level.or(file.log_level).unwrap_or_default(),
        };
        if let Some(name) = &settings.motr_endpoint {
            endpoint(name)?;
        }
        Ok(settings)
    }
}

fn read_file(path: &Path) -> Result<Flags, Error> {
    let text = std::fs::read_to_string(path).map_err(|why| Error::Unreadable {
        flag: "--config",
        path: path.into(),
        why,
    })?;
    toml::from_str(&text).map_err(|why| Error::File { path: path.into(), why: Box::new(why) })
}

/// The variables of Consul's own tools.
fn consul_from(env: &impl Fn(&'static str) -> Option<String>) -> Result<Option<ConsulUrl>, Error> {
    if env("CONSUL_HTTP_SSL").is_some_and(|on| matches!(on.as_str(), "1" | "true" | "TRUE")) {
        let why = "https://".parse::<ConsulUrl>().expect_err("https is refused");
        return Err(Error::Value { from: "CONSUL_HTTP_SSL", why });
    }
    let from = "CONSUL_HTTP_ADDR";
    env(from).map(|url| url.parse().map_err(|why| Error::Value { from, why })).transpose()
}

fn token(
    file: Option<&Path>,
    env: &impl Fn(&'static str) -> Option<String>,
) -> Result<Option<String>, Error> {
    let (from, token) = match file {
        None => ("CONSUL_HTTP_TOKEN", env("CONSUL_HTTP_TOKEN")),
        Some(path) => {
            let flag = "--consul-token-file";
            let text = std::fs::read_to_string(path).map_err(|why| Error::Unreadable {
                flag,
                path: path.into(),
                why,
            })?;
            (flag, Some(text.trim().into()))
        }
    };
    if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
        let why = BadValue::new("a token is one word of printable ASCII");
        return Err(Error::Value { from, why });
    }
    Ok(token)
}

/// Where the endpoint `name` listens: an address that peers can connect to, since it stands in every
/// frame that they get.
pub fn endpoint(name: &str) -> Result<SocketAddr, EndpointError> {
    let unknown = |why| EndpointError::Unknown { name: name.into(), why };
    let address = wire::name::parse(name).map_err(|why| match why {
        BadName::Libfabric => EndpointError::Libfabric(name.into()),
        BadName::Syntax(why) => unknown(why),
    })?;
    if address.ip().is_unspecified() {
        return Err(unknown("peers cannot connect to this address"));
    }
    if address.port() == 0 {
        return Err(unknown("peers cannot connect to port 0"));
    }
    Ok(address)
}

/// What `--check` prints: a configuration file with the effective values.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("\"{}ms\"", time.as_millis());
        writeln!(f, "consul = \"{}\"", self.consul)?;
        if self.consul_token.is_some() {
            writeln!(f, "# a token for Consul is set")?;
        }
        writeln!(f, "consul_timeout = {}", ms(self.consul_timeout))?;
        writeln!(f, "consul_answer_max = \"{}\"", self.consul_answer_max)?;
        let from_consul = [
            ("node", self.node.clone()),
            ("fid", self.fid.map(|fid| fid.to_string())),
            ("http", self.http.as_ref().map(ToString::to_string)),
            ("motr_endpoint", self.motr_endpoint.clone()),
        ];
        for (key, value) in from_consul {
            match value {
                Some(value) => writeln!(f, "{key} = {value:?}")?,
                None => writeln!(f, "# {key}: Consul says it")?,
            }
        }
        writeln!(f, "motr = \"{}\"", word(self.motr))?;
        writeln!(f, "link_grace = {}", ms(self.link_grace))?;
        let on_unexpected_message = word(self.on_unexpected_message);
        writeln!(f, "on_unexpected_message = \"{on_unexpected_message}\"")?;
        writeln!(f, "no_elect = {}", !self.elect)?;
        writeln!(f, "drain = {}", ms(self.drain))?;
        writeln!(f, "http_body_max = \"{}\"", self.http_body_max)?;
        writeln!(f, "http_connections_max = {}", self.http_connections_max)?;
        writeln!(f, "motr_connections_max = {}", self.motr_connections_max)?;
        writeln!(f, "log = \"{}\"", word(self.log))?;
        writeln!(f, "log_level = \"{}\"", word(self.log_level))
    }
}

/// The word that stands for a value in flags and files.
fn word(value: impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// As [`Settings`]'s `Display`: without the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Flags, String> {
        toml::from_str(text).map_err(|why| why.to_string())
    }

    fn none(_: &'static str) -> Option<String> {
        None
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let text = "consul = \"http://file:1\"\nnode = \"file\"\ndrain = \"9s\"\nno_elect = true\n";
        let flags = Flags { consul: Some("flag:1".parse().unwrap()), ..Flags::default() };
        let env = |name| match name {
            "CONSUL_HTTP_ADDR" => Some("env:1".into()),
            "HARE_HAX_NODE_NAME" => Some("env".into()),
            _ => None,
        };
        let settings = Settings::merge(flags, file(text).unwrap(), env).unwrap();
        assert_eq!(settings.consul.authority(), "flag:1");
        assert_eq!(settings.node.as_deref(), Some("env"));
        assert_eq!(settings.drain, Duration::from_secs(9));
        assert!(!settings.elect);
        assert_eq!(settings.log_level, LogLevel::Info);
        let settings = Settings::merge(Flags::default(), file(text).unwrap(), env).unwrap();
        assert_eq!(settings.consul.authority(), "env:1");
        let settings = Settings::merge(Flags::default(), file(text).unwrap(), none).unwrap();
        assert_eq!(settings.consul.authority(), "file:1");
    }

    #[test]
    fn an_error_of_a_file_names_its_line() {
        for (text, line, what) in [
            ("node = \"a\"\nnodes = 1\n", "line 2", "unknown field `nodes`"),
            ("\n\nfid = \"4\"\n", "line 3", "not a fid"),
            ("drain = 5\n", "line 1", "string"),
            ("log = \"xml\"\n", "line 1", "unknown variant `xml`"),
            ("node = \n", "line 1", ""),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(line) && error.contains(what), "{text:?}: {error}");
        }
    }

    #[test]
    fn libfabric_and_tls_are_refused_in_words() {
        let flags =
            Flags { motr_endpoint: Some("inet:tcp:10.0.0.1@22001".into()), ..Flags::default() };
        let error = Settings::merge(flags, Flags::default(), none).unwrap_err().to_string();
        assert!(error.contains("libfabric") && error.contains("--motr-endpoint"), "{error}");
        let ssl = |name| (name == "CONSUL_HTTP_SSL").then(|| "true".into());
        let error = Settings::merge(Flags::default(), Flags::default(), ssl).unwrap_err();
        assert!(error.to_string().contains("CONSUL_HTTP_SSL: https://"), "{error}");
    }

    #[test]
    fn a_token_is_never_printed() {
        let env = |name| (name == "CONSUL_HTTP_TOKEN").then(|| "secret".into());
        let settings = Settings::merge(Flags::default(), Flags::default(), env).unwrap();
        assert_eq!(settings.consul_token.as_deref(), Some("secret"));
        assert!(!format!("{settings} {settings:?}").contains("secret"));
        // What is printed is a file that says the same.
        let again = file(&settings.to_string()).unwrap();
        assert_eq!(Settings::merge(Flags::default(), again, env).unwrap(), settings);
    }
}
