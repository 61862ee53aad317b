//! What a runtime brings to the commands of the program.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use hax_core::base::time::{Next, Now};
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_core::node::{Input, Output};
use hax_core::wire::net;
use rustls::ClientConfig;

use crate::consul::{self, Address};
use crate::host::clock::Clock;
use crate::host::run::Tick as _;
use crate::host::signals::Signals;
use crate::http::{Door, Limits};
use crate::observe::metrics::Metrics;
use crate::settings::consul::ConsulSettings;
use crate::settings::secret::Secret;

/// How many inputs may wait for a machine. A full inbox holds back peers and answers 503.
const INBOX: usize = 512;

/// Sockets, timers, signals and HTTP, as one runtime has them.
pub trait Platform: Sized + 'static {
    /// Its client of Consul.
    type Client: Client;
    /// Its connections of the wire.
    type Net<I: Send + 'static>: Net<I, Listener = Self::Listener>;
    /// A listener that is known to it.
    type Listener;

    /// What all bodies of requests to the HTTP port may have together, in bytes, if nothing is set.
    const HTTP_BODIES_MAX: usize;

    /// Runs a program on it.
    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T>;

    /// Begins to take SIGTERM and SIGINT, and with `reload` SIGHUP.
    fn signals(reload: bool) -> io::Result<Signals>;

    /// Completes after this time.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Completes then or later.
    fn sleep_until(at: Instant) -> impl Future<Output = ()>;

    /// All addresses of a host.
    fn lookup(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;

    /// Takes over a listener that does not block.
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;

    /// Drives a machine until it exits; the first signal is its stop. With `sockets` it is served, and
    /// what it left to be written is written before this completes.
    fn drive(
        stage: Stage<Self::Client>,
        signals: &Signals,
        sockets: Option<Sockets<Self::Listener>>,
        machine: impl FnMut(Now, Input, &mut Vec<Output>) -> Next,
    ) -> impl Future<Output = ()>;

    /// Sends one request on a connection of its own; status and body of what is answered.
    fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> impl Future<Output = anyhow::Result<(u16, Bytes)>>;
}

/// A client of one Consul agent.
pub trait Client: Sized {
    /// A client with these settings; no connection is made yet.
    fn new(consul: &ConsulSettings) -> Result<Self, consul::Error>;

    /// Reads token and certificates again, each by itself: what can be used is, what cannot stays as it
    /// was, and each that cannot is named.
    fn reload(&self) -> Vec<consul::Error>;

    /// What is wrong on the way to Consul, if anything is, in words that say what to do.
    fn trouble(&self) -> Option<String>;

    /// Sends a request and takes the whole of what is answered. The target is a path and a query. A
    /// future that is dropped gives the request up.
    fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> impl Future<Output = Result<Answer, Unanswered>>;
}

/// The connections of one endpoint of the wire.
pub trait Net<I>: Sized {
    /// A listener that is known to it.
    type Listener;

    /// No connections. What happens is put in `inbox`, as `wrap` makes it an input.
    fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self;

    /// Starts what the core asks for.
    fn execute(&self, command: net::Command);

    /// Accepts connections for as long as it is polled, `max` at a time; who comes when all are taken
    /// waits in the system's backlog.
    fn listen(&self, listener: &Self::Listener, max: usize) -> impl Future<Output = ()>;

    /// Closes all connections as [`net::Command::Close`] does and makes no new ones; waits for the
    /// peers' part of it for `within` at most. Whoever waits in the backlog of `listener` is taken in
    /// before, and hears the same end: closing a listener resets those.
    fn shut_down(
        &self,
        listener: Option<Self::Listener>,
        within: Duration,
    ) -> impl Future<Output = ()>;
}

/// What one machine is driven with.
pub struct Stage<C> {
    /// The time.
    pub clock: Clock,
    /// What is counted and timed.
    pub metrics: Arc<Metrics>,
    /// Consul.
    pub client: Arc<C>,
    /// What HTTP clients may.
    pub limits: Limits,
    /// What the machine is told, by whom and to whom; bounded.
    pub inbox: (Sender<Input>, Receiver<Input>),
}

impl<C> Stage<C> {
    /// A stage with an empty inbox.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, client: Arc<C>, limits: Limits) -> Self {
        Self { clock, metrics, client, limits, inbox: crate::host::run::inbox(INBOX) }
    }

    /// Lets the machine run, from any thread. A full inbox does that too.
    pub fn waker(&self) -> impl Fn() + Send + use<C> {
        let sender = self.inbox.0.clone();
        move || drop(sender.try_send(Input::TICK))
    }
}

/// The sockets of a node, bound already: a port that is in use is found before anything is promised.
pub struct Sockets<L> {
    /// Motr's processes connect here, where hax speaks the wire.
    pub motr: Option<L>,
    /// How many may be connected.
    pub motr_connections_max: usize,
    /// HTTP is served here, and wherever else a listener is made later.
    pub http: Receiver<L>,
    /// To whom.
    pub door: Arc<Door>,
}

/// One HTTP request without a body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The value of `Host`.
    pub authority: &'a str,
    /// A path and a query.
    pub target: &'a str,
    /// The token to show.
    pub token: Option<&'a Secret>,
    /// The longest answer that is read.
    pub answer_max: usize,
}

/// What comes of `done`, if that is in time.
pub(crate) async fn within<P: Platform, T>(
    time: Duration,
    done: impl Future<Output = T>,
) -> Option<T> {
    or(async { Some(done.await) }, async {
        P::sleep(time).await;
        None
    })
    .await
}
