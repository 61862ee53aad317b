//! The HTTP port: connections are accepted here, begin with TLS where it is served, and are served by
//! what both programs share.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use hax_core::http::port;
use hax_driver::host::turn::Turn;
use hax_driver::http::{Server, Stream};
use hax_driver::observe::metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

pub use hax_driver::http::{Door, Limits};

/// The requests that await the core's response.
pub struct Http<I> {
    server: Arc<Server<I>>,
}

impl<I: Send + 'static> Http<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time)) as _;
        Self { server: Arc::new(Server::new(inbox, wrap, limits, metrics, sleep)) }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        self.server.desk().respond(response);
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.server.desk().give_up();
    }

    /// [Serves](Self::serve) from all that `listeners` brings, until `stop` is closed.
    pub fn serve_all(
        &self,
        listeners: Receiver<TcpListener>,
        door: Arc<Door>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<I> {
        let server = Arc::clone(&self.server);
        async move {
            let mut each = JoinSet::new();
            let all = async {
                while let Ok(listener) = listeners.recv().await {
                    let (server, door) = (Arc::clone(&server), Arc::clone(&door));
                    each.spawn(serve(server, listener, door, stop.clone()));
                }
                std::future::pending().await
            };
            or(closed(&stop), all).await;
            while each.join_next().await.is_some() {}
        }
    }

    /// Serves whom `door` lets in from `listener` until `stop` is closed; then finishes what is being
    /// answered and closes.
    pub fn serve(
        &self,
        listener: TcpListener,
        door: Arc<Door>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<I> {
        serve(Arc::clone(&self.server), listener, door, stop)
    }
}

async fn closed(stop: &Receiver<Infallible>) {
    let Err(_closed) = stop.recv().await;
}

async fn serve<I: Send + 'static>(
    server: Arc<Server<I>>,
    listener: TcpListener,
    door: Arc<Door>,
    stop: Receiver<Infallible>,
) {
    // Every connection holds a clone of the first; the second hears of the end of the last.
    let (alive, ended) = async_channel::bounded::<Infallible>(1);
    let accept = async {
        let mut turn = Turn::of_door();
        loop {
            turn.done().await;
            match accepted(&listener).await {
                Ok((stream, peer, local)) => {
                    let Some(seat) = server.enter(peer, local) else { continue };
                    let (server, door) = (Arc::clone(&server), Arc::clone(&door));
                    let (stop, alive) = (stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        server.serve(&door, seat, stop, begin(&door, stream)).await;
                        drop(alive);
                    });
                }
                Err(why) => {
                    tracing::warn!(target: "hax", %why, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
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
async fn accepted(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if let Ok(local) = stream.local_addr() {
            return Ok((stream, peer, local));
        }
    }
}

/// Begins TLS, where it is served.
async fn begin(door: &Door, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
    let _ = stream.set_nodelay(true);
    Ok(match door.tls() {
        None => Box::new(stream.compat()),
        Some(tls) => Box::new(TlsAcceptor::from(tls).accept(stream).await?.compat()),
    })
}
