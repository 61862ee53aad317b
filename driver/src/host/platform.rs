//! What a runtime brings: sockets, timers, tasks, signals, and a client of HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use hax_core::consul::port::{Answer, Method, Unanswered};
use rustls::{ClientConfig, ServerConfig};

use super::signals::Signals;
use super::timer::Timer;
use crate::consul::{self, Address};
use crate::http::Stream;
use crate::net::Socket;
use crate::settings::consul::ConsulSettings;
use crate::settings::secret::Secret;

/// One runtime. All that it runs is on one thread; what blocks it gives threads of its own.
pub trait Platform: Timer + Sized {
    /// Its client of Consul.
    type Client: Client;
    /// A listener that is known to it.
    type Listener: AsFd + 'static;
    /// A TCP connection that is known to it.
    type Socket: Socket + 'static;
    /// A task that it runs.
    type Task<T: 'static>: Task<T>;

    /// What all bodies of requests to the HTTP port may have together, in bytes, if nothing is set.
    const HTTP_BODIES_MAX: usize;

    /// Runs a program on it.
    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T>;

    /// Runs a task beside what runs already.
    fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Self::Task<T>;

    /// Begins to take SIGTERM and SIGINT, and with `reload` SIGHUP.
    fn signals(reload: bool) -> io::Result<Signals>;

    /// All addresses of a host.
    fn lookup(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;

    /// Takes over a listener that does not block.
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;

    /// Takes over a connection, or one that is being made, that does not block.
    fn socket(socket: TcpStream) -> io::Result<Self::Socket>;

    /// The next connection, and whose it is.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>>;

    /// The bytes of a connection to the HTTP port, after TLS has begun if it is to.
    fn stream(
        socket: Self::Socket,
        tls: Option<Arc<ServerConfig>>,
    ) -> impl Future<Output = io::Result<Box<dyn Stream>>>;

    /// Sends one request on a connection of its own; status and body of what is answered.
    fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> impl Future<Output = anyhow::Result<(u16, Bytes)>>;
}

/// A task that runs, and completes with what comes of it. Dropping it ends it.
pub trait Task<T>: Future<Output = T> {
    /// Lets it run to its end.
    fn detach(self);

    /// Whether it has come to its end.
    fn is_finished(&self) -> bool;
}

/// A client of one Consul agent.
pub trait Client: Sized + 'static {
    /// A client with these settings; no connection is made yet.
    fn new(consul: &ConsulSettings) -> Result<Self, consul::Error>;

    /// Reads token and certificates again, each by itself: what can be used is, what cannot stays as it
    /// was, and each that cannot is named.
    fn reload(&self) -> Vec<consul::Error>;

    /// What is wrong on the way to Consul, if anything is, in words that say what to do.
    fn trouble(&self) -> Option<String>;

    /// Has room for so many blocking queries beside what is answered at once. A client that opens a connection
    /// for each request has.
    fn reserve(&self, _blocking: usize) {}

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
