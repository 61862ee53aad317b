//! The access to Consul: its address, the credentials, and the current problems.

mod problems;

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use hax_core::consul::port::{Answer, Method};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Request, request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::settings::consul::ConsulSettings;
use crate::settings::secret::{self, Secret, SecretSource};
use crate::settings::url::ConsulUrl;
use crate::tls;
use problems::{AccessRequest, Problems};

/// The address of a connection.
#[derive(Clone, Debug)]
pub enum Address {
    /// `HOST:PORT`
    Tcp(String),
    /// `HOST:PORT`, with TLS to the server of this name.
    Tls(String, ServerName<'static>),
    /// A socket's path.
    Unix(PathBuf),
}

/// The reason why no request can be sent to Consul.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key cannot be used.
    #[error("TLS for Consul: {0}")]
    Tls(tls::Error),
    /// A token cannot be used.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The required name of the server's certificate is not valid.
    #[error("--consul-server-name: {0:?} is no name that a certificate can have")]
    ServerName(String),
}

/// No `#[from]`: it would make the error the source too, and its text would be printed twice.
impl From<tls::Error> for Error {
    fn from(why: tls::Error) -> Self {
        Self::Tls(why)
    }
}

/// The credentials of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Credentials {
    /// The value of `X-Consul-Token`.
    token: Option<Secret>,
    /// The text after `Basic ` in `Authorization`.
    basic: Option<Secret>,
}

impl Credentials {
    fn read(consul: &ConsulSettings) -> Result<Self, secret::Error> {
        let basic = Self::read_one(&consul.auth)?.map(Self::encode);
        Ok(Self { token: Self::read_one(&consul.token)?, basic })
    }

    fn read_one(source: &Option<SecretSource>) -> Result<Option<Secret>, secret::Error> {
        source.as_ref().map(SecretSource::read).transpose()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the plain one is of no more use")]
    fn encode(auth: Secret) -> Secret {
        let encoded = base64::engine::general_purpose::STANDARD.encode(auth.expose());
        Secret::new(&encoded).expect("base64 is printable ASCII")
    }
}

/// The access to one agent.
pub struct ConsulAccess {
    consul: ConsulSettings,
    authority: String,
    credentials: RwLock<Credentials>,
    problems: Problems,
}

impl ConsulAccess {
    /// Creates the access that these settings describe.
    pub fn new(consul: &ConsulSettings) -> Result<Self, Error> {
        let credentials = RwLock::new(Credentials::read(consul)?);
        let authority = consul.url.authority();
        Ok(Self { consul: consul.clone(), authority, credentials, problems: Problems::default() })
    }

    /// Returns the agent's address.
    pub fn address(&self) -> Result<Address, Error> {
        Ok(match &self.consul.url {
            ConsulUrl::Http(at) => Address::Tcp(at.to_string()),
            ConsulUrl::Unix(path) => Address::Unix(path.clone()),
            ConsulUrl::Https(at) => {
                let name = self.consul.tls.server_name.as_ref().unwrap_or(&at.host);
                let server = ServerName::try_from(name.clone());
                let server = server.map_err(|_| Error::ServerName(name.clone()))?;
                Address::Tls(at.to_string(), server)
            }
        })
    }

    /// Returns the configuration of TLS, if it is used, from the current files.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, tls::Error> {
        match self.consul.url {
            ConsulUrl::Https(_) => tls::client(&self.consul.tls).map(Some),
            ConsulUrl::Http(_) | ConsulUrl::Unix(_) => Ok(None),
        }
    }

    /// Returns the head of a request to `target`, a path and a query, with the host and the credentials.
    #[must_use]
    pub fn request(&self, method: Method, target: &str) -> request::Builder {
        let mut request = Request::builder()
            .method(verb(method))
            .uri(self.uri(target))
            .header(HOST, &self.authority);
        let now = self.credentials();
        if let Some(token) = &now.token {
            request = request.header("x-consul-token", secret_header("", token));
        }
        if let Some(basic) = &now.basic {
            request = request.header(AUTHORIZATION, secret_header("Basic ", basic));
        }
        request
    }

    fn uri(&self, target: &str) -> String {
        let authority = &self.authority;
        match &self.consul.datacenter {
            Some(datacenter) => format!("http://{authority}{}", datacenter.of(target)),
            None => format!("http://{authority}{target}"),
        }
    }

    /// Returns the current credentials.
    fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the token, the password and the TLS files again, independently of each other. Valid values
    /// replace the old ones (`replace` gets the TLS). For invalid values the old ones stay, and each error is
    /// returned.
    pub fn reload(&self, replace: impl FnOnce(Option<Arc<ClientConfig>>)) -> Vec<Error> {
        let (_, wrong) = self.reload_credentials();
        let mut wrong: Vec<_> = wrong.into_iter().map(Error::from).collect();
        match self.tls() {
            Ok(tls) => replace(tls),
            Err(why) => wrong.push(why.into()),
        }
        wrong
    }

    /// Reads the token and the password again, independently; returns whether one has changed.
    fn reload_credentials(&self) -> (bool, Vec<secret::Error>) {
        let read = [&self.consul.token, &self.consul.auth].map(Credentials::read_one);
        let [token, basic] = read;
        let mut wrong = Vec::new();
        let mut now = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = now.clone();
        match token {
            Ok(token) => new.token = token,
            Err(why) => wrong.push(why),
        }
        match basic {
            Ok(auth) => new.basic = auth.map(Credentials::encode),
            Err(why) => wrong.push(why),
        }
        let changed = *now != new;
        *now = new;
        drop(now);
        if changed {
            self.problems.token_changed();
        }
        (changed, wrong)
    }

    /// Returns the current problem, if there is one, with text that says what to do.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problems.get()
    }

    /// Records that a request has no response: there is no connection, or it broke.
    pub fn on_failure(&self, why: &(dyn StdError + 'static)) {
        self.problems.disconnected(problems::connection_text(&self.consul, why));
    }

    /// Updates the problems by the response to a request with this body.
    pub fn on_answer(&self, method: Method, target: &str, body: &[u8], answer: &Answer) {
        if problems::requires_tls(answer.status, &answer.body) {
            let url = &self.consul.url;
            let why = format!("Consul at {url}: this port speaks TLS; say https:// (--consul)");
            return self.problems.disconnected(why);
        }
        self.problems.connected();
        let asked = AccessRequest::of(method, target, body, answer);
        let Some(refusal) = problems::denial_in(answer.status, &answer.body) else {
            return self.problems.granted(&asked, answer);
        };
        // The operator may have replaced a revoked token.
        let (changed, wrong) = self.reload_credentials();
        if changed {
            tracing::info!(target: "hax", "Consul's token has changed; using the new one");
            return;
        }
        let said = self.problems.denied(&asked, refusal, || {
            let denial = problems::denial_text(&self.consul, &asked, answer.status, &answer.body);
            wrong.iter().fold(denial, |all, why| format!("{all}; {why}"))
        });
        if let Some(why) = said {
            tracing::warn!(target: "hax", "{why}");
        }
    }
}

/// Returns the index in the headers of a response; 0 if there is none.
#[must_use]
pub fn index(headers: &HeaderMap) -> u64 {
    let index = headers.get("x-consul-index");
    index.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn secret_header(scheme: &str, secret: &Secret) -> HeaderValue {
    let value = HeaderValue::try_from(format!("{scheme}{}", secret.expose()));
    let mut value = value.expect("a secret is printable ASCII");
    value.set_sensitive(true);
    value
}

/// Returns HTTP's name of a method.
fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    }
}
