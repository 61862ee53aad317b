//! The connections of the HTTP port: their slots, and the notification of an evicted connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use hax_core::http::port::Trust;

use super::slot_table::{Origin, SlotId, SlotState, SlotTable};

/// All connections of all listeners.
#[derive(Debug)]
pub(super) struct Slots {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Dropping a sender notifies its connection of the eviction.
    table: SlotTable<oneshot::Sender<()>>,
    max: usize,
    /// The number of evicted connections that still send their client a response about it.
    last_responses: usize,
    /// No slot is free, and the log says so.
    is_full_logged: bool,
    /// The same for the slots of open streams.
    are_streams_full_logged: bool,
}

impl Slots {
    /// Creates slots for `max` connections and for `streams` more with a streaming response.
    #[must_use]
    pub(super) fn new(max: usize, streams: usize) -> Self {
        let table = SlotTable::new(max, streams);
        let (last_responses, is_full_logged, are_streams_full_logged) = (0, false, false);
        Self {
            inner: Mutex::new(Inner {
                table,
                max,
                last_responses,
                is_full_logged,
                are_streams_full_logged,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a slot for a new connection between these addresses; `None` if none is free.
    #[must_use]
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, local: IpAddr) -> Option<Slot> {
        let origin = Origin::of(peer, local);
        let (on_eviction, eviction) = oneshot::channel();
        let mut inner = self.inner();
        let decision = inner.table.enter(origin, on_eviction);
        inner.log_full(peer, decision.slot.is_none() || decision.evicted.is_some());
        drop(inner);
        let id = decision.slot?;
        let (slots, is_authorized, last_response) = (Arc::clone(self), false, None);
        let only_path = None;
        Some(Slot { slots, id, peer, origin, is_authorized, only_path, eviction, last_response })
    }
}

impl Inner {
    /// Logs once that no slot is free, until many are free again.
    fn log_full(&mut self, peer: IpAddr, is_full: bool) {
        if is_full && !self.is_full_logged {
            let connections = self.table.len();
            tracing::warn!(target: "hax", connections, last = %peer,
                "there is no room for more HTTP connections: idle ones are closed for new ones");
        }
        self.is_full_logged = is_full || self.is_full_logged && self.table.len() > self.max / 8;
    }

    /// Does the same for the slots of streaming responses.
    fn log_streams_full(&mut self, peer: IpAddr, is_full: bool) {
        let streams = self.table.streams();
        if is_full && !self.are_streams_full_logged {
            tracing::warn!(target: "hax", streams, last = %peer,
                "there is no room for more HTTP answers that stay open: new ones are refused");
        }
        self.are_streams_full_logged =
            is_full || self.are_streams_full_logged && streams > self.max / 8;
    }
}

/// The slot of one connection; it is free when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    id: SlotId,
    peer: IpAddr,
    origin: Origin,
    /// The connection is of the local socket.
    is_authorized: bool,
    /// The only path that the connection may ask for.
    only_path: Option<&'static str>,
    eviction: oneshot::Receiver<()>,
    last_response: Option<LastResponse>,
}

impl Slot {
    /// Returns the client's address.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Returns the origin of the connection.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns what is known of the sender of a request, which has the token or not.
    #[must_use]
    pub(super) fn trust(&self, has_token: bool) -> Trust {
        match self.origin {
            _ if has_token || self.is_authorized => Trust::Authorized,
            Origin::Own => Trust::Local,
            Origin::Foreign(_) => Trust::None,
        }
    }

    /// Returns whether the connection may ask for a path.
    #[must_use]
    pub(super) fn may_ask(&self, path: &str) -> bool {
        self.only_path.is_none_or(|only| only == path)
    }

    /// Restricts the connection to one path.
    pub(super) fn restrict(&mut self, path: &'static str) {
        self.only_path = Some(path);
    }

    /// Marks the connection as one of the local socket.
    pub(super) fn authorize(&mut self) {
        self.is_authorized = true;
        self.mark_authenticated();
    }

    /// Sets the state of the connection.
    pub(super) fn set_state(&self, state: SlotState) {
        self.slots.inner().table.set_state(self.id, state);
    }

    /// Marks the response of the connection as a stream; returns whether a slot is free for it.
    ///
    /// From now on the connection is not evicted any more, and takes a slot only from other streams.
    #[must_use]
    pub(super) fn move_to_streams(&self) -> bool {
        let mut inner = self.slots.inner();
        let has_room = inner.table.move_to_streams(self.id);
        inner.log_streams_full(self.peer, !has_room);
        has_room
    }

    /// Marks the connection as one whose client has sent the token.
    pub fn mark_authenticated(&mut self) {
        self.origin = Origin::Own;
        self.slots.inner().table.mark_authenticated(self.id);
    }

    /// Waits until the connection is evicted, if ever.
    pub async fn evicted(&mut self) {
        if self.last_response.is_some() {
            return std::future::pending().await;
        }
        let _dropped = (&mut self.eviction).await;
    }

    /// Returns whether the connection has been evicted, even if it may still be answered.
    pub fn is_evicted(&mut self) -> bool {
        !matches!(self.eviction.try_recv(), Ok(None)) || !self.slots.inner().table.has(self.id)
    }

    /// Lets an evicted connection send its client a response before it ends. The number of these is limited.
    pub fn begin_last_response(&mut self) {
        if self.last_response.is_some() || !self.is_evicted() {
            return;
        }
        let mut inner = self.slots.inner();
        if inner.last_responses < inner.max / 4 {
            inner.last_responses += 1;
            self.last_response = Some(LastResponse(Arc::clone(&self.slots)));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.inner().table.remove_slot(self.id);
    }
}

/// An evicted connection that still sends a response to its client.
#[derive(Debug)]
struct LastResponse(Arc<Slots>);

impl Drop for LastResponse {
    fn drop(&mut self) {
        self.0.inner().last_responses -= 1;
    }
}
