//! The HTTP port: connections are accepted here, begin with TLS where it is served, and are served by
//! what both programs share.

use std::convert::Infallible;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsAcceptor;
use hax_core::http::port;
use hax_driver::http::{Door, Limits, Server, Stream};
use hax_driver::observe::metrics::Metrics;

use crate::tasks::{self, Turn};

/// The requests that await the core's response.
pub struct Http<I> {
    server: Rc<Server<I>>,
}

impl<I: 'static> Http<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sleep = |time| {
            Box::pin(async move {
                let _at = Timer::after(time).await;
            }) as _
        };
        Self { server: Rc::new(Server::new(inbox, wrap, limits, metrics, sleep)) }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        self.server.desk().respond(response);
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.server.desk().give_up();
    }

    /// Serves whom `door` lets in from all that `listeners` brings until `stop` is closed; then finishes
    /// what is being answered and closes.
    pub fn serve_all(
        &self,
        listeners: Receiver<Async<TcpListener>>,
        door: Arc<Door>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<I> {
        let server = Rc::clone(&self.server);
        async move {
            let mut each = Vec::new();
            let all = async {
                while let Ok(listener) = listeners.recv().await {
                    let (server, door) = (Rc::clone(&server), Arc::clone(&door));
                    each.push(tasks::spawn(serve(server, listener, door, stop.clone())));
                }
                std::future::pending().await
            };
            or(closed(&stop), all).await;
            for served in each {
                served.await;
            }
        }
    }
}

async fn closed(stop: &Receiver<Infallible>) {
    let Err(_closed) = stop.recv().await;
}

async fn serve<I: 'static>(
    server: Rc<Server<I>>,
    listener: Async<TcpListener>,
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
                    let (server, door) = (Rc::clone(&server), Arc::clone(&door));
                    let (stop, alive) = (stop.clone(), alive.clone());
                    let life = async move {
                        server.serve(&door, seat, stop, begin(&door, stream)).await;
                        drop(alive);
                    };
                    tasks::spawn(life).detach();
                }
                Err(why) => {
                    tracing::warn!(target: "hax", %why, "cannot accept an HTTP connection");
                    Timer::after(Duration::from_millis(100)).await;
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
async fn accepted(
    listener: &Async<TcpListener>,
) -> io::Result<(Async<TcpStream>, SocketAddr, SocketAddr)> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if let Ok(local) = stream.get_ref().local_addr() {
            return Ok((stream, peer, local));
        }
    }
}

/// Begins TLS, where it is served.
async fn begin(door: &Door, stream: Async<TcpStream>) -> io::Result<Box<dyn Stream>> {
    let _ = stream.get_ref().set_nodelay(true);
    Ok(match door.tls() {
        None => Box::new(Socket(stream)),
        Some(tls) => Box::new(TlsAcceptor::from(tls).accept(Socket(stream)).await?),
    })
}

/// A socket that is closed when it is told to be: async-io's only when it is dropped.
struct Socket(Async<TcpStream>);

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}
