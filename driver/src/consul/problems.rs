//! The problems between hax and Consul, with text that says what to do.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hax_core::consul::port::{Answer, Method};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use serde_json::Value;

use super::verb;
use crate::settings::consul::ConsulSettings;
use crate::settings::url::ConsulUrl;

/// The maximum number of remembered denied operations. A token without rights causes only a few.
const DENIED_MAX: usize = 64;

/// A request to Consul, described for access control.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AccessRequest {
    /// The method and the path; for an operation on a session, a check or a service without its name.
    operation: String,
    /// The denied keys of a transaction; empty for other requests.
    keys: Vec<String>,
}

impl AccessRequest {
    pub(super) fn of(method: Method, target: &str, body: &[u8], answer: &Answer) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        let depth = if path.starts_with("/v1/kv/") { usize::MAX } else { 4 };
        let path: Vec<_> = path.split('/').take(depth).collect();
        let refused = answer.status == 409 || answer.status == 403;
        let keys = match path.last() {
            Some(&"txn") if refused => denied_keys(body, &answer.body),
            _ => Vec::new(),
        };
        Self { operation: format!("{} {}", verb(method), path.join("/")), keys }
    }
}

/// Returns the keys of a transaction's operations that its response reports as denied.
fn denied_keys(body: &[u8], answer: &[u8]) -> Vec<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return Vec::new() };
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let errors = answer["Errors"].as_array().into_iter().flatten();
    let denied = errors.filter(|error| error["What"].as_str().is_some_and(is_acl_error));
    let key = |error: &Value| {
        let nth = usize::try_from(error["OpIndex"].as_u64()?).ok()?;
        Some(body[nth]["KV"]["Key"].as_str()?.to_owned())
    };
    denied.filter_map(key).take(3).collect()
}

fn is_acl_error(text: &str) -> bool {
    text.contains("Permission denied") || text.contains("ACL not found")
}

/// The kind of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// Consul does not know the token, so nothing is granted with it.
    Token,
    /// Consul knows the token, or there is none, and the operation is not granted.
    Right,
}

/// The current problems; each is logged once until it is over.
#[derive(Default)]
pub(super) struct Problems(Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<String>,
    /// The denials by operation.
    denied: BTreeMap<String, String>,
    /// An operation that needs a right was granted after the first denial.
    has_granted: bool,
    /// The token as a whole is denied, and that has been logged.
    token_denied: bool,
}

impl Problems {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that there is no connection, or that it broke before the response.
    pub(super) fn disconnected(&self, why: String) {
        let mut state = self.state();
        if state.connection.as_ref() != Some(&why) {
            tracing::warn!(target: "hax", "{why}");
            state.connection = Some(why);
        }
    }

    /// Records a response.
    pub(super) fn connected(&self) {
        self.state().connection = None;
    }

    /// Records a denial, and returns the text to log. Of several denials with one cause (the token, or a
    /// missing right) only the first is logged.
    #[must_use]
    pub(super) fn denied(
        &self,
        asked: &AccessRequest,
        how: Denial,
        why: impl FnOnce() -> String,
    ) -> Option<String> {
        let mut state = self.state();
        if state.denied.contains_key(&asked.operation) || state.denied.len() >= DENIED_MAX {
            return None;
        }
        let is_known = match how {
            Denial::Token => std::mem::replace(&mut state.token_denied, true),
            // If no operation at all is granted, the token has no rights, and this is one cause.
            Denial::Right => !state.denied.is_empty() && !state.has_granted,
        };
        if state.denied.is_empty() {
            state.has_granted = false;
        }
        let why = why();
        state.denied.insert(asked.operation.clone(), why.clone());
        (!is_known).then_some(why)
    }

    /// Records that Consul does not deny the request.
    pub(super) fn granted(&self, asked: &AccessRequest, answer: &Answer) {
        let mut state = self.state();
        // Consul silently omits from its responses what the token may not read.
        let has_something = !matches!(answer.body.trim_ascii(), b"" | b"[]" | b"{}" | b"null");
        let public = asked.operation.starts_with("GET /v1/status/");
        state.has_granted |= answer.status == 200 && has_something && !public;
        if state.denied.is_empty() || state.denied.remove(&asked.operation).is_none() {
            return;
        }
        if std::mem::take(&mut state.token_denied) {
            // Other denials belonged to the unknown token. If some remain, they have other causes and are
            // recorded anew.
            state.denied.clear();
        }
        if state.denied.is_empty() {
            tracing::info!(target: "hax", "Consul accepts hax's requests again: {}", asked.operation);
        }
    }

    /// Returns the text of the current problem, if there is one.
    pub(super) fn get(&self) -> Option<String> {
        let state = self.state();
        state.connection.as_ref().or_else(|| state.denied.values().next()).cloned()
    }

    /// Forgets the denials of the old token.
    pub(super) fn token_changed(&self) {
        let connection = self.state().connection.take();
        *self.state() = State { connection, ..State::default() };
    }
}

/// Returns the reason why a request has no response.
///
/// The whole chain of causes is searched. With TLS 1.3 a server refuses our certificate after the handshake,
/// during the first response.
pub(super) fn connection_text(consul: &ConsulSettings, error: &(dyn Error + 'static)) -> String {
    let url = &consul.url;
    let mut cause = Some(error);
    let mut text = error.to_string();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return format!("Consul at {url}: {}", tls_text(consul, tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(tls) => return format!("Consul at {url}: {}", tls_text(consul, tls)),
                None => text = io_text(url, io),
            }
        }
        cause = error.source();
    }
    format!("Consul at {url}: {text}")
}

