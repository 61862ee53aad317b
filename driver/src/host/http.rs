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
use super::turn::Turn;
use crate::http::{HttpAccess, Limits, Server};
use crate::observe::metrics::Metrics;

/// How long nothing is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The requests that await the core's response.
pub struct Http<P, I> {
    server: Rc<Server<I>>,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform, I: 'static> Http<P, I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
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

    /// Begins, continues or ends an answer that stays open.
    pub fn stream(&self, command: Command) {
        self.server.pending().stream(command);
    }

    /// Tells of each answer that stayed open when it is over.
    pub fn closed(&self) -> Receiver<Closed> {
        self.server.pending().closed()
    }

    /// Answers all that still wait with 503, since the core will not, and ends the answers that are open.
    pub fn give_up(&self) {
        self.server.pending().give_up();
    }

    /// [Serves](Self::serve) from all that `listeners` brings, until `stop` is closed.
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

    /// Serves whom `access` allows, from `listener` until `stop` is closed; then finishes what is being
    /// answered and closes.
    pub fn serve(
        &self,
        listener: P::Listener,
        access: Arc<HttpAccess>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<P, I> {
        serve::<P, I>(Rc::clone(&self.server), listener, access, stop)
    }
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
    // Every connection holds a clone of the first; the second hears of the end of the last.
    let (alive, ended) = async_channel::bounded::<Infallible>(1);
    let accept = async {
        let mut turn = Turn::of_listener();
        loop {
            turn.done().await;
            match accepted::<P>(&listener).await {
                Ok((socket, peer, local)) => {
                    let Some(seat) = server.enter(peer, local) else { continue };
                    let (server, access) = (Rc::clone(&server), Arc::clone(&access));
                    let (stop, alive) = (stop.clone(), alive.clone());
                    let life = async move {
                        // Only a delay is lost if the system does not know the option.
                        let _ = SockRef::from(&socket).set_tcp_nodelay(true);
                        let begin = P::stream(socket, access.tls());
                        server.serve(&access, seat, stop, begin).await;
                        drop(alive);
                    };
                    P::spawn(life).detach();
                }
                Err(why) => {
                    tracing::warn!(target: "hax", %why, "cannot accept an HTTP connection");
                    P::sleep(PAUSE).await;
                }
            }
        }
    };
    or(closed(&stop), accept).await;
    drop((listener, alive));
    let Err(_closed) = ended.recv().await;
}

/// A connection and its two ends. One that its client has ended already may have no address any more, which
/// is no fault of the listener's.
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
