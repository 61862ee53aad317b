//! The interface of the HTTP server for a runtime: a slot for each accepted connection, and the service of
//! that connection.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::http::port;
use hax_core::services::TELL_PATH;

use super::connection::{self, Connection, Stream};
use super::slots::{Slot, Slots};
use super::{HttpAccess, Limits, PendingRequests};
use crate::observe::metrics::Metrics;

/// The runtime's function to sleep.
pub type Sleep = fn(Duration) -> Pin<Box<dyn Future<Output = ()>>>;

/// The HTTP server.
pub struct Server<I> {
    pending: PendingRequests<I>,
    slots: Arc<Slots>,
    sleep: Sleep,
}

impl<I> Server<I> {
    /// Creates a server without requests. `wrap` converts requests into inputs, which are put in `inbox`.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
        sleep: Sleep,
    ) -> Self {
        let slots = Arc::new(Slots::new(limits.connections_max, limits.streams_max));
        Self { pending: PendingRequests::new(inbox, wrap, limits, metrics), slots, sleep }
    }

    /// Returns the requests that wait for the core's response.
    #[must_use]
    pub fn pending(&self) -> &PendingRequests<I> {
        &self.pending
    }

    /// Returns a slot for an accepted connection; without one the connection has to be closed at once.
    /// `local` is the address of this node that the client has connected to.
    #[must_use]
    pub fn enter(&self, peer: SocketAddr, local: SocketAddr) -> Option<Slot> {
        self.slots.enter(peer.ip(), local.ip())
    }

    /// Returns a slot for a connection to the local socket.
    #[must_use]
    pub fn enter_local(&self) -> Option<Slot> {
        let local = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut slot = self.slots.enter(local, local)?;
        slot.authorize();
        Some(slot)
    }

    /// Returns a slot for a connection to the socket for instances: any user of this node can connect, and asks for
    /// nothing else.
    #[must_use]
    pub fn enter_instance(&self) -> Option<Slot> {
        let local = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut slot = self.slots.enter(local, local)?;
        slot.restrict(TELL_PATH);
        Some(slot)
    }

    /// Serves a connection to its end, which comes soon once `stop` is closed. `begin` does the TLS
    /// handshake, if there is one.
    pub async fn serve(
        &self,
        access: &HttpAccess,
        mut slot: Slot,
        stop: Receiver<Infallible>,
        begin: impl Future<Output = io::Result<Box<dyn Stream>>>,
    ) {
        let served = async {
            let stream = connection::begin(&mut slot, self.sleep, begin).await?;
            Connection::new(stream, slot, stop, self.sleep).serve(&self.pending, access).await
        };
        if let Err(why) = served.await {
            tracing::debug!(target: "hax", %why, "an HTTP connection ended");
        }
    }
}
