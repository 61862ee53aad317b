//! Settings: flags, environment and file, merged and checked.

pub mod bridge;
pub mod consul;
mod file;
pub mod flags;
mod fuzz;
pub mod http;
pub mod log;
pub mod motr;
pub(crate) mod recover;
pub mod secret;
#[cfg(feature = "services")]
pub mod services;
mod show;
pub mod url;
pub mod values;

pub use fuzz::fuzz;

use std::fmt;
use std::path::{Path, PathBuf};

use hax_core::base::fid::Fid;

use crate::observe::journal::BODY_MAX;
use bridge::BridgeSettings;
use consul::ConsulSettings;
use flags::Flags;
use http::HttpSettings;
use log::{JournalSettings, LogSettings};
use motr::{EndpointError, MotrSettings};
use values::BadValue;

/// The settings of `hax run`. A value is `None` if no flag gives it and Consul decides.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The access to Consul.
    pub consul: ConsulSettings,
    /// The name of this node.
    pub node: Option<String>,
    /// The fid of hax's own process.
    pub fid: Option<Fid>,
    /// The HTTP port.
    pub http: HttpSettings,
    /// The transport to Motr's processes.
    pub motr: MotrSettings,
    /// The bridge between the two.
    pub bridge: BridgeSettings,
    /// The services of this node.
    #[cfg(feature = "services")]
    pub services: services::ServicesSettings,
    /// The log.
    pub log: LogSettings,
    /// The journal.
    pub journal: JournalSettings,
    /// Warnings about these settings, one log line each.
    pub warnings: Vec<String>,
}

/// The errors of the settings: at least one, each of one line or more.
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

/// One error of the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("--config: cannot read {}: {why}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        why: std::io::Error,
    },
    /// A file with a secret cannot be used.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The configuration file is not valid; the text has line, column and the line itself.
    #[error("{}: {why}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the parser, with its position.
        why: Box<toml::de::Error>,
    },
    /// A value of the file cannot be used.
    #[error("{}: line {line}: {why}", path.display())]
    InFile {
        /// The path of the file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The error of the value.
        why: Box<Self>,
    },
    /// A value cannot be used.
    #[error("{from}: {why}")]
    Value {
        /// The flag or variable with the value.
        from: &'static str,
        /// The error of the value.
        why: BadValue,
    },
    /// The endpoint belongs to a transport that hax does not speak.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

const NAMESPACE: &str = "CONSUL_NAMESPACE has no effect: hare's keys and services are in the \
    default namespace; unset it for hax";

const UNVERIFIED: &str = "Consul's certificate is not verified: whoever can redirect hax's connections \
    can read its token; give the CA with --consul-ca-file instead";

impl Settings {
    /// Merges flags (with their variables), the file that they name, and the variables that other programs
    /// use too. `env` looks up a variable.
    ///
    /// # Errors
    ///
    /// All errors of the settings, each with its line if the value is from the file.
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
        let http = http::merge(&flags, &file, &mut wrong);
        let (log, journal) = log::merge(&flags, &file);
        let node = flags.node.as_ref().or(file.node.as_ref()).filter(|node| !node.is_empty());
        let settings = Self {
            consul,
            node: node.cloned().or_else(|| env("HARE_HAX_NODE_NAME")),
            fid: flags.fid.or(file.fid).map(|fid| fid.0),
            http,
            motr: motr::merge(&flags, &file, &env),
            bridge: bridge::merge(&flags, &file),
            #[cfg(feature = "services")]
            services: services::merge(&flags, &file),
            log,
            journal,
            warnings,
        };
        settings.check(&mut wrong);
        if wrong.is_empty() { Ok(settings) } else { Err(Errors(wrong)) }
    }

    /// Checks the rules that concern several values together.
    fn check(&self, wrong: &mut Vec<Error>) {
        wrong.extend(self.motr.check());
        wrong.extend(self.http.check_tls());
        let bad = |from, why: &str| Error::Value { from, why: BadValue::new(why) };
        if self.consul.timeout.is_zero() {
            wrong.push(bad("--consul-timeout", "no request can be answered in no time"));
        }
        wrong.extend(self.http.check_bodies());
        #[cfg(feature = "services")]
        wrong.extend(self.services.check(
            self.motr.transport,
            self.node.as_deref(),
            self.journal.path.is_some(),
        ));
        let longest = self.consul.answer_max.max(self.http.body_max);
        if self.journal.path.is_some() && longest > BODY_MAX {
            let max = BODY_MAX >> 20;
            let why = format!("answers and bodies have {max}MiB at most where a journal is kept");
            wrong.push(bad("--consul-answer-max and --http-body-max", &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::values::{LogLevel, MotrTransport};
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
        assert_eq!(settings.bridge.drain, Duration::from_secs(9));
        assert!(!settings.bridge.elect);
        assert_eq!(settings.log.level, LogLevel::Info);
        let settings = Settings::merge(Flags::default(), file(text).unwrap(), env).unwrap();
        assert_eq!(settings.consul.url.authority(), "file:1");
        let settings = Settings::merge(Flags::default(), Flags::default(), env).unwrap();
        assert_eq!(settings.consul.url.authority(), "env:1");
        assert_eq!(settings.node.as_deref(), Some("env"));
        assert!(settings.bridge.elect);
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
        // By default a libfabric endpoint is valid: it makes the daemon load Motr's library.
        Settings::merge(flags.clone(), Flags::default(), none).unwrap();
        let flags = Flags { motr: Some(MotrTransport::Wire), ..flags };
        let error = Settings::merge(flags, Flags::default(), none).unwrap_err().to_string();
        assert!(error.contains("libfabric") && error.contains("--motr-endpoint"), "{error}");
    }

    #[test]
    fn the_state_is_in_the_unit_s_folder_unless_something_else_is_said() {
        let unit = |name| (name == "RUNTIME_DIRECTORY").then(|| "/run/hax/links:/run/x".into());
        let merged = |text: &str, env: fn(&'static str) -> Option<String>| {
            let settings = Settings::merge(Flags::default(), file(text).unwrap(), env).unwrap();
            settings.motr.state_dir.path().map(Path::to_owned)
        };
        assert_eq!(merged("", none), Some("/run/hax".into()));
        assert_eq!(merged("", unit), Some("/run/hax/links".into()));
        assert_eq!(merged("state_dir = '/dev/shm/hax'", unit), Some("/dev/shm/hax".into()));
        assert_eq!(merged("state_dir = 'none'", unit), None);
        let error = file("state_dir = 'here'").unwrap_err();
        assert!(error.contains("from the root, or none"), "{error}");
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
