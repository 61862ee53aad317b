//! A running hax, asked over HTTP: by `hax status` and `hax check`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_lite::future::or;
use hax_core::base::fact::Fact;
use hax_core::discover::Identity;
use hax_driver::clock::Clock;
use hax_driver::metrics::Metrics;
use hax_driver::secret::{Secret, SecretSource};
use hax_driver::settings::Settings;
use hax_driver::values::HostPort;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request};
use rustls::ClientConfig;

use crate::connect::{Connector, Place};
use crate::consul::Client;
use crate::daemon::{TlsChoice, tls_choice};
use crate::host::Host;
use crate::http::Limits;
use crate::identify::identify;
use crate::signals::Signals;
use crate::tls;

/// The longest answer.
const ANSWER_MAX: usize = 16 << 20;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long Consul may take to say who we are.
const FIND_WITHIN: Duration = Duration::from_secs(15);

/// A hax that is alive says so at once.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The hax of this node.
pub struct Remote {
    /// Where it is, as its `Host` header has it.
    pub authority: String,
    host: String,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

impl Remote {
    /// The hax that these settings make, found as it finds itself.
    pub async fn find(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(http) = &settings.http {
            return Self::at(settings, http, settings.http_cert.clone());
        }
        let client = Arc::new(Client::new(&settings.consul)?);
        let identity = who(settings, client, &mut Vec::new()).await;
        let identity = identity.map_err(anyhow::Error::msg)?;
        Self::of(settings, &identity)
    }

    /// The hax of this identity.
    pub fn of(settings: &Settings, identity: &Identity) -> anyhow::Result<Self> {
        let http = HostPort { host: (*identity.http_host).into(), port: identity.http_port };
        let cert = match tls_choice(settings, identity) {
            TlsChoice::Files(files) => Some(files.cert),
            TlsChoice::Plain | TlsChoice::Missing(_) => None,
        };
        Self::at(settings, &http, cert)
    }

    fn at(settings: &Settings, http: &HostPort, cert: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut to = http.clone();
        if let Ok(ip) = to.host.parse::<IpAddr>()
            && ip.is_unspecified()
        {
            to.host = if ip.is_ipv4() { "127.0.0.1" } else { "::1" }.into();
        }
        let authority = to.to_string();
        let tls = cert.map(|cert| tls::client_of(&cert)).transpose();
        let tls = tls.context("the certificate of hax's HTTP port")?;
        let token = settings.http_token.as_ref().map(SecretSource::read).transpose()?;
        Ok(Self { authority, host: to.host, tls, token })
    }

    /// Whether it says that it is a hax.
    pub async fn is_alive(&self) -> bool {
        let alive = tokio::time::timeout(ALIVE_WITHIN, self.get("/")).await;
        matches!(alive, Ok(Ok((200, body))) if body.ends_with(b"Sincerely, HaX"))
    }

    /// What to say where [`Self::in_the_other_way`] is alive.
    #[must_use]
    pub fn other_way_than_asked(&self) -> String {
        let at = &self.authority;
        match self.tls {
            None => {
                format!("the hax that runs at {at} serves TLS: give its --http-cert and --http-key")
            }
            Some(_) => format!("the hax that runs at {at} serves no TLS, and these settings do"),
        }
    }

    /// The same, asked without TLS if this is with it, and with it if not: to find out whether it is
    /// there, so whoever it says to be, and without the token.
    #[must_use]
    pub fn in_the_other_way(&self) -> Self {
        let tls = self.tls.is_none().then(tls::client_of_anybody);
        Self { authority: self.authority.clone(), host: self.host.clone(), tls, token: None }
    }

    fn connector(&self) -> anyhow::Result<Connector> {
        let at = self.authority.clone();
        Ok(match &self.tls {
            None => Connector::new(Place::Tcp(at), None),
            Some(tls) => {
                let name = self.host.clone().try_into().with_context(|| self.host.clone())?;
                Connector::new(Place::Tls(at, name), Some(Arc::clone(tls)))
            }
        })
    }

    /// Asks for `target`; status and body of what is answered.
    pub async fn get(&self, target: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = (Method::GET, target, Bytes::new());
        let connector = self.connector()?;
        let asked = ask(&connector, &self.authority, self.token.as_ref(), request);
        let answer = tokio::time::timeout(WITHIN, asked).await;
        answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", WITHIN.as_secs())))
    }
}

/// Who we are, or what stands in the way of knowing it; does not wait for better times. Keys that say it
/// and cannot be read are put in `skipped`.
pub async fn who(
    settings: &Settings,
    client: Arc<Client>,
    skipped: &mut Vec<String>,
) -> Result<Identity, String> {
    let clock = Clock::new();
    let metrics = Arc::new(Metrics::new(clock));
    let limits = Limits { body_max: 0, connections_max: 0, body_within: Duration::ZERO };
    let host = Host::new(clock, metrics, Arc::clone(&client), limits);
    let (stop, signals) = Signals::by_hand();
    let mut trouble = None;
    let found = identify(settings, host, &signals, |fact| match fact {
        Fact::ConsulFailed { why, .. } => {
            trouble = Some(why.to_string());
            stop.send_modify(|n| *n += 1);
        }
        Fact::EntrySkipped { key } => skipped.push(key.to_string()),
        _ => {}
    });
    let found = async { Ok(found.await) };
    let late = async {
        tokio::time::sleep(FIND_WITHIN).await;
        Err("Consul takes too long to answer".to_owned())
    };
    match or(found, late).await? {
        Some(identity) => Ok(identity),
        None => Err(client.trouble().or(trouble).unwrap_or_default()),
    }
}

/// Sends one request on a connection of its own; status and body of what is answered.
pub async fn ask(
    connector: &Connector,
    authority: &str,
    token: Option<&Secret>,
    (method, target, body): (Method, &str, Bytes),
) -> anyhow::Result<(u16, Bytes)> {
    let (mut sender, connection) = http1::handshake(connector.connect().await?).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).header(HOST, authority);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|why| anyhow::anyhow!(why))?.to_bytes();
    connection.abort();
    Ok((status, body))
}
