//! The interface to a runtime: sockets, timers, tasks, signals, and an HTTP client.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
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

/// One runtime. All its tasks run on one thread; blocking work gets threads of its own.
pub trait Platform: Timer + Sized {
    /// The runtime's client of Consul.
    type Client: Client;
    /// A listener that is registered with the runtime.
    type Listener: AsFd + 'static;
    /// A listener at a unix socket that is registered with the runtime.
    type LocalListener: 'static;
    /// A TCP connection that is registered with the runtime.
    type Socket: Socket + 'static;
    /// A task of the runtime.
    type Task<T: 'static>: Task<T>;

    /// The default maximum of all bodies of requests to the HTTP port together, in bytes.
    const HTTP_BODIES_MAX: usize;

    /// Runs a program on the runtime.
    fn block_on<T>(program: impl Future<Output = T>) -> io::Result<T>;

    /// Starts a task.
    fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Self::Task<T>;

    /// Begins to handle SIGTERM and SIGINT, and with `reload` SIGHUP.
    fn signals(reload: bool) -> io::Result<Signals>;

    /// Returns all addresses of a host.
    fn lookup(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;

    /// Registers a non-blocking listener.
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;

    /// Registers a non-blocking listener at a unix socket.
    fn local_listener(listener: UnixListener) -> io::Result<Self::LocalListener>;

    /// Accepts the next connection at a unix socket; returns its bytes.
    fn accept_local(
        listener: &Self::LocalListener,
    ) -> impl Future<Output = io::Result<Box<dyn Stream>>>;

    /// Registers a non-blocking connection, which may still be connecting.
    fn socket(socket: TcpStream) -> io::Result<Self::Socket>;

    /// Accepts the next connection; returns it with its peer's address.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>>;

    /// Returns the bytes of a connection to the HTTP port, after the TLS handshake if there is one.
    fn stream(
        socket: Self::Socket,
        tls: Option<Arc<ServerConfig>>,
    ) -> impl Future<Output = io::Result<Box<dyn Stream>>>;

    /// Sends one request on a connection of its own; returns the status and the body of the response.
    fn ask(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        request: Request<'_>,
    ) -> impl Future<Output = anyhow::Result<(u16, Bytes)>>;
}

/// A running task, which completes with its result. Dropping it ends the task.
pub trait Task<T>: Future<Output = T> {
    /// Lets the task run to its end.
    fn detach(self);

    /// Returns whether the task has ended.
    fn is_finished(&self) -> bool;
}

/// A client of one Consul agent.
pub trait Client: Sized + 'static {
    /// Creates a client with these settings; it does not connect yet.
    fn new(consul: &ConsulSettings) -> Result<Self, consul::Error>;

    /// Reads the token and the certificates again, independently of each other. Valid values replace the old
    /// ones. For invalid values the old ones stay, and each error is returned.
    fn reload(&self) -> Vec<consul::Error>;

    /// Returns the current problem with Consul, if there is one, with text that says what to do.
    fn problem(&self) -> Option<String>;

    /// Reserves room for this number of blocking queries beside the short requests. The default does nothing,
    /// which suits a client with a connection for each request.
    fn reserve(&self, _blocking: usize) {}

    /// Sends a request and reads the whole response. The target is a path and a query. Dropping the future
    /// cancels the request.
    fn send(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        body_max: usize,
    ) -> impl Future<Output = Result<Answer, Unanswered>>;
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The value of `Host`.
    pub authority: &'a str,
    /// The method.
    pub method: http::Method,
    /// A path and a query.
    pub target: &'a str,
    /// The body.
    pub body: Bytes,
    /// The token to send.
    pub token: Option<&'a Secret>,
    /// The maximum length of the response's body.
    pub answer_max: usize,
}
