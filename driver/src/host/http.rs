//! The HTTP port: connections are accepted here and served by [`Server`]. [`port::Request`] in,
//! [`port::Response`] out.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use hax_core::http::port;
use hax_core::http::stream::{Closed, Command};
use socket2::SockRef;

use super::platform::{Platform, Task as _};
use super::step_budget::StepBudget;
use crate::http::{HttpAccess, Limits, Server};
use crate::observe::metrics::Metrics;

/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The requests that wait for the core's response.
pub struct Http<P, I> {
    server: Rc<Server<I>>,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform, I: 'static> Http<P, I> {
    /// Creates a port without requests. `wrap` converts requests into inputs, which are put in `inbox`.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let server = Server::new(inbox, wrap, limits, metrics, |time| Box::pin(P::sleep(time)));
        Self { server: Rc::new(server), platform: PhantomData }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        self.server.pending().respond(response);
    }

    /// Begins, continues or ends a streaming response.
    pub fn stream(&self, command: Command) {
        self.server.pending().stream(command);
    }

    /// Returns the receiver of the notifications that a stream has been closed.
    pub fn closed(&self) -> Receiver<Closed> {
        self.server.pending().closed()
    }

    /// Answers all pending requests with 503, since the core will not, and ends the open streams.
    pub fn refuse_pending(&self) {
        self.server.pending().refuse_pending();
    }

    /// [Serves](Self::serve) all listeners from `listeners`, until `stop` is closed.
    pub fn serve_all(
        &self,
        listeners: Receiver<P::Listener>,
        access: Arc<HttpAccess>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<P, I> {
        let server = Rc::clone(&self.server);
        async move {
            let mut each = Vec::new();
            let all = async {
                while let Ok(listener) = listeners.recv().await {
                    let (server, access) = (Rc::clone(&server), Arc::clone(&access));
                    each.push(P::spawn(serve::<P, I>(server, listener, access, stop.clone())));
                }
                pending().await
            };
            or(closed(&stop), all).await;
            for served in each {
                served.await;
            }
        }
    }

    /// Serves the clients of a local socket, until `stop` is closed; then completes the current requests.
    #[cfg(feature = "services")]
    pub fn serve_local(
        &self,
        listener: P::LocalListener,
        of: LocalClients,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<P, I> {
        let server = Rc::clone(&self.server);
        let access = Arc::new(HttpAccess::open());
        let until = stop.clone();
        serve_each::<P, _>(until, async move || {
            let stream = P::accept_local(&listener).await?;
            let slot = match of {
                LocalClients::Operators => server.enter_local(),
                LocalClients::Instances => server.enter_instance(),
            };
            let Some(slot) = slot else { return Ok(None) };
            let (server, access, stop) = (Rc::clone(&server), Arc::clone(&access), stop.clone());
            Ok(Some(async move {
                server.serve(&access, slot, stop, async { Ok(stream) }).await;
            }))
        })
    }

    /// Serves the clients that `access` admits, from `listener`, until `stop` is closed; then completes the
    /// current requests and closes.
    pub fn serve(
        &self,
        listener: P::Listener,
        access: Arc<HttpAccess>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<P, I> {
        serve::<P, I>(Rc::clone(&self.server), listener, access, stop)
    }
}

/// Who connects to a local socket.
#[cfg(feature = "services")]
#[derive(Clone, Copy, Debug)]
pub enum LocalClients {
    /// Those whom the operator admits. The system has checked who they are.
    Operators,
    /// Service instances, which prove themselves in each request.
    Instances,
}

async fn closed(stop: &Receiver<Infallible>) {
    let Err(_closed) = stop.recv().await;
}

async fn serve<P: Platform, I: 'static>(
    server: Rc<Server<I>>,
    listener: P::Listener,
    access: Arc<HttpAccess>,
    stop: Receiver<Infallible>,
) {
    let until = stop.clone();
    serve_each::<P, _>(until, async move || {
        let (socket, peer, local) = accepted::<P>(&listener).await?;
        let Some(slot) = server.enter(peer, local) else { return Ok(None) };
        let (server, access, stop) = (Rc::clone(&server), Arc::clone(&access), stop.clone());
        Ok(Some(async move {
            // Without this option only latency is lost.
            let _ = SockRef::from(&socket).set_tcp_nodelay(true);
            let begin = P::stream(socket, access.tls());
            server.serve(&access, slot, stop, begin).await;
        }))
    })
    .await;
}

/// Runs each accepted connection in a task of its own, until `stop` is closed; then closes the listener, which
/// `accept` owns, and waits for the connections.
async fn serve_each<P: Platform, C: Future<Output = ()> + 'static>(
    stop: Receiver<Infallible>,
    mut accept: impl AsyncFnMut() -> io::Result<Option<C>>,
) {
    // Each connection holds a clone of `alive`; `ended` closes with the last connection.
    let (alive, ended) = async_channel::bounded::<Infallible>(1);
    let accepting = async {
        let mut budget = StepBudget::of_listener();
        loop {
            budget.step().await;
            match accept().await {
                Ok(Some(connection)) => {
                    let alive = alive.clone();
                    let life = async move {
                        connection.await;
                        drop(alive);
                    };
                    P::spawn(life).detach();
                }
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(target: "hax", %why, "cannot accept an HTTP connection");
                    P::sleep(PAUSE).await;
                }
            }
        }
    };
    or(closed(&stop), accepting).await;
    drop((accept, alive));
    let Err(_closed) = ended.recv().await;
}

/// Accepts a connection; returns it with its two addresses. A connection that its client has closed already
/// may have no address any more, which is not an error of the listener.
async fn accepted<P: Platform>(
    listener: &P::Listener,
) -> io::Result<(P::Socket, SocketAddr, SocketAddr)> {
    loop {
        let (socket, peer) = P::accept(listener).await?;
        let local = SockRef::from(&socket).local_addr().ok().and_then(|local| local.as_socket());
        if let Some(local) = local {
            return Ok((socket, peer, local));
        }
    }
}
