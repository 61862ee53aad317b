//! A running hax, queried over HTTP by `hax status` and `hax check`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_core::discover::Identity;
use hax_core::ha::fact::Fact;
use http::Method;
use rustls::ClientConfig;

use crate::consul::Address;
use crate::daemon::identify::identify;
use crate::daemon::{TlsChoice, tls_choice};
use crate::host::clock::Clock;
use crate::host::drive::HostContext;
use crate::host::platform::{Client as _, Platform, Request};
use crate::host::signals::Signals;
use crate::host::timer::within;
use crate::http::Limits;
use crate::observe::metrics::Metrics;
use crate::settings::Settings;
use crate::settings::secret::{Secret, SecretSource};
use crate::settings::values::HostPort;
#[cfg(feature = "services")]
use crate::settings::values::MotrTransport;
use crate::tls;

/// The maximum length of a response, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// The timeout of a response.
const WITHIN: Duration = Duration::from_secs(10);

/// The timeout of finding our identity in Consul.
const FIND_WITHIN: Duration = Duration::from_secs(15);

const LATE: &str = "Consul takes too long to answer";

/// The timeout of the liveness request, to which a live hax responds at once.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The hax of this node.
pub(super) struct Remote {
    /// Its address, as in the `Host` header.
    pub(super) authority: String,
    host: String,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

impl Remote {
    /// Finds the hax of these settings, in the same way as the daemon finds its identity.
    pub(super) async fn find<P: Platform>(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(http) = &settings.http.at {
            return Self::at(settings, http, settings.http.cert.clone());
        }
        #[cfg(feature = "services")]
        if settings.motr.transport == MotrTransport::None {
            // Consul has no entry of a hax without Motr.
            let (host, port) = crate::daemon::services::HTTP;
            let http = HostPort { host: host.into(), port };
            return Self::at(settings, &http, settings.http.cert.clone());
        }
        let client = Arc::new(P::Client::new(&settings.consul)?);
        let identity = who::<P>(settings, client, &mut Vec::new()).await;
        let identity = identity.map_err(anyhow::Error::msg)?;
        Self::of(settings, &identity)
    }

    /// Returns the hax of this identity.
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
        let tls = cert.map(|cert| tls::client_of(&cert)).transpose();
        let tls = tls.context("the certificate of hax's HTTP port")?;
        let token = settings.http.token.as_ref().map(SecretSource::read).transpose()?;
        Ok(Self { authority, host: to.host, tls, token })
    }

    /// Returns whether a hax responds there.
    pub(super) async fn is_alive<P: Platform>(&self) -> bool {
        let alive = within::<P, _>(ALIVE_WITHIN, self.get::<P>("/")).await;
        matches!(alive, Some(Ok((200, body))) if body.ends_with(b"Sincerely, HaX"))
    }

    /// Returns the text for the case that [`Self::in_the_other_way`] is alive.
    #[must_use]
    pub(super) fn other_way_than_asked(&self) -> String {
        let at = &self.authority;
        match self.tls {
            None => {
                format!("the hax that runs at {at} serves TLS: give its --http-cert and --http-key")
            }
            Some(_) => format!("the hax that runs at {at} serves no TLS, and these settings do"),
        }
    }

    /// Returns the same hax, without TLS instead of with TLS, or the reverse. It serves to find out whether a
    /// hax is there, so the certificate is not verified, and the token is not sent.
    #[must_use]
    pub(super) fn in_the_other_way(&self) -> Self {
        let tls = self.tls.is_none().then(tls::client_of_anybody);
        Self { authority: self.authority.clone(), host: self.host.clone(), tls, token: None }
    }

    fn address(&self) -> anyhow::Result<Address> {
        let at = self.authority.clone();
        if self.tls.is_none() {
            return Ok(Address::Tcp(at));
        }
        let name = self.host.clone().try_into().with_context(|| self.host.clone())?;
        Ok(Address::Tls(at, name))
    }

    /// Sends a GET request for `target`; returns the status and the body of the response.
    pub(super) async fn get<P: Platform>(&self, target: &str) -> anyhow::Result<(u16, Bytes)> {
        let (authority, token) = (&*self.authority, self.token.as_ref());
        let (method, body) = (Method::GET, Bytes::new());
        let request = Request { authority, method, target, body, token, answer_max: ANSWER_MAX };
        let address = self.address()?;
        let answer = within::<P, _>(WITHIN, P::ask(&address, self.tls.clone(), request)).await;
        answer.unwrap_or_else(|| Err(anyhow::anyhow!("no answer in {} s", WITHIN.as_secs())))
    }
}

/// Returns our identity, or the reason why it is not known; does not retry. Keys that are needed and cannot
/// be read are put in `skipped`.
pub(super) async fn who<P: Platform>(
    settings: &Settings,
    client: Arc<P::Client>,
    skipped: &mut Vec<String>,
) -> Result<Identity, String> {
    let (stop, signals) = Signals::channel();
    let mut trouble = None;
    let mut seen = |fact: &Fact| match fact {
        Fact::ConsulFailed { why, .. } => {
            trouble = Some(why.to_string());
            stop.end();
        }
        Fact::EntrySkipped { key } => skipped.push(key.to_string()),
        _ => {}
    };
    let found = identify::<P>(settings, context::<P>(&client), &signals, &mut seen);
    let found = within::<P, _>(FIND_WITHIN, found).await;
    found.ok_or(LATE)?.ok_or_else(|| client.problem().or(trouble).unwrap_or_default())
}

/// Returns the services of our process, in the same way as [`who`].
#[cfg(feature = "libmotr")]
pub(super) async fn services<P: Platform>(
    client: &Arc<P::Client>,
    who: &Identity,
) -> Result<hax_core::discover::Services, String> {
    let (stop, signals) = Signals::channel();
    let mut trouble = None;
    let mut seen = |fact: &Fact| {
        if let Fact::ConsulFailed { why, .. } = fact {
            trouble = Some(why.to_string());
            stop.end();
        }
    };
    let context = context::<P>(client);
    let found = crate::daemon::identify::services::<P>(who, context, &signals, &mut seen);
    let found = within::<P, _>(FIND_WITHIN, found).await;
    found.ok_or(LATE)?.ok_or_else(|| client.problem().or(trouble).unwrap_or_default())
}

fn context<P: Platform>(client: &Arc<P::Client>) -> HostContext<P::Client> {
    let clock = Clock::new();
    let body_within = Duration::ZERO;
    let limits =
        Limits { body_max: 0, bodies_max: 0, connections_max: 0, streams_max: 0, body_within };
    HostContext::new(clock, Arc::new(Metrics::new(clock)), Arc::clone(client), limits)
}
