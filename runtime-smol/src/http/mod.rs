//! The HTTP server: complete requests in, responses out. What it does with a connection is what hyper
//! does with it in `hax`, answer for answer.

mod body;
mod connection;
mod head;

use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::{Async, Timer};
use async_lock::Semaphore;
use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsAcceptor;
use hax_core::http::port;
use hax_driver::http::{Desk, Door, HEAD_WITHIN, Limits};
use hax_driver::metrics::Metrics;

use crate::tasks::{self, Turn, try_within};
use connection::Connection;

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// The requests that await the core's response.
pub struct Http<I> {
    desk: Rc<Desk<I>>,
    /// For connections, of all listeners together.
    room: Arc<Semaphore>,
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
        let room = Arc::new(Semaphore::new(limits.connections_max));
        Self { desk: Rc::new(Desk::new(inbox, wrap, limits, metrics)), room }
    }

    /// Answers a request.
    pub fn execute(&self, response: port::Response) {
        self.desk.respond(response);
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.desk.give_up();
    }

    /// Serves whom `door` lets in from all that `listeners` brings until `stop` is closed; then finishes
    /// what is being answered and closes.
    pub fn serve_all(
        &self,
        listeners: Receiver<Async<TcpListener>>,
        door: Arc<Door>,
        stop: Receiver<Infallible>,
    ) -> impl Future<Output = ()> + use<I> {
        let (desk, room) = (Rc::clone(&self.desk), Arc::clone(&self.room));
        async move {
            let mut each = Vec::new();
            let all = async {
                while let Ok(listener) = listeners.recv().await {
                    let (desk, room, door) = (desk.clone(), room.clone(), door.clone());
                    each.push(tasks::spawn(serve(desk, room, listener, door, stop.clone())));
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
    desk: Rc<Desk<I>>,
    room: Arc<Semaphore>,
    listener: Async<TcpListener>,
    door: Arc<Door>,
    stop: Receiver<Infallible>,
) {
    // Every connection holds a clone of the first; the second hears of the end of the last.
    let (alive, ended) = async_channel::bounded::<Infallible>(1);
    let accept = async {
        let mut turn = Turn::default();
        loop {
            turn.done().await;
            let permit = room.acquire_arc().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (desk, door) = (Rc::clone(&desk), Arc::clone(&door));
                    let (stop, alive) = (stop.clone(), alive.clone());
                    let life = async move {
                        if let Some(stream) = shake_hands(&door, stream).await
                            && let Err(why) =
                                Connection::new(stream, peer.ip(), stop).serve(&desk, &door).await
                        {
                            tracing::debug!(target: "hax", %why, "an HTTP connection ended");
                        }
                        drop((permit, alive));
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

/// Begins TLS, where it is served.
async fn shake_hands(door: &Door, stream: Async<TcpStream>) -> Option<Box<dyn Stream>> {
    let _ = stream.get_ref().set_nodelay(true);
    let Some(tls) = door.tls() else { return Some(Box::new(stream)) };
    let accepted = TlsAcceptor::from(tls).accept(stream);
    match try_within(HEAD_WITHIN, "no handshake in time", accepted).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(why) => {
            tracing::debug!(target: "hax", %why, "an HTTP connection without TLS");
            None
        }
    }
}
