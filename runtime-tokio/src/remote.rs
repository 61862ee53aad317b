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

use crate::connect::{Connector, Place};
use crate::consul::Client;
use crate::daemon::{TlsChoice, tls_choice};
use crate::host::Host;
use crate::http::Limits;
use crate::identify::identify;
use crate::signals::Signals;
use hax_driver::tls;

/// The longest answer.
const ANSWER_MAX: usize = 16 << 20;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long Consul may take to say who we are.
const FIND_WITHIN: Duration = Duration::from_secs(15);

/// The hax of this node.
pub struct Remote {
    /// Where it is, as its `Host` header has it.
    pub authority: String,
    connector: Connector,
    token: Option<Secret>,
}

impl Remote {
    /// The hax that these settings make, found as it finds itself.
    pub async fn find(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(http) = &settings.http {
            return Self::at(settings, http, settings.http_cert.clone());
        }
        let client = Arc::new(Client::new(&settings.consul)?);
        let identity = who(settings, client).await.map_err(anyhow::Error::msg)?;
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
        let connector = match cert {
            None => Connector::new(Place::Tcp(authority.clone()), None),
            Some(cert) => {
                let name = to.host.clone().try_into().context(to.host)?;
                let tls = tls::client_of(&cert).context("the certificate of hax's HTTP port")?;
                Connector::new(Place::Tls(authority.clone(), name), Some(tls))
            }
        };
        let token = settings.http_token.as_ref().map(SecretSource::read).transpose()?;
        Ok(Self { authority, connector, token })
    }

    /// Asks for `target`; status and body of what is answered.
    pub async fn get(&self, target: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = (Method::GET, target, Bytes::new());
        let asked = ask(&self.connector, &self.authority, self.token.as_ref(), request);
        let answer = tokio::time::timeout(WITHIN, asked).await;
        answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", WITHIN.as_secs())))
    }
}

/// Who we are, or what stands in the way of knowing it; does not wait for better times.
pub async fn who(settings: &Settings, client: Arc<Client>) -> Result<Identity, String> {
    let clock = Clock::new();
    let metrics = Arc::new(Metrics::new(clock));
    let limits = Limits { body_max: 0, connections_max: 0, body_within: Duration::ZERO };
    let host = Host::new(clock, metrics, Arc::clone(&client), limits);
    let (stop, signals) = Signals::by_hand();
    let mut trouble = None;
    let found = identify(settings, host, &signals, |fact| {
        if let Fact::ConsulFailed { why, .. } = fact {
            trouble = Some(why.to_string());
            stop.send_modify(|n| *n += 1);
        }
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
