//! Settings: flags, environment and file made into one checked whole.

pub mod consul;
mod file;
pub mod flags;
mod fuzz;
pub mod secret;
mod show;
pub mod url;
pub mod values;

pub use fuzz::fuzz;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::wire::{self, name::BadName};

use crate::observe::journal::BODY_MAX;
use consul::ConsulSettings;
use flags::Flags;
use secret::SecretSource;
use values::{
    BadValue, HostPort, LogFormat, LogLevel, MotrTransport, OnUnexpectedMessage, Size, Span, Switch,
};

/// What `hax run` is to do. Where Consul says what no flag does, there is an `Option`.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the flags, which have their text in `flags`")]
pub struct Settings {
    pub consul: ConsulSettings,
    pub node: Option<String>,
    pub fid: Option<Fid>,
    pub http: Option<HostPort>,
    pub http_cert: Option<PathBuf>,
    pub http_key: Option<PathBuf>,
    pub http_token: Option<SecretSource>,
    pub motr: MotrTransport,
    pub libmotr: Option<PathBuf>,
    pub motr_endpoint: Option<String>,
    pub link_grace: Duration,
    pub any_process: bool,
    pub silence: Duration,
    pub bq: Switch,
    pub on_unexpected_message: OnUnexpectedMessage,
    pub elect: bool,
    pub filesystem_stats: Duration,
    pub byte_counts: Duration,
    pub drain: Duration,
    pub http_body_max: usize,
    /// Nothing where the program's own default counts.
    pub http_bodies_max: Option<usize>,
    pub http_connections_max: usize,
    pub motr_connections_max: usize,
    pub log: LogFormat,
    pub log_level: LogLevel,
    pub journal: Option<PathBuf>,
    pub journal_max: usize,
    /// What an operator should know of these settings, a line of the log each.
    pub warnings: Vec<String>,
}

