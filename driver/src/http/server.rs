//! What a runtime's part of the HTTP server calls: a seat for each connection that it accepts, and the
//! life of that connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::http::port;

use super::connection::{self, Connection, Stream};
use super::seats::{Seat, Seats};
use super::{HttpAccess, Limits, PendingRequests};
use crate::observe::metrics::Metrics;

/// How a runtime waits.
pub type Sleep = fn(Duration) -> Pin<Box<dyn Future<Output = ()>>>;

/// The server.
pub struct Server<I> {
    pending: PendingRequests<I>,
    seats: Arc<Seats>,
    sleep: Sleep,
}

impl<I> Server<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
        sleep: Sleep,
    ) -> Self {
        let seats = Arc::new(Seats::new(limits.connections_max, limits.streams_max));
        Self { pending: PendingRequests::new(inbox, wrap, limits, metrics), seats, sleep }
    }

    /// The requests that await the core's response.
    #[must_use]
    pub fn pending(&self) -> &PendingRequests<I> {
        &self.pending
    }

    /// A seat for a connection that was accepted; without one it is closed at once. `local` is the address of
    /// this node that the client has reached.
    #[must_use]
    pub fn enter(&self, peer: SocketAddr, local: SocketAddr) -> Option<Seat> {
        self.seats.enter(peer.ip(), local.ip())
    }

    /// Serves a connection to its end, which comes soon once `stop` is closed. `begin` is TLS's part, if
    /// there is one.
    pub async fn serve(
        &self,
        access: &HttpAccess,
        mut seat: Seat,
        stop: Receiver<Infallible>,
        begin: impl Future<Output = io::Result<Box<dyn Stream>>>,
    ) {
        let served = async {
            let stream = connection::begin(&mut seat, self.sleep, begin).await?;
            Connection::new(stream, seat, stop, self.sleep).serve(&self.pending, access).await
        };
        if let Err(why) = served.await {
            tracing::debug!(target: "hax", %why, "an HTTP connection ended");
        }
    }
}
