//! What is wrong between hax and Consul, in words that say what to do.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::consul::{Consul, ConsulUrl};

/// So many refused paths are remembered; a token that may do nothing is refused a handful.
const DENIED_MAX: usize = 64;

/// Says each trouble once, until it is over.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Now>);

#[derive(Default)]
struct Now {
    connection: Option<String>,
    /// By path.
    denied: BTreeMap<String, String>,
}

impl Troubles {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no connection, or no answer over it.
    pub(super) fn disconnected(&self, why: String) {
        let mut now = self.now();
        if now.connection.as_ref() != Some(&why) {
            tracing::warn!(target: "hax", "{why}");
            now.connection = Some(why);
        }
    }

    /// An answer came.
    pub(super) fn connected(&self) {
        self.now().connection = None;
    }

    /// Consul refuses what is at `path`.
    pub(super) fn denied(&self, path: &str, why: impl FnOnce() -> String) {
        let mut now = self.now();
        if now.denied.len() < DENIED_MAX && !now.denied.contains_key(path) {
            let why = why();
            tracing::warn!(target: "hax", "{why}");
            now.denied.insert(path.into(), why);
        }
    }

    /// Consul does not refuse it.
    pub(super) fn granted(&self, path: &str) {
        let mut now = self.now();
        if !now.denied.is_empty() {
            now.denied.remove(path);
        }
    }

    /// What is wrong now, if anything is.
    pub(super) fn get(&self) -> Option<String> {
        let now = self.now();
        now.connection.as_ref().or_else(|| now.denied.values().next()).cloned()
    }

    /// A new token: what it may is to be seen.
    pub(super) fn token_changed(&self) {
        self.now().denied.clear();
    }
}

/// Why a request has no answer. Everything in the chain of causes is looked at: with TLS 1.3 a server
/// refuses our certificate after the handshake, in the middle of the first answer.
pub(super) fn connection(consul: &Consul, error: &(dyn Error + 'static)) -> String {
    let url = &consul.url;
    let mut cause = Some(error);
    let mut text = error.to_string();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return format!("Consul at {url}: {}", of_tls(consul, tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(tls) => return format!("Consul at {url}: {}", of_tls(consul, tls)),
                None => text = of_io(url, io),
            }
        }
        cause = error.source();
    }
    format!("Consul at {url}: {text}")
}

fn of_io(url: &ConsulUrl, why: &io::Error) -> String {
    let hint = match (why.kind(), url) {
        (io::ErrorKind::NotFound, ConsulUrl::Unix(_)) => {
            ": there is no such socket; does Consul run, and do its addresses.http name this path?"
        }
        (io::ErrorKind::PermissionDenied, ConsulUrl::Unix(_)) => {
            ": hax's user may not use this socket; see unix_sockets in Consul's configuration"
        }
        (io::ErrorKind::ConnectionRefused, _) => {
            ": nobody listens there; does Consul run, and is this its address (--consul)?"
        }
        (io::ErrorKind::UnexpectedEof, ConsulUrl::Https(_)) => {
            ": closed in the handshake; is this port Consul's ports.https, or is it http:// (--consul)?"
        }
        // What it had to say of our certificate can be overtaken by its end of the connection.
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, ConsulUrl::Https(_)) => {
            ": closed after the handshake; does it demand a certificate of hax (verify_incoming) that \
             --consul-cert does not give?"
        }
        _ => "",
    };
    format!("{why}{hint}")
}

fn of_tls(consul: &Consul, why: &rustls::Error) -> String {
    use rustls::Error as Tls;
    let hint = match why {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is by no authority that hax trusts; give Consul's CA with --consul-ca-file"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is for another name; give a name that it has with --consul-server-name, \
             or in the URL"
        }
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; renew it, or set this machine's clock right",
        Tls::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet; is this machine's clock right?",
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS at this port; give its https port, or http:// (--consul)"
        }
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA,
        ) if consul.tls.cert.is_none() => {
            "it demands a certificate of hax (verify_incoming); give one with --consul-cert and \
             --consul-key"
        }
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => {
            "it does not accept hax's certificate; --consul-cert must be by an authority that it trusts"
        }
        _ => "no TLS connection",
    };
    format!("{hint} ({why})")
}

/// Whether an answer refuses us. An agent without ACLs says 401 to questions about them.
pub(super) fn is_denial(status: u16, body: &[u8]) -> bool {
    match status {
        401 => !body.starts_with(b"ACL support disabled"),
        _ => status == 403,
    }
}

/// What to say of an answer that refuses.
pub(super) fn denial(consul: &Consul, what: &str, status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let token = match &consul.token {
        None => "hax has no token: give one with --consul-token-file".into(),
        Some(token) => format!("the token of {token} must exist and have hax's policy"),
    };
    let text = text.trim();
    format!("Consul at {} refuses {what} ({status} {text}); {token} (docs/OPERATE.md)", consul.url)
}

/// Whether this is what an HTTPS server says to a client without TLS.
pub(super) fn wants_tls(status: u16, body: &[u8]) -> bool {
    status == 400 && body.starts_with(b"Client sent an HTTP request to an HTTPS server")
}
