//! A running hax, asked over HTTP: by `hax status` and `hax check`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_core::base::fact::Fact;
use hax_core::discover::Identity;
use rustls::ClientConfig;

use crate::clock::Clock;
use crate::daemon::{TlsChoice, tls_choice};
use crate::http::Limits;
use crate::identify::identify;
use crate::metrics::Metrics;
use crate::platform::{Client as _, Platform, Request, Stage, within};
use crate::secret::{Secret, SecretSource};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::tls;
use crate::values::HostPort;
use crate::way::Place;

/// The longest answer.
const ANSWER_MAX: usize = 16 << 20;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long Consul may take to say who we are.
const FIND_WITHIN: Duration = Duration::from_secs(15);

/// The hax of this node.
pub(super) struct Remote {
    /// Where it is, as its `Host` header has it.
    pub(super) authority: String,
    place: Place,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

impl Remote {
    /// The hax that these settings make, found as it finds itself.
    pub(super) async fn find<P: Platform>(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(http) = &settings.http {
            return Self::at(settings, http, settings.http_cert.clone());
        }
        let client = Arc::new(P::Client::new(&settings.consul)?);
        let identity = who::<P>(settings, client).await.map_err(anyhow::Error::msg)?;
        Self::of(settings, &identity)
    }

    /// The hax of this identity.
    pub(super) fn of(settings: &Settings, identity: &Identity) -> anyhow::Result<Self> {
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
        let (place, tls) = match cert {
            None => (Place::Tcp(authority.clone()), None),
            Some(cert) => {
                let name = to.host.clone().try_into().context(to.host)?;
                let tls = tls::client_of(&cert).context("the certificate of hax's HTTP port")?;
                (Place::Tls(authority.clone(), name), Some(tls))
            }
        };
        let token = settings.http_token.as_ref().map(SecretSource::read).transpose()?;
        Ok(Self { authority, place, tls, token })
    }

    /// Asks for `target`; status and body of what is answered.
    pub(super) async fn get<P: Platform>(&self, target: &str) -> anyhow::Result<(u16, Bytes)> {
        let (authority, token) = (&*self.authority, self.token.as_ref());
        let request = Request { authority, target, token, answer_max: ANSWER_MAX };
        let answer = within::<P, _>(WITHIN, P::ask(&self.place, self.tls.clone(), request)).await;
        answer.unwrap_or_else(|| Err(anyhow::anyhow!("no answer in {} s", WITHIN.as_secs())))
    }
}

/// Who we are, or what stands in the way of knowing it; does not wait for better times.
pub(super) async fn who<P: Platform>(
    settings: &Settings,
    client: Arc<P::Client>,
) -> Result<Identity, String> {
    let clock = Clock::new();
    let metrics = Arc::new(Metrics::new(clock));
    let limits = Limits { body_max: 0, connections_max: 0, body_within: Duration::ZERO };
    let stage = Stage { clock, metrics, client: Arc::clone(&client), limits };
    let (stop, signals) = Signals::by_hand();
    let mut trouble = None;
    let found = identify::<P>(settings, stage, &signals, |fact| {
        if let Fact::ConsulFailed { why, .. } = fact {
            trouble = Some(why.to_string());
            stop.end();
        }
    });
    let found = within::<P, _>(FIND_WITHIN, found).await;
    match found.ok_or("Consul takes too long to answer")? {
        Some(identity) => Ok(identity),
        None => Err(client.trouble().or(trouble).unwrap_or_default()),
    }
}
