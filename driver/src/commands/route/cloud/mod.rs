//! The event handler for routes in the clouds.
//!
//! The core has the work of an event as requests and replies. This module obtains the credentials, signs the
//! requests, carries them, and repeats those whose failure may pass, within the time of the handler.

mod aws;
mod azure;
mod gcp;
mod http;
mod patience;
mod sign;
mod tls;
mod url;

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use hax_core::route::cloud::http::{Ask, Place, REPLY_MAX, Reply, SHORT_REPLY_MAX};
use hax_core::route::cloud::{self, Step};
use hax_core::route::job::{Done, Job, Outcome, Token};
use hax_core::route::provider::Provider;

use crate::host::clock;
use crate::settings::secret::Secret;
use http::{Failure, Http};
use patience::Patience;
use url::Base;

/// The time limit of one request to a cloud's API.
const WITHIN: Duration = Duration::from_secs(10);

/// The time limit of one request to the metadata service, which is on the same host.
const METADATA_WITHIN: Duration = Duration::from_secs(2);

/// The maximum number of attempts of a request.
const ATTEMPTS: u32 = 7;

/// The maximum number of attempts at the metadata service. Outside of a cloud there is none.
const METADATA_ATTEMPTS: u32 = 3;

/// The maximum length of a token that is given to the server. The server reads 16 KiB of a result.
const TOKEN_MAX: usize = 12 << 10;

/// Carries out a job. A write counts as done only after the route has been read back. The result of a failure
/// has the token, too.
pub(super) fn work(job: &Job) -> Done {
    let mut client = Client::new(job);
    let worked = client.work(job);
    let mut done = worked.unwrap_or_else(|why| Done::new(Outcome::Failed, format!("{why:#}")));
    done.detail = client.without_secrets(&done.detail);
    done.token = client.obtained.filter(|token| token.value.len() <= TOKEN_MAX);
    done
}

/// Returns an environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The authentication of requests.
#[derive(Debug)]
enum Login {
    /// Each request is signed.
    Aws(aws::Login),
    /// Each request has the token.
    Bearer(Secret),
}

/// The carrier of a job's requests.
#[derive(Debug)]
struct Client {
    provider: Provider,
    http: Http,
    patience: Patience,
    /// The token of an earlier handler, until it is used or refused.
    kept: Option<Token>,
    /// The token that this handler obtained.
    obtained: Option<Token>,
    /// Whether the current login is by the token of an earlier handler.
    is_kept: bool,
    secrets: Vec<Box<str>>,
}

impl Client {
    fn new(job: &Job) -> Self {
        let within = job.within_ms.map_or_else(|| job.provider.deadline(), Duration::from_millis);
        Self {
            provider: job.provider,
            http: Http::default(),
            patience: Patience::new(within),
            kept: job.token.clone(),
            obtained: None,
            is_kept: false,
            secrets: Vec::new(),
        }
    }

    fn work(&mut self, job: &Job) -> anyhow::Result<Done> {
        let base = Base::api(job)?;
        let random = u128::from_ne_bytes(sign::random()?);
        let mut work = cloud::work(job, base.text(), random).map_err(anyhow::Error::msg)?;
        let mut login = self.login(job)?;
        let mut step = work.begin();
        loop {
            let ask = match step {
                Step::Over(done) => return Ok(done),
                Step::Ask(ask) => ask,
            };
            self.patience.pause(ask.after).with_context(|| ask.what.to_owned())?;
            let (reply, attempts) = match ask.place {
                Place::Api => self.ask_api(job, &base, &ask, &mut login)?,
                Place::Metadata | Place::Login => (self.ask_metadata(&ask)?, 1),
            };
            step = work.on_reply(&reply).map_err(|why| match attempts {
                1 => anyhow!(why),
                _ => anyhow!("{why}; this was attempt {attempts}"),
            })?;
        }
    }

    /// Returns the authentication: by the token of an earlier handler, or by a new login.
    fn login(&mut self, job: &Job) -> anyhow::Result<Login> {
        let kept = self.kept.take();
        self.is_kept = kept.is_some();
        match job.provider {
            Provider::Aws => return Ok(Login::Aws(aws::Login::new(self, job, kept)?)),
            Provider::Linux | Provider::Consul | Provider::Azure(_) | Provider::Gcp => {}
        }
        let token = match kept {
            Some(token) => token.value,
            None => self.token(job)?,
        };
        self.is_secret(&token);
        Ok(Login::Bearer(Secret::new(&token).context("the token")?))
    }

