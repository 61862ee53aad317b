//! The settings of the HTTP port.

use std::path::PathBuf;

use super::Error;
use super::flags::Flags;
use super::secret::SecretSource;
use super::values::{BadValue, HostPort};

/// The address, the credentials and the limits of the HTTP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The only address to listen at; by default Consul gives the address.
    pub at: Option<HostPort>,
    /// The certificate in PEM; given together with its key or not at all.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM.
    pub key: Option<PathBuf>,
    /// The token that requests must have.
    pub token: Option<SecretSource>,
    /// The maximum length of a request's body, in bytes.
    pub body_max: usize,
    /// The maximum length of all bodies together, in bytes; `None` for the program's own default.
    pub bodies_max: Option<usize>,
    /// The maximum number of connections.
    pub connections_max: usize,
}

/// Merges the settings. An invalid token is added to `wrong`.
pub(super) fn merge(flags: &Flags, file: &Flags, wrong: &mut Vec<Error>) -> HttpSettings {
    let path =
        |flag: &Option<PathBuf>, file: &Option<PathBuf>| flag.as_ref().or(file.as_ref()).cloned();
    let token = path(&flags.http_token_file, &file.http_token_file);
    let connections_max = flags.http_connections_max.or(file.http_connections_max);
    HttpSettings {
        at: flags.http.as_ref().or(file.http.as_ref()).cloned(),
        cert: path(&flags.http_cert, &file.http_cert),
        key: path(&flags.http_key, &file.http_key),
        token: token.map(|path| {
            let source = SecretSource::File("--http-token-file", path);
            wrong.extend(source.read().err().map(Error::Secret));
            source
        }),
        body_max: flags.http_body_max.or(file.http_body_max).map_or(4 << 20, |size| size.0),
        bodies_max: flags.http_bodies_max.or(file.http_bodies_max).map(|size| size.0),
        connections_max: connections_max.map_or(512, |count| count.get().into()),
    }
}

impl HttpSettings {
    /// Returns the error of certificate and key, if there is one.
    pub(super) fn check_tls(&self) -> Option<Error> {
        let (from, why) = match (&self.cert, &self.key) {
            (Some(_), None) => {
                ("--http-cert", "its key is missing: give --http-key too, as to hax run")
            }
            (None, Some(_)) => ("--http-key", "its certificate is missing: give --http-cert too"),
            _ => return None,
        };
        Some(Error::Value { from, why: BadValue::new(why) })
    }

    /// Returns the error of the limits of bodies, if there is one.
    pub(super) fn check_bodies(&self) -> Option<Error> {
        let is_small = self.bodies_max.is_some_and(|all| all / 2 < self.body_max);
        is_small.then(|| {
            let why = "http_bodies_max must be at least twice http_body_max";
            Error::Value { from: "--http-bodies-max", why: BadValue::new(why) }
        })
    }
}