/// Why there are no settings: all that is wrong with them, one at least, a line or more each.
#[derive(Debug)]
pub struct Errors(Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, why) in self.0.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            f.write_str(why.to_string().trim_end())?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// One thing that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("--config: cannot read {}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// A file with a secret is of no use.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The configuration file is wrong; the text has line, column and the line itself.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What and where.
        why: Box<toml::de::Error>,
    },
    /// A value of the file cannot be used.
    #[error("{}: line {line}: {why}", path.display())]
    InFile {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: Box<Self>,
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
        "the Motr endpoint {0} belongs to libfabric, which hax does not speak itself: say --motr auto, \
         which takes Motr's library for it, or give hax and its Motr processes an inet:stream:IP@PORT endpoint, with --motr-endpoint (HAX_MOTR_ENDPOINT) or in \
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

const NAMESPACE: &str = "CONSUL_NAMESPACE has no effect: hare's keys and services are in the \
    default namespace; unset it for hax";

const UNVERIFIED: &str = "Consul's certificate is not verified: whoever can redirect hax's connections \
    can read its token; give the CA with --consul-ca-file instead";

impl Settings {
    /// Merges flags (with their variables), the file that they name and the variables that other
    /// programs use too, which `env` looks up.
    ///
    /// # Errors
    ///
    /// All that is wrong, each with its line if the file has it.
    pub fn load(
        config: Option<&Path>,
        flags: Flags,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Errors> {
        let mut file = config.map_or_else(file::File::default, file::File::read);
        let env = |name| env(name).filter(|value| !value.is_empty());
        let merged = Self::merge(flags.clone(), file.flags.clone(), env);
        let mut wrong = std::mem::take(&mut file.wrong);
        match merged {
            Ok(settings) if wrong.is_empty() => return Ok(settings),
            Ok(_) => {}
            Err(Errors(more)) => {
                wrong.extend(more.into_iter().map(|why| file.place(why, &flags)));
            }
        }
        Err(Errors(wrong))
    }

    fn merge(
        flags: Flags,
        file: Flags,
        env: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, Errors> {
        let mut wrong = Vec::new();
        let consul = consul::merge(&flags, &file, &env, &mut wrong);
        let mut warnings = Vec::new();
        if env("CONSUL_NAMESPACE").is_some() {
            warnings.push(NAMESPACE.into());
        }
        if !consul.tls.verify {
            warnings.push(UNVERIFIED.into());
        }
        let span = |flag: Option<Span>, file, default| {
            flag.or(file).map_or_else(|| Duration::from_secs(default), |span| span.0)
        };
        let count = |flag: Option<NonZeroU16>, file, default| {
            flag.or(file).map_or(default, |count| count.get().into())
        };
        let size = |flag: Option<Size>, file, default| flag.or(file).map_or(default, |size| size.0);
        let settings = Self {
            consul,
            node: flags
                .node
                .or(file.node)
                .filter(|n| !n.is_empty())
                .or_else(|| env("HARE_HAX_NODE_NAME")),
            fid: flags.fid.or(file.fid).map(|fid| fid.0),
            http: flags.http.or(file.http),
            http_cert: flags.http_cert.or(file.http_cert),
            http_key: flags.http_key.or(file.http_key),
            http_token: http_token(flags.http_token_file.or(file.http_token_file), &mut wrong),
            motr: flags.motr.or(file.motr).unwrap_or_default(),
            libmotr: flags.libmotr.or(file.libmotr),
            motr_endpoint: flags.motr_endpoint.or(file.motr_endpoint),
            link_grace: span(flags.link_grace, file.link_grace, 60),
            any_process: flags.any_process.or(file.any_process).unwrap_or(false),
            silence: span(flags.silence, file.silence, 5),
            bq: flags.bq.or(file.bq).unwrap_or_default(),
            on_unexpected_message: flags
                .on_unexpected_message
                .or(file.on_unexpected_message)
                .unwrap_or_default(),
            elect: !flags.no_elect.or(file.no_elect).unwrap_or(false),
            filesystem_stats: span(flags.filesystem_stats, file.filesystem_stats, 600),
            byte_counts: span(flags.byte_counts, file.byte_counts, 600),
            drain: span(flags.drain, file.drain, 10),
            http_body_max: size(flags.http_body_max, file.http_body_max, 4 << 20),
            http_bodies_max: flags.http_bodies_max.or(file.http_bodies_max).map(|size| size.0),
            http_connections_max: count(flags.http_connections_max, file.http_connections_max, 512),
            motr_connections_max: count(
                flags.motr_connections_max,
                file.motr_connections_max,
                2048,
            ),
            log: flags.log.or(file.log).unwrap_or_default(),
            log_level: flags.log_level.or(file.log_level).unwrap_or_default(),
            journal: flags.journal.or(file.journal),
            journal_max: size(flags.journal_max, file.journal_max, 1 << 30),
            warnings,
        };
        settings.check(&mut wrong);
        if wrong.is_empty() { Ok(settings) } else { Err(Errors(wrong)) }
    }

    /// What each value allows and all together do not.
    fn check(&self, wrong: &mut Vec<Error>) {
        if let Some(name) = &self.motr_endpoint {
            match (self.motr, endpoint(name)) {
                // Only Motr's library can say what is a name of its transports.
                (MotrTransport::Lib, _)
                | (MotrTransport::Auto, Err(EndpointError::Libfabric(_))) => {}
                (_, address) => wrong.extend(address.err().map(Error::Endpoint)),
            }
        }
        let mut bad = |from, why: &str| wrong.push(Error::Value { from, why: BadValue::new(why) });
        match (&self.http_cert, &self.http_key) {
            (Some(_), None) => {
                bad("--http-cert", "its key is missing: give --http-key too, as to hax run");
            }
            (None, Some(_)) => {
                bad("--http-key", "its certificate is missing: give --http-cert too");
            }
            _ => {}
        }
        if self.consul.timeout.is_zero() {
            bad("--consul-timeout", "no request can be answered in no time");
        }
        if self.http_bodies_max.is_some_and(|all| all / 2 < self.http_body_max) {
            let why = "half of it, which strangers may have, holds no http_body_max";
            bad("--http-bodies-max", why);
        }
        let longest = self.consul.answer_max.max(self.http_body_max);
        if self.journal.is_some() && longest > BODY_MAX {
            let max = BODY_MAX >> 20;
            let why = format!("answers and bodies have {max}MiB at most where a journal is kept");
            bad("--consul-answer-max and --http-body-max", &why);
        }
    }
}

fn http_token(path: Option<PathBuf>, wrong: &mut Vec<Error>) -> Option<SecretSource> {
    let source = SecretSource::File("--http-token-file", path?);
    wrong.extend(source.read().err().map(Error::Secret));
    Some(source)
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
    fn a_flag_beats_the_file_beats_a_variable_of_other_tools_beats_the_default() {
        let text = "consul = \"http://file:1\"\nnode = \"file\"\ndrain = \"9s\"\nno_elect = true\n";
        let flags = Flags { consul: Some("flag:1".parse().unwrap()), ..Flags::default() };
        let env = |name| match name {
            "CONSUL_HTTP_ADDR" => Some("env:1".into()),
            "HARE_HAX_NODE_NAME" => Some("env".into()),
            _ => None,
        };
        let settings = Settings::merge(flags, file(text).unwrap(), env).unwrap();
        assert_eq!(settings.consul.url.authority(), "flag:1");
        assert_eq!(settings.node.as_deref(), Some("file"));
        assert_eq!(settings.drain, Duration::from_secs(9));
        assert!(!settings.elect);
        assert_eq!(settings.log_level, LogLevel::Info);
        let settings = Settings::merge(Flags::default(), file(text).unwrap(), env).unwrap();
        assert_eq!(settings.consul.url.authority(), "file:1");
        let settings = Settings::merge(Flags::default(), Flags::default(), env).unwrap();
        assert_eq!(settings.consul.url.authority(), "env:1");
        assert_eq!(settings.node.as_deref(), Some("env"));
        assert!(settings.elect);
    }

    #[test]
    fn an_error_of_a_file_names_its_line() {
        for (text, line, what) in [
            ("node = \"a\"\nnodes = 1\n", "line 2", "unknown field `nodes`"),
            ("\n\nfid = \"4\"\n", "line 3", "not a fid"),
            ("drain = 5\n", "line 1", "a time with its unit"),
            ("log = \"xml\"\n", "line 1", "unknown variant `xml`"),
            ("node = \n", "line 1", ""),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(line) && error.contains(what), "{text:?}: {error}");
        }
    }

    #[test]
    fn libfabric_is_refused_in_words() {
        let motr_endpoint = Some("inet:tcp:10.0.0.1@22001".into());
        let flags = Flags { motr_endpoint, ..Flags::default() };
        // Motr's library is for whoever starts to load.
        Settings::merge(flags.clone(), Flags::default(), none).unwrap();
        let flags = Flags { motr: Some(MotrTransport::Wire), ..flags };
        let error = Settings::merge(flags, Flags::default(), none).unwrap_err().to_string();
        assert!(error.contains("libfabric") && error.contains("--motr-endpoint"), "{error}");
    }

    #[test]
    fn what_has_no_effect_or_is_not_safe_is_said() {
        let env = |name| matches!(name, "CONSUL_NAMESPACE").then(|| "team".into());
        let flags = Flags { consul_tls_verify: Some(false), ..Flags::default() };
        let settings = Settings::merge(flags, Flags::default(), env).unwrap();
        assert_eq!(settings.warnings, [NAMESPACE, UNVERIFIED]);
    }

    #[test]
    fn a_token_is_never_printed() {
        let env = |name| (name == "CONSUL_HTTP_TOKEN").then(|| "s3cr3t".into());
        let settings = Settings::merge(Flags::default(), Flags::default(), env).unwrap();
        let token = settings.consul.token.as_ref().unwrap().read().unwrap();
        assert_eq!(token.expose(), "s3cr3t");
        assert!(!format!("{settings} {settings:?}").contains("s3cr3t"));
        let again = file(&settings.to_string()).unwrap();
        assert_eq!(Settings::merge(Flags::default(), again, env).unwrap(), settings);
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let text = "node = 'a\"b\\'\nconsul = 'http://\"h\":1'\nconsul_server_name = \"\\u007f\\n\"\n\
            consul_ca_file = '/a \"b\"'\nhttp = \"[::1]:8008\"\n";
        let settings = Settings::merge(Flags::default(), file(text).unwrap(), none).unwrap();
        assert_eq!(settings.node.as_deref(), Some("a\"b\\"));
        let again = file(&settings.to_string()).unwrap();
        assert_eq!(Settings::merge(Flags::default(), again, none).unwrap(), settings);
    }
}