    /// Obtains a token, and keeps it for the next handlers.
    fn token(&mut self, job: &Job) -> anyhow::Result<Box<str>> {
        let (token, lifetime) = match job.provider {
            Provider::Azure(cloud) => azure::token(self, job, cloud)?,
            Provider::Gcp => gcp::token(self)?,
            Provider::Linux | Provider::Consul | Provider::Aws => {
                bail!("{} has no tokens", job.provider.name())
            }
        };
        let now = clock::wall().0 / 1_000_000_000;
        let expires = now.saturating_add(lifetime);
        self.obtained = Some(Token { value: token.as_str().into(), expires });
        Ok(token.into())
    }

    /// Sends a request to the cloud's API. If the cloud does not know the token of an earlier handler, the
    /// request is sent again after a new login.
    fn ask_api(
        &mut self,
        job: &Job,
        base: &Base,
        ask: &Ask,
        login: &mut Login,
    ) -> anyhow::Result<(Reply, u32)> {
        loop {
            let (reply, attempts) = self.repeat(ask, |client, ask| {
                let headers = match login {
                    Login::Aws(login) => login.headers(base, ask),
                    Login::Bearer(token) => {
                        vec![("authorization", format!("Bearer {}", token.expose()))]
                    }
                };
                client.once(base, ask, &headers)
            })?;
            if !(self.is_kept && cloud::is_unknown(self.provider, &reply)) {
                return Ok((reply, attempts));
            }
            *login = self.login(job)?;
        }
    }

    /// Sends a request to the metadata service.
    fn ask_metadata(&mut self, ask: &Ask) -> anyhow::Result<Reply> {
        self.ask_at(&Base::metadata(self.provider)?, ask)
    }

    /// Sends a request without authentication.
    fn ask_at(&mut self, base: &Base, ask: &Ask) -> anyhow::Result<Reply> {
        Ok(self.repeat(ask, |client, ask| client.once(base, ask, &[]))?.0)
    }

    /// Sends a request until it has a reply other than a failure that may pass. Returns the reply and the
    /// number of attempts.
    fn repeat(
        &mut self,
        ask: &Ask,
        mut once: impl FnMut(&mut Self, &Ask) -> anyhow::Result<Result<Reply, Failure>>,
    ) -> anyhow::Result<(Reply, u32)> {
        let attempts = match ask.place {
            Place::Metadata => METADATA_ATTEMPTS,
            Place::Api | Place::Login => ATTEMPTS,
        };
        for attempt in 1.. {
            let reply = once(self, ask)?;
            let after = match &reply {
                Ok(reply) if !cloud::may_pass(self.provider, reply) => {
                    return Ok((reply.clone(), attempt));
                }
                Ok(reply) => reply.retry_after().unwrap_or_default(),
                Err(Failure { may_pass: true, .. }) => Duration::ZERO,
                Err(Failure { may_pass: false, .. }) => Duration::MAX,
            };
            if attempt < attempts && self.patience.back_off(attempt, after)? {
                continue;
            }
            return match reply {
                Ok(reply) => Ok((reply, attempt)),
                Err(Failure { why, .. }) if attempt == 1 => bail!("{}: {why}", ask.what),
                Err(Failure { why, .. }) => {
                    bail!("{}: {why}; this was attempt {attempt}", ask.what)
                }
            };
        }
        bail!("{}: it was attempted too often", ask.what)
    }

    /// Sends a request once.
    fn once(
        &mut self,
        base: &Base,
        ask: &Ask,
        headers: &[(&str, String)],
    ) -> anyhow::Result<Result<Reply, Failure>> {
        let left = self.patience.left();
        let (max, within) = match ask.place {
            Place::Api if ask.waits => (REPLY_MAX, left),
            Place::Api => (REPLY_MAX, WITHIN),
            Place::Metadata => (SHORT_REPLY_MAX, METADATA_WITHIN),
            Place::Login => (SHORT_REPLY_MAX, WITHIN),
        };
        if left.is_zero() {
            bail!("{}: the time of the event handler is over", ask.what);
        }
        self.http.send(base, ask, headers, (max, within.min(left)))
    }

    /// Adds a text that must not be in a result.
    fn is_secret(&mut self, text: &str) {
        if !text.is_empty() {
            self.secrets.push(text.into());
        }
    }

    /// Returns a text without secrets. A cloud's error may repeat a part of the request.
    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(&**secret, "…"))
    }
}
