//! One request to Consul and its answer: authority, token, datacenter, and what went wrong.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_driver::consul::{self, ConsulUrl};
use hax_driver::secret::{self, Secret, SecretSource};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::trouble::{self, Troubles};
use crate::connect::{Connector, Place};
use crate::tls;

/// Shorter than Consul keeps an idle connection, so that a call seldom meets one that just closed.
const IDLE: Duration = Duration::from_secs(30);

/// After a burst of calls so many connections are kept.
const IDLE_MAX: usize = 16;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key.
    #[error("TLS for Consul: {0}")]
    Tls(tls::Error),
    /// A token.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The name that the server's certificate must have.
    #[error("--consul-server-name: {0:?} is no name that a certificate can have")]
    ServerName(String),
}

/// Not as its source: its text is said already.
impl From<tls::Error> for Error {
    fn from(why: tls::Error) -> Self {
        Self::Tls(why)
    }
}

/// A client of one agent.
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    consul: consul::Consul,
    authority: String,
    credentials: RwLock<Credentials>,
    troubles: Troubles,
}

#[derive(Default, PartialEq)]
struct Credentials {
    token: Option<HeaderValue>,
    auth: Option<HeaderValue>,
}

impl Credentials {
    fn read(consul: &consul::Consul) -> Result<Self, secret::Error> {
        let read =
            |source: &Option<SecretSource>| source.as_ref().map(SecretSource::read).transpose();
        let basic = |auth: Secret| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(auth.expose());
            header(&format!("Basic {encoded}"))
        };
        let token = read(&consul.token)?.map(|token| header(token.expose()));
        Ok(Self { token, auth: read(&consul.auth)?.map(basic) })
    }
}

fn header(secret: &str) -> HeaderValue {
    let mut value = HeaderValue::try_from(secret).expect("a secret is printable ASCII");
    value.set_sensitive(true);
    value
}

impl Client {
    /// A client with these settings; no connection is made yet.
    pub fn new(consul: &consul::Consul) -> Result<Self, Error> {
        let authority = consul.url.authority();
        let place = match &consul.url {
            ConsulUrl::Http(at) => Place::Tcp(at.to_string()),
            ConsulUrl::Unix(path) => Place::Unix(path.clone()),
            ConsulUrl::Https(at) => {
                let name = consul.tls.server_name.as_ref().unwrap_or(&at.host);
                let server = ServerName::try_from(name.clone());
                let server = server.map_err(|_| Error::ServerName(name.clone()))?;
                Place::Tls(at.to_string(), server)
            }
        };
        let connector = Connector::new(place, client_tls(consul)?);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector.clone());
        let credentials = RwLock::new(Credentials::read(consul)?);
        let troubles = Troubles::default();
        Ok(Self { http, connector, consul: consul.clone(), authority, credentials, troubles })
    }

    /// Reads token and certificates again. What cannot be read stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        self.reload_credentials()?;
        self.connector.replace_tls(client_tls(&self.consul)?);
        Ok(())
    }

    /// What is wrong on the way to Consul, if anything is, in words that say what to do.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.troubles.get()
    }

    /// Whether they are others than before.
    fn reload_credentials(&self) -> Result<bool, secret::Error> {
        let new = Credentials::read(&self.consul)?;
        let mut now = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *now != new;
        *now = new;
        drop(now);
        if changed {
            self.troubles.token_changed();
        }
        Ok(changed)
    }

    /// Sends a request and takes the whole of what is answered. The target is a path and a query.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> Result<Answer, Unanswered> {
        let response = self.http.request(self.request(method, target, body)).await;
        let response = response.map_err(|why| {
            self.troubles.disconnected(trouble::connection(&self.consul, &why));
            if why.is_connect() { Unanswered::Refused } else { Unanswered::Broken }
        })?;
        let answer = read(response, body_max).await?;
        self.judge(method, target, &answer);
        Ok(answer)
    }

    fn request(&self, method: Method, target: &str, body: Bytes) -> Request<Full<Bytes>> {
        let datacenter = self.consul.datacenter.as_ref();
        let target = datacenter.map_or_else(|| target.into(), |datacenter| datacenter.of(target));
        let mut request = Request::builder()
            .method(verb(method))
            .uri(format!("http://{}{target}", self.authority))
            .header(HOST, &self.authority);
        let now = self.credentials.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &now.token {
            request = request.header("x-consul-token", token);
        }
        if let Some(auth) = &now.auth {
            request = request.header(AUTHORIZATION, auth);
        }
        // The core percent-encodes what it puts in a target.
        request.body(Full::new(body)).expect("a target is a valid path and query")
    }

    /// Says what an answer tells about the way to Consul.
    fn judge(&self, method: Method, target: &str, answer: &Answer) {
        if trouble::wants_tls(answer.status, &answer.body) {
            let url = &self.consul.url;
            let why = format!("Consul at {url}: this port speaks TLS; say https:// (--consul)");
            return self.troubles.disconnected(why);
        }
        self.troubles.connected();
        let path = target.split('?').next().unwrap_or_default();
        if !trouble::is_denial(answer.status, &answer.body) {
            return self.troubles.granted(path);
        }
        // Somebody may have put a new token in place of one that was revoked.
        match self.reload_credentials() {
            Ok(true) => {
                tracing::info!(target: "hax", "Consul's token has changed; using the new one")
            }
            Ok(false) => self.troubles.denied(path, || {
                let what = format!("{} {path}", verb(method));
                trouble::denial(&self.consul, &what, answer.status, &answer.body)
            }),
            Err(why) => self.troubles.denied(path, || why.to_string()),
        }
    }
}

fn verb(method: Method) -> hyper::Method {
    match method {
        Method::Get => hyper::Method::GET,
        Method::Put => hyper::Method::PUT,
        Method::Delete => hyper::Method::DELETE,
    }
}

fn client_tls(consul: &consul::Consul) -> Result<Option<Arc<ClientConfig>>, tls::Error> {
    match consul.url {
        ConsulUrl::Https(_) => tls::client(&consul.tls).map(Some),
        ConsulUrl::Http(_) | ConsulUrl::Unix(_) => Ok(None),
    }
}

async fn read(
    response: Response<hyper::body::Incoming>,
    body_max: usize,
) -> Result<Answer, Unanswered> {
    let status = response.status().as_u16();
    let index = response.headers().get("x-consul-index");
    let index = index.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    if response.body().size_hint().lower() > u64::try_from(body_max).unwrap_or(u64::MAX) {
        return Err(Unanswered::TooLarge);
    }
    let body = Limited::new(response.into_body(), body_max).collect().await.map_err(|why| {
        let too_large = why.downcast_ref::<LengthLimitError>().is_some();
        if too_large { Unanswered::TooLarge } else { Unanswered::Broken }
    })?;
    Ok(Answer { status, index, body: body.to_bytes() })
}
