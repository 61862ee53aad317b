//! The daemon: finds out who it is, listens, runs.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hax_core::base::config::{self, OnUnexpected};
use hax_core::discover::{self, Discovery, Identity};
use hax_core::node::{self, ExitReason, Node};
use hax_core::wire;
use hax_driver::clock::{self, Clock};
use hax_driver::exit::Exit;
use hax_driver::facts::Counters;
use hax_driver::notify;
use hax_driver::settings::{self, EndpointError, Settings};
use hax_driver::values::OnUnexpectedMessage;

use crate::host::{Agent, Host, Sockets};
use crate::http::Limits;
use crate::listen;
use crate::signals::Signals;

/// How long the body of an HTTP request may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Why the daemon ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A socket cannot be had.
    #[error(transparent)]
    Listen(#[from] listen::Error),
}

impl Error {
    /// The exit code that stands for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Endpoint(_) => Exit::Usage,
            Self::Listen(_) => Exit::Listen,
        }
    }
}

/// Runs until it is stopped. The first signal is a stop, the second an end at once.
pub async fn run(settings: &Settings, signals: &Signals) -> Result<Exit, Error> {
    let ended = async {
        signals.end().await;
        tracing::warn!(target: "hax", "a second signal: what was begun is left as it is");
        Ok(Exit::Interrupted)
    };
    or(ended, find_and_serve(settings, signals)).await
}

async fn find_and_serve(settings: &Settings, signals: &Signals) -> Result<Exit, Error> {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(target: "hax", version, consul = %settings.consul, "hax starts");
    tracing::debug!(target: "hax", "settings:\n{settings}");
    let daemon = Daemon {
        settings,
        signals,
        clock: Clock::new(),
        counters: Arc::new(Counters::default()),
        generation: clock::wall().0,
    };
    match daemon.discover().await {
        Some(identity) => daemon.serve(identity).await,
        None => Ok(Exit::Clean),
    }
}

struct Daemon<'a> {
    settings: &'a Settings,
    signals: &'a Signals,
    clock: Clock,
    counters: Arc<Counters>,
    /// No two lives of a daemon have the same one.
    generation: u64,
}

impl Daemon<'_> {
    fn host(&self) -> Host {
        let agent = Agent {
            authority: self.settings.consul.authority().into(),
            token: self.settings.consul_token.clone(),
        };
        let limits = Limits {
            body_max: self.settings.http_body_max,
            connections_max: self.settings.http_connections_max,
            body_within: BODY_WITHIN,
        };
        Host::new(self.clock, Arc::clone(&self.counters), &agent, limits)
    }

    fn seed(&self) -> u64 {
        self.generation ^ (u64::from(std::process::id()) << 32)
    }

    /// Who this is, by flags and Consul; `None` if it was stopped before it knew.
    async fn discover(&self) -> Option<Identity> {
        let settings = self.settings;
        let http = settings.http.as_ref().map(|http| (http.host.as_str().into(), http.port));
        let mut discovery = Discovery::new(discover::Config {
            node: settings.node.as_deref().map(Into::into),
            fid: settings.fid,
            motr_endpoint: settings.motr_endpoint.as_deref().map(Into::into),
            http,
            seed: self.seed(),
        });
        let machine = |now, input, out: &mut Vec<_>| discovery.handle(now, input, out);
        self.host().drive(self.signals, None, machine).await;
        discovery.into_result().ok()
    }

    async fn serve(&self, identity: Identity) -> Result<Exit, Error> {
        let Identity { node, fid, endpoint, http_host, http_port, .. } = &identity;
        let address = settings::endpoint(endpoint)?;
        let sockets = Sockets {
            motr: listen::motr(address)?,
            motr_connections_max: self.settings.motr_connections_max,
            http: listen::http(http_host, *http_port).await?,
        };
        let http = format!("{http_host}:{http_port}");
        tracing::info!(target: "hax", %node, %fid, motr = %endpoint, %http, "hax listens");
        notify::ready();
        let mut wire = wire::Config::new(address, self.generation, self.seed());
        wire.name = endpoint.clone();
        wire.conns_max = self.settings.motr_connections_max;
        let mut node = Node::new(node::Config { bridge: self.bridge(&identity), wire });
        let machine = |now, input, out: &mut Vec<_>| node.handle(now, input, out);
        self.host().drive(self.signals, Some(sockets), machine).await;
        Ok(match node.exit() {
            ExitReason::Stopped => Exit::Clean,
            ExitReason::UnexpectedMessage => Exit::Unexpected,
        })
    }

    fn bridge(&self, identity: &Identity) -> config::Config {
        let settings = self.settings;
        let mut config = config::Config::new(identity.fid, &identity.node, self.seed());
        config.on_unexpected = match settings.on_unexpected_message {
            OnUnexpectedMessage::Panic => OnUnexpected::Panic,
            OnUnexpectedMessage::Ignore => OnUnexpected::Ignore,
        };
        config.time.call = settings.consul_timeout;
        config.time.link_grace = settings.link_grace;
        config.time.drain = settings.drain;
        config.limit.answer_bytes = settings.consul_answer_max;
        config.limit.body_bytes = settings.http_body_max;
        config
    }
}
