//! The daemon: finds its identity, listens, runs.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use hax_core::bridge::config::{self, OnUnexpected};
use hax_core::discover::{Identity, TlsFiles};
use hax_core::ha::fact::Fact;
use hax_core::machine::{ExitReason, Machine};
use hax_core::node::{self, Node};
use hax_core::wire;
#[cfg(feature = "services")]
use hax_core::with_services::WithServices;

use crate::consul;
use crate::exit::Exit;
use crate::host::clock::{self, Clock};
use crate::host::drive::{HostContext, Sockets, drive};
use crate::host::platform::{Client as _, Platform};
use crate::host::signals::Signals;
use crate::http::{self, CertFiles, HttpAccess, Limits, STREAMS_MAX};
use crate::net::listen;
use crate::observe::journal::{Journal, Journaled};
use crate::observe::metrics::Metrics;
use crate::observe::notify;
use crate::settings::Settings;
#[cfg(feature = "services")]
use crate::settings::values::MotrTransport;
use crate::settings::values::{OnUnexpectedMessage, Switch};
use identify::identify;
#[cfg(feature = "libmotr")]
use identify::services;
use transport::Transport;

pub(crate) mod files;
pub(crate) mod identify;
mod kept_links;
#[cfg(feature = "libmotr")]
mod library;
pub(crate) mod names;
#[cfg(feature = "services")]
pub(crate) mod services;
pub mod transport;

/// The timeout for the body of an HTTP request.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The reason of a failed start or of an early end of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint cannot be used.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// Motr's library does not start.
    #[cfg(feature = "libmotr")]
    #[error("{0} (the endpoint is that of --motr-endpoint, or of Consul's entry of hax)")]
    Motr(crate::libmotr::StopOutcome),
    /// A token or certificate for Consul cannot be used.
    #[error(transparent)]
    Consul(#[from] consul::Error),
    /// A token or certificate for HTTP cannot be used.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The daemon cannot listen at an address.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// The runtime cannot use a socket.
    #[error("cannot wait for connections: {0}")]
    Socket(io::Error),
    /// The daemon cannot listen at its local socket.
    #[cfg(feature = "services")]
    #[error(transparent)]
    Local(#[from] crate::net::local::Error),
    /// A node with such a name cannot have services.
    #[cfg(feature = "services")]
    #[error(
        "{0:?} cannot be the name of a node with services: letters, digits, - _ and ., 64 at most"
    )]
    NodeName(String),
    /// The path of this program is not known.
    #[cfg(feature = "services")]
    #[error("the path of this program: {0}")]
    Program(io::Error),
    /// The system gives no random numbers.
    #[cfg(feature = "services")]
    #[error("/dev/urandom: {0}")]
    Random(io::Error),
}

impl Error {
    /// Returns the exit code of the error.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Transport(_) | Self::Consul(_) | Self::Http(_) => Exit::Usage,
            Self::Listen(_) | Self::Socket(_) => Exit::Listen,
            #[cfg(feature = "services")]
            Self::Local(_) => Exit::Listen,
            #[cfg(feature = "services")]
            Self::NodeName(_) => Exit::Usage,
            #[cfg(feature = "services")]
            Self::Program(_) | Self::Random(_) => Exit::Failure,
            #[cfg(feature = "libmotr")]
            Self::Motr(_) => Exit::Listen,
        }
    }
}

/// Runs the daemon until it is stopped. The first signal stops it, the second ends it at once.
pub async fn run<P: Platform>(settings: &Settings, signals: &Signals) -> Result<Exit, Error> {
    let ended = async {
        signals.end().await;
        tracing::warn!(target: "hax", "a second signal: stopping at once, the work in progress is abandoned");
        Ok(Exit::Interrupted)
    };
    or(ended, find_and_serve::<P>(settings, signals)).await
}

async fn find_and_serve<P: Platform>(
    settings: &Settings,
    signals: &Signals,
) -> Result<Exit, Error> {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(target: "hax", version, consul = %settings.consul.url, "hax starts");
    let lines = settings.to_string();
    lines.lines().for_each(|line| tracing::debug!(target: "hax", "setting: {line}"));
    settings.warnings.iter().for_each(|warning| tracing::warn!(target: "hax", "{warning}"));
    if let Some(name) = &settings.motr.endpoint {
        // This reports missing prerequisites before Consul is asked anything.
        transport::choose(settings, name)?;
    }
    notify::status(&format!("Looking up who this is, at Consul {}", settings.consul.url));
    let clock = Clock::new();
    let daemon: Daemon<'_, P> = Daemon {
        settings,
        signals,
        clock,
        metrics: Arc::new(metrics(settings, clock)),
        consul: Arc::new(P::Client::new(&settings.consul)?),
        generation: clock::wall().0,
        motr_connections_max: files::motr_connections_max(settings),
    };
    #[cfg(feature = "services")]
    if settings.motr.transport == MotrTransport::None {
        return daemon.without_motr().await;
    }
    let reload = async { signals.on_reload(|| daemon.reload(None)).await };
    match or(daemon.find(), reload).await? {
        Some((identity, transport)) => daemon.serve(identity, transport).await,
        None => {
            tracing::info!(target: "hax", "stopped before Consul said who this is");
            Ok(Exit::Clean)
        }
    }
}

