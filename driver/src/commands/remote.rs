//! A running hax, asked over HTTP: by `hax status` and `hax check`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_core::discover::Identity;
use hax_core::ha::fact::Fact;
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
use crate::tls;

/// The longest answer.
const ANSWER_MAX: usize = 16 << 20;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How long Consul may take to say who we are.
const FIND_WITHIN: Duration = Duration::from_secs(15);

const LATE: &str = "Consul takes too long to answer";

/// A hax that is alive says so at once.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The hax of this node.
pub(super) struct Remote {
    /// Where it is, as its `Host` header has it.
    pub(super) authority: String,
    host: String,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

impl Remote {
    /// The hax that these settings make, found as it finds itself.
    pub(super) async fn find<P: Platform>(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(http) = &settings.http.at {
            return Self::at(settings, http, settings.http.cert.clone());
        }
        let client = Arc::new(P::Client::new(&settings.consul)?);
        let identity = who::<P>(settings, client, &mut Vec::new()).await;
        let identity = identity.map_err(anyhow::Error::msg)?;
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
        let tls = cert.map(|cert| tls::client_of(&cert)).transpose();
        let tls = tls.context("the certificate of hax's HTTP port")?;
        let token = settings.http.token.as_ref().map(SecretSource::read).transpose()?;
        Ok(Self { authority, host: to.host, tls, token })
    }

    /// Whether it says that it is a hax.
    pub(super) async fn is_alive<P: Platform>(&self) -> bool {
        let alive = within::<P, _>(ALIVE_WITHIN, self.get::<P>("/")).await;
        matches!(alive, Some(Ok((200, body))) if body.ends_with(b"Sincerely, HaX"))
    }

    /// What to say where [`Self::in_the_other_way`] is alive.
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

    /// The same, asked without TLS if this is with it, and with it if not: to find out whether it is
    /// there, so whoever it says to be, and without the token.
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

    /// Asks for `target`; status and body of what is answered.
    pub(super) async fn get<P: Platform>(&self, target: &str) -> anyhow::Result<(u16, Bytes)> {
        let (authority, token) = (&*self.authority, self.token.as_ref());
        let request = Request { authority, target, token, answer_max: ANSWER_MAX };
        let address = self.address()?;
        let answer = within::<P, _>(WITHIN, P::ask(&address, self.tls.clone(), request)).await;
        answer.unwrap_or_else(|| Err(anyhow::anyhow!("no answer in {} s", WITHIN.as_secs())))
    }
}

/// Who we are, or what stands in the way of knowing it; does not wait for better times. Keys that say it
/// and cannot be read are put in `skipped`.
pub(super) async fn who<P: Platform>(
    settings: &Settings,
    client: Arc<P::Client>,
    skipped: &mut Vec<String>,
) -> Result<Identity, String> {
    let (stop, signals) = Signals::by_hand();
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
    found.ok_or(LATE)?.ok_or_else(|| client.trouble().or(trouble).unwrap_or_default())
}

/// The services of our process, as [`who`].
#[cfg(feature = "libmotr")]
pub(super) async fn services<P: Platform>(
    client: &Arc<P::Client>,
    who: &Identity,
) -> Result<hax_core::discover::Services, String> {
    let (stop, signals) = Signals::by_hand();
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
    found.ok_or(LATE)?.ok_or_else(|| client.trouble().or(trouble).unwrap_or_default())
}

fn context<P: Platform>(client: &Arc<P::Client>) -> HostContext<P::Client> {
    let clock = Clock::new();
    let body_within = Duration::ZERO;
    let limits =
        Limits { body_max: 0, bodies_max: 0, connections_max: 0, streams_max: 0, body_within };
    HostContext::new(clock, Arc::new(Metrics::new(clock)), Arc::clone(client), limits)
}
