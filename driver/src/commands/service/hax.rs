//! The hax that is asked: over its local socket, or over HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::Method;
use rustls::ClientConfig;
use serde_json::Value;

use crate::consul::Address;
use crate::host::platform::{Platform, Request};
use crate::host::timer::within;
use crate::settings::secret::{Secret, SecretSource};
use crate::settings::services::SOCKET;
use crate::settings::values::HostPort;
use crate::tls;

/// The maximum length of a response, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// The time limit of an answer besides the wait that is asked for.
const WITHIN: Duration = Duration::from_secs(15);

/// Where the asked hax is.
#[derive(Clone, Debug, Args)]
pub struct HaxArgs {
    /// The local socket of the hax that is asked.
    #[arg(long, env = "HAX_HTTP_SOCKET", value_name = "PATH", default_value = SOCKET, global = true)]
    pub http_socket: PathBuf,
    /// Ask the hax at this address instead, which may be on another node.
    #[arg(long, env = "HAX_SERVICE_HTTP", value_name = "ADDRESS:PORT", global = true)]
    pub http: Option<HostPort>,
    /// File with the token of that hax; changes over the network need it.
    #[arg(long, env = "HAX_HTTP_TOKEN_FILE", value_name = "FILE", global = true)]
    pub http_token_file: Option<PathBuf>,
    /// The certificate of that hax, PEM: speak HTTPS with it.
    #[arg(long, env = "HAX_HTTP_CERT", value_name = "FILE", global = true)]
    pub http_cert: Option<PathBuf>,
}

/// The asked hax.
pub(super) struct Hax {
    address: Address,
    authority: String,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

/// An answer: the status, and its JSON.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Hax {
    pub(super) fn new(args: &HaxArgs) -> anyhow::Result<Self> {
        let token =
            args.http_token_file.clone().map(|file| SecretSource::File("--http-token-file", file));
        let token = token.map(|source| source.read()).transpose()?;
        let Some(http) = &args.http else {
            return Ok(Self { token, ..Self::at(args.http_socket.clone()) });
        };
        let authority = http.to_string();
        let tls = args.http_cert.as_ref().map(|cert| tls::client_of(cert)).transpose();
        let tls = tls.context("--http-cert")?;
        let address = match &tls {
            None => Address::Tcp(authority.clone()),
            Some(_) => {
                let name = http.host.clone().try_into().with_context(|| http.host.clone())?;
                Address::Tls(authority.clone(), name)
            }
        };
        Ok(Self { address, authority, tls, token })
    }

    /// Returns the hax behind a local socket.
    pub(super) fn at(socket: PathBuf) -> Self {
        let address = Address::Unix(socket);
        Self { address, authority: "localhost".into(), tls: None, token: None }
    }

    /// Returns the place of the hax, for errors.
    pub(super) fn place(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(at) | Address::Tls(at, _) => at.clone(),
        }
    }

    /// Sends a request and returns the answer, whatever its status.
    pub(super) async fn ask<P: Platform>(
        &self,
        (method, target): (Method, &str),
        body: Bytes,
        wait: Duration,
    ) -> anyhow::Result<(u16, Bytes)> {
        let (authority, token) = (&*self.authority, self.token.as_ref());
        let request = Request { authority, method, target, body, token, answer_max: ANSWER_MAX };
        let within_ = wait + WITHIN;
        let asked = within::<P, _>(within_, P::ask(&self.address, self.tls.clone(), request));
        let place = self.place();
        match asked.await {
            Some(answer) => answer.with_context(|| {
                format!("no hax answers at {place}; does it run with --services on (systemctl status hax), and may this user use it?")
            }),
            None => bail!("the hax at {place} does not answer in {} s", within_.as_secs()),
        }
    }

    /// Reads a path. An answer without success is an error.
    pub(super) async fn get<P: Platform>(&self, target: &str) -> anyhow::Result<Value> {
        let said = self.said::<P>((Method::GET, target), Bytes::new(), Duration::ZERO).await?;
        if said.status == 200 { Ok(said.body) } else { bail!(said.reason(&self.place())) }
    }

    /// Sends a request and returns its JSON.
    pub(super) async fn said<P: Platform>(
        &self,
        asked: (Method, &str),
        body: Bytes,
        wait: Duration,
    ) -> anyhow::Result<Said> {
        let (status, body) = self.ask::<P>(asked, body, wait).await?;
        let value = serde_json::from_slice(&body);
        let body = value.unwrap_or_else(|_| Value::from(&*String::from_utf8_lossy(&body)));
        Ok(Said { status, body })
    }
}

impl Said {
    /// Returns the reason of an answer without success.
    pub(super) fn reason(&self, place: &str) -> String {
        let message = self.body["error_message"].as_str().or_else(|| self.body["reason"].as_str());
        match (self.status, message) {
            (401, _) => format!("the hax at {place} demands its token: give --http-token-file"),
            (404, None) => {
                format!("what answers at {place} has no services: hax run --services on")
            }
            (_, Some(why)) => why.to_owned(),
            (status, None) => format!("the hax at {place} says {status}: {}", self.body),
        }
    }
}
