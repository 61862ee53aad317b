//! Access control of the HTTP port: TLS, and a token. Both can be changed while hax runs.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use crate::settings::secret::{self, Secret, SecretSource};
use crate::tls;

/// The files that authenticate a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate in PEM, followed by its chain.
    pub cert: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// The reason why access control cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key cannot be used.
    #[error("TLS for HTTP: {0}")]
    Tls(tls::Error),
    /// The token cannot be used.
    #[error(transparent)]
    Secret(#[from] secret::Error),
}

/// No `#[from]`: it would make the error the source too, and its text would be printed twice.
impl From<tls::Error> for Error {
    fn from(why: tls::Error) -> Self {
        Self::Tls(why)
    }
}

/// The access control: TLS certificates and the token.
pub struct HttpAccess {
    files: Option<CertFiles>,
    source: Option<SecretSource>,
    current: RwLock<Current>,
}

struct Current {
    tls: Option<Arc<ServerConfig>>,
    token: Option<Secret>,
}

impl Current {
    fn read(files: Option<&CertFiles>, source: Option<&SecretSource>) -> Result<Self, Error> {
        let tls = files.map(|files| tls::server(&files.cert, &files.key)).transpose()?;
        Ok(Self { tls, token: source.map(SecretSource::read).transpose()? })
    }
}

impl HttpAccess {
    /// Creates access control, with TLS if there are files, and with a token if there is one.
    pub fn new(files: Option<CertFiles>, source: Option<SecretSource>) -> Result<Self, Error> {
        let current = RwLock::new(Current::read(files.as_ref(), source.as_ref())?);
        Ok(Self { files, source, current })
    }

    /// Creates access control that admits every request.
    #[must_use]
    pub fn open() -> Self {
        Self { files: None, source: None, current: RwLock::new(Current { tls: None, token: None }) }
    }

    /// Reads the files again: certificate with key, and the token, independently of each other. Valid files
    /// replace the old values. For invalid files the old values stay, and each error is returned.
    pub fn reload(&self) -> Vec<Error> {
        let tls = Current::read(self.files.as_ref(), None).map(|current| current.tls);
        let token = Current::read(None, self.source.as_ref()).map(|current| current.token);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = Vec::new();
        match tls {
            Ok(tls) => current.tls = tls,
            Err(why) => wrong.push(why),
        }
        match token {
            Ok(token) => current.token = token,
            Err(why) => wrong.push(why),
        }
        wrong
    }

    /// Returns whether connections begin with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.files.is_some()
    }

    /// Returns the configuration of a connection's TLS, if it has TLS.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }

    /// Returns whether a request with this `Authorization` is allowed. Every client may ask whether hax is
    /// alive.
    pub(super) fn authorizes(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&[u8]>,
    ) -> bool {
        if matches!(method, "GET" | "HEAD") && matches!(path, "/" | "/healthz" | "/readyz") {
            return true;
        }
        !self.requires_token() || self.has_token(authorization)
    }

    fn requires_token(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).token.is_some()
    }

    /// Returns whether there is a token and this `Authorization` has it.
    pub(super) fn has_token(&self, authorization: Option<&[u8]>) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = &current.token else { return false };
        let given = authorization.and_then(bearer);
        given.is_some_and(|given| same(given, token.expose().as_bytes()))
    }
}

/// Returns the token of an `Authorization` header (RFC 6750); the scheme's name is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares in constant time, which does not reveal the position of a difference; only the length is
/// revealed.
fn same(given: &[u8], token: &[u8]) -> bool {
    let different = given.iter().zip(token).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    given.len() == token.len() && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_fits() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for bad in [&b"Basic abc"[..], b"Bearer", b"abc", b""] {
            assert_eq!(bearer(bad), None);
        }
        assert!(same(b"abc", b"abc"));
        for bad in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!same(bad, b"abc"));
        }
    }
}