fn io_text(url: &ConsulUrl, why: &io::Error) -> String {
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
        // The server's alert about our certificate can be overtaken by the end of the connection.
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, ConsulUrl::Https(_)) => {
            ": closed after the handshake; does it demand a certificate of hax (verify_incoming) that \
             --consul-cert does not give?"
        }
        _ => "",
    };
    format!("{why}{hint}")
}

fn tls_text(consul: &ConsulSettings, why: &rustls::Error) -> String {
    use rustls::Error as Tls;
    let hint = match why {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not signed by an authority that hax trusts; give Consul's CA with --consul-ca-file"
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

/// Returns the kind of denial in a response, if it is one. An agent without ACLs responds to questions about
/// ACLs with 401; the status of a denied transaction is that of a conflict.
pub(super) fn denial_in(status: u16, body: &[u8]) -> Option<Denial> {
    let has = |part: &[u8]| body.windows(part.len()).any(|bytes| bytes == part);
    let refuses = match status {
        401 => !body.starts_with(b"ACL support disabled"),
        409 => has(b"Permission denied") || has(b"ACL not found"),
        _ => status == 403,
    };
    let how = if has(b"ACL not found") { Denial::Token } else { Denial::Right };
    refuses.then_some(how)
}

/// Returns the text about a denial.
pub(super) fn denial_text(
    consul: &ConsulSettings,
    asked: &AccessRequest,
    status: u16,
    body: &[u8],
) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let token = match &consul.token {
        None => "hax has no token: give one with --consul-token-file".into(),
        Some(token) => format!("the token of {token} must exist and have hax's policy"),
    };
    let (text, mut what) = (text.trim(), asked.operation.clone());
    if !asked.keys.is_empty() {
        what = format!("{what} of {}", asked.keys.join(", "));
    }
    let url = &consul.url;
    format!(
        "Consul at {url} refuses {what} ({status} {text}); {token} (docs/OPERATE.md; hax check names \
         each right that is missing)"
    )
}

/// Returns whether this is the response of an HTTPS server to a client without TLS.
pub(super) fn requires_tls(status: u16, body: &[u8]) -> bool {
    status == 400 && body.starts_with(b"Client sent an HTTP request to an HTTPS server")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer { status, index: 0, body: Bytes::from_static(body.as_bytes()) }
    }

    fn get(target: &str) -> AccessRequest {
        AccessRequest::of(Method::Get, target, b"", &answer(200, ""))
    }

    /// Returns whether the denial is to be logged.
    fn denied(problems: &Problems, target: &str, body: &'static str) -> bool {
        let how = denial_in(403, body.as_bytes()).unwrap();
        problems.denied(&get(target), how, || target.into()).is_some()
    }

    #[test]
    fn f43_a_token_that_is_gone_is_one_cause() {
        let problems = Problems::default();
        let not_found = "ACL not found";
        assert!(denied(&problems, "/v1/kv/leader?index=7", not_found));
        assert!(!denied(&problems, "/v1/kv/m0conf/?recurse", not_found));
        assert!(!denied(&problems, "/v1/session/renew/1-2-3", not_found));
        problems.granted(&get("/v1/status/leader"), &answer(200, "\"a\""));
        assert!(!denied(&problems, "/v1/health/state/any", not_found));
        // The token exists again, and one operation is still denied.
        problems.granted(&get("/v1/kv/leader"), &answer(404, ""));
        assert_eq!(problems.get(), None);
        assert!(denied(&problems, "/v1/agent/self", "Permission denied"));
    }

    #[test]
    fn f43_a_token_that_may_nothing_is_one_cause_and_each_missing_right_of_another_is_one() {
        let problems = Problems::default();
        let no = "Permission denied";
        assert!(denied(&problems, "/v1/agent/self", no));
        problems.granted(&get("/v1/health/state/any"), &answer(200, "[]"));
        problems.granted(&get("/v1/kv/m0conf/?recurse"), &answer(404, ""));
        assert!(!denied(&problems, "/v1/kv/leader", no));
        problems.granted(&get("/v1/kv/m0conf/?recurse"), &answer(200, "[{}]"));
        assert!(denied(&problems, "/v1/session/create", no));
        assert!(!denied(&problems, "/v1/session/create", no));
    }

    #[test]
    fn f41_the_keys_of_a_refused_transaction_are_named() {
        let body =
            br#"[{"KV": {"Verb": "set", "Key": "bq/7"}}, {"KV": {"Verb": "set", "Key": "epoch"}}]"#;
        let text = r#"{"Results": null, "Errors": [{"OpIndex": 1, "What": "Permission denied"}]}"#;
        let answer = answer(409, text);
        assert_eq!(denial_in(409, &answer.body), Some(Denial::Right));
        let asked = AccessRequest::of(Method::Put, "/v1/txn", body, &answer);
        assert_eq!(
            asked,
            AccessRequest { operation: "PUT /v1/txn".into(), keys: vec!["epoch".into()] }
        );
        let conflict =
            br#"{"Errors": [{"OpIndex": 0, "What": "failed to set key: index is stale"}]}"#;
        assert_eq!(denial_in(409, conflict), None);
        assert_eq!(denial_in(401, b"ACL support disabled"), None);
    }
}