/// Creates the metrics of the machine that the settings ask for.
#[cfg(feature = "services")]
fn metrics(settings: &Settings, clock: Clock) -> Metrics {
    use hax_core::services::Services;
    use hax_core::with_services::WithServices;
    match (settings.motr.transport, settings.services.on) {
        (MotrTransport::None, _) => Metrics::of::<Services>(clock),
        (_, true) => Metrics::of::<WithServices<Node>>(clock),
        (_, false) => Metrics::of::<Node>(clock),
    }
}

#[cfg(not(feature = "services"))]
fn metrics(_: &Settings, clock: Clock) -> Metrics {
    Metrics::of::<Node>(clock)
}

struct Daemon<'a, P: Platform> {
    settings: &'a Settings,
    signals: &'a Signals,
    clock: Clock,
    metrics: Arc<Metrics>,
    consul: Arc<P::Client>,
    /// A number that differs between any two runs of the daemon.
    generation: u64,
    /// The limit on connections of Motr, by the settings and by the limit on open files.
    motr_connections_max: usize,
}

impl<P: Platform> Daemon<'_, P> {
    fn context(&self) -> HostContext<P::Client> {
        let body_max = self.settings.http.body_max;
        let least = body_max.saturating_mul(2).max(P::HTTP_BODIES_MAX);
        let limits = Limits {
            body_max,
            bodies_max: self.settings.http.bodies_max.unwrap_or(least),
            connections_max: self.settings.http.connections_max,
            streams_max: STREAMS_MAX,
            body_within: BODY_WITHIN,
        };
        let (metrics, client) = (Arc::clone(&self.metrics), Arc::clone(&self.consul));
        HostContext::new(self.clock, metrics, client, limits)
    }

    fn seed(&self) -> u64 {
        self.generation ^ (u64::from(std::process::id()) << 32)
    }

    /// Finds the identity of this node and its transport to Motr; returns `None` if it was stopped before.
    async fn find(&self) -> Result<Option<(Identity, Transport)>, Error> {
        let found = identify::<P>(self.settings, self.context(), self.signals, &mut |_| {}).await;
        let Some(identity) = found else { return Ok(None) };
        let transport = transport::choose(self.settings, &identity.endpoint)?;
        #[cfg(feature = "libmotr")]
        if let Transport::Library(_) = transport {
            let services =
                services::<P>(&identity, self.context(), self.signals, &mut |_| {}).await;
            return Ok(services.map(|_| (Identity { services, ..identity }, transport)));
        }
        Ok(Some((identity, transport)))
    }

    async fn serve(&self, identity: Identity, transport: Transport) -> Result<Exit, Error> {
        let Identity { node, fid, endpoint, http_host, http_port, .. } = &identity;
        let access = Arc::new(self.access(&identity)?);
        let motr = match &transport {
            Transport::Wire(address) => Some(listen::motr(*address)?),
            #[cfg(feature = "libmotr")]
            Transport::Library(_) => None,
        };
        let found = P::lookup(http_host, *http_port).await;
        let http = listen::http(http_host, *http_port, found)?;
        let bound = http.local_addr().map_err(Error::Socket)?;
        let (listeners, later) = async_channel::unbounded();
        // The send cannot fail: the channel has room and a receiver.
        let _ = listeners.try_send(P::listener(http).map_err(Error::Socket)?);
        let sockets = Sockets {
            motr: motr.map(P::listener).transpose().map_err(Error::Socket)?,
            motr_connections_max: self.motr_connections_max,
            http: later,
            access,
        };
        let scheme = if sockets.access.is_tls() { "https" } else { "http" };
        let http = format!("{scheme}://{http_host}:{http_port}");
        tracing::info!(target: "hax", %node, %fid, motr = %endpoint, %http, "hax listens");
        notify::ready();
        let named = async {
            if self.settings.http.at.is_some() {
                // If the settings give an address, hax listens only there.
                return pending().await;
            }
            names::listen::<P>(node, bound, &listeners).await
        };
        let work = async {
            match transport {
                Transport::Wire(address) => self.wire(&identity, address, sockets).await,
                #[cfg(feature = "libmotr")]
                Transport::Library(library) => self.library(&identity, &library, sockets).await,
            }
        };
        or(work, named).await
    }

    /// Runs a node that speaks the wire protocol itself.
    async fn wire(
        &self,
        identity: &Identity,
        address: SocketAddr,
        sockets: Sockets<P::Listener>,
    ) -> Result<Exit, Error> {
        let mut wire = wire::Config::new(address, self.generation, self.seed());
        wire.known_only = !self.settings.motr.any_process;
        wire.name = identity.endpoint.clone();
        wire.conns_max = self.motr_connections_max;
        let mut context = self.context();
        (context.state, wire.keeping) = kept_links::open(&self.settings.motr, identity).unzip();
        let config = node::Config { bridge: self.bridge(identity), wire };
        #[cfg(feature = "services")]
        if self.settings.services.on {
            let services = self.services(&identity.node)?;
            let context = HostContext { state: context.state, ..self.services_context()? };
            let mut node = WithServices::new(Node::new(config), services);
            return Ok(self.drive(context, sockets, &mut node).await);
        }
        let journal = self.journal(&config);
        let mut node = Journaled { machine: Node::new(config), journal };
        Ok(self.drive(context, sockets, &mut node).await)
    }

    /// Drives a machine until it exits, and returns the reason.
    async fn drive<M: Machine<Fact: 'static>>(
        &self,
        context: HostContext<P::Client>,
        sockets: Sockets<P::Listener>,
        machine: &mut M,
    ) -> Exit {
        let access = Arc::clone(&sockets.access);
        notify::status(machine.status().text);
        let driven = drive::<P, M>(context, self.signals, Some(sockets), machine);
        or(driven, async { self.signals.on_reload(|| self.reload(Some(&access))).await }).await;
        match machine.exit() {
            ExitReason::Stopped => Exit::Clean,
            ExitReason::UnexpectedMessage => Exit::Unexpected,
            ExitReason::DrainTimedOut => Exit::Failure,
        }
    }

    /// Opens the journal, if the settings name one. A journal that cannot be opened does not stop the daemon.
    fn journal(&self, config: &node::Config) -> Option<Journal> {
        let path = self.settings.journal.path.as_deref()?;
        match Journal::begin(path, self.settings.journal.max as u64, config) {
            Ok(journal) => {
                let path = journal.path.display();
                tracing::info!(target: "hax", "all that comes in is written to the journal {path}");
                journal.outlive_panics();
                Some(journal)
            }
            Err(why) => {
                self.metrics.record(&Fact::JournalEnded { why: why.to_string().into() });
                None
            }
        }
    }

    /// Returns the access rules of the HTTP port. Like the old daemon, hax serves plain HTTP if Consul names
    /// a certificate that does not exist.
    fn access(&self, identity: &Identity) -> Result<HttpAccess, http::Error> {
        let files = match tls_choice(self.settings, identity) {
            TlsChoice::Plain => None,
            TlsChoice::Files(files) => Some(files),
            TlsChoice::Missing(tls) => {
                tracing::warn!(
                    target: "hax",
                    "HTTP is served without TLS: the key ssl/hax asks for it, but {} or {} is missing",
                    tls.cert, tls.key
                );
                None
            }
        };
        HttpAccess::new(files, self.settings.http.token.clone())
    }

    /// Reads certificates, keys and tokens again.
    fn reload(&self, access: Option<&HttpAccess>) {
        if access.is_some() {
            notify::reloading();
        }
        let consul = self.consul.reload().into_iter().map(|why| why.to_string());
        let http = access.map(HttpAccess::reload).unwrap_or_default();
        let wrong: Vec<_> = consul.chain(http.iter().map(ToString::to_string)).collect();
        if wrong.is_empty() {
            tracing::info!(target: "hax", "certificates, keys and tokens are read again");
        } else {
            let why = wrong.join("; ");
            tracing::warn!(
                target: "hax",
                "not reloaded, the old contents stay in use: {why}; all other files are reloaded"
            );
        }
        if access.is_some() {
            notify::ready();
        }
    }

    fn bridge(&self, identity: &Identity) -> config::Config {
        let settings = self.settings;
        let mut config = config::Config::new(identity.fid, &identity.node, self.seed());
        config.on_unexpected = match settings.bridge.on_unexpected_message {
            OnUnexpectedMessage::Panic => OnUnexpected::Panic,
            OnUnexpectedMessage::Ignore => OnUnexpected::Ignore,
        };
        config.elect = settings.bridge.elect;
        config.time.call = settings.consul.timeout;
        config.time.link_grace = settings.motr.link_grace;
        config.time.silence = settings.bridge.silence;
        config.bq = settings.bridge.bq == Switch::On;
        config.time.filesystem = settings.bridge.filesystem_stats;
        config.time.bytecount = settings.bridge.byte_counts;
        config.time.drain = settings.bridge.drain;
        config.limit.answer_bytes = settings.consul.answer_max;
        config.limit.body_bytes = settings.http.body_max;
        config
    }
}

/// The TLS settings of the HTTP server.
pub(crate) enum TlsChoice<'a> {
    Plain,
    Files(CertFiles),
    /// Consul asks for TLS with files that do not exist.
    Missing(&'a TlsFiles),
}

/// Returns the TLS settings, by hax's settings or else by Consul.
pub(crate) fn tls_choice<'a>(settings: &Settings, identity: &'a Identity) -> TlsChoice<'a> {
    if let Some((cert, key)) = settings.http.cert.clone().zip(settings.http.key.clone()) {
        return TlsChoice::Files(CertFiles { cert, key });
    }
    let Some(tls) = &identity.http_tls else { return TlsChoice::Plain };
    let files = CertFiles { cert: (*tls.cert).into(), key: (*tls.key).into() };
    if files.cert.exists() && files.key.exists() {
        TlsChoice::Files(files)
    } else {
        TlsChoice::Missing(tls)
    }
}
