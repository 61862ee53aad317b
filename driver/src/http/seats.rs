//! The connections of the HTTP port: the room, and the notification of an evicted connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

use super::room::{Origin, Room, SeatId, SeatState};

/// All connections of all listeners.
#[derive(Debug)]
pub(super) struct Seats {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Dropping a sender notifies its connection of the eviction.
    room: Room<oneshot::Sender<()>>,
    max: usize,
    /// The number of evicted connections that still send their client a response about it.
    leaving: usize,
    /// The room is full and the log says so.
    pressed: bool,
    /// The same for the room of open streams.
    streams_pressed: bool,
}

impl Seats {
    /// Creates the room for `max` connections and for `streams` more with a streaming response.
    #[must_use]
    pub(super) fn new(max: usize, streams: usize) -> Self {
        let room = Room::new(max, streams);
        let (leaving, pressed, streams_pressed) = (0, false, false);
        Self { inner: Mutex::new(Inner { room, max, leaving, pressed, streams_pressed }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a seat for a new connection between these addresses; `None` if there is no room.
    #[must_use]
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, local: IpAddr) -> Option<Seat> {
        let origin = Origin::of(peer, local);
        let (call, called) = oneshot::channel();
        let mut inner = self.inner();
        let entry = inner.room.enter(origin, call);
        inner.tell(peer, entry.seat.is_none() || entry.gives_way.is_some());
        drop(inner);
        let id = entry.seat?;
        Some(Seat { seats: Arc::clone(self), id, peer, origin, called, leaving: None })
    }
}

impl Inner {
    /// Logs once that the room is full, until there is plenty of room again.
    fn tell(&mut self, peer: IpAddr, is_full: bool) {
        if is_full && !self.pressed {
            let connections = self.room.len();
            tracing::warn!(target: "hax", connections, last = %peer,
                "there is no room for more HTTP connections: idle ones are closed for new ones");
        }
        self.pressed = is_full || self.pressed && self.room.len() > self.max / 8;
    }

    /// Does the same for the room of streaming responses.
    fn tell_of_streams(&mut self, peer: IpAddr, is_full: bool) {
        let streams = self.room.streams();
        if is_full && !self.streams_pressed {
            tracing::warn!(target: "hax", streams, last = %peer,
                "there is no room for more HTTP answers that stay open: new ones are refused");
        }
        self.streams_pressed = is_full || self.streams_pressed && streams > self.max / 8;
    }
}

/// The seat of one connection; it is free when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    id: SeatId,
    peer: IpAddr,
    origin: Origin,
    called: oneshot::Receiver<()>,
    leaving: Option<Leaving>,
}

impl Seat {
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

    /// Sets the state of the connection.
    pub(super) fn set(&self, stage: SeatState) {
        self.seats.inner().room.set(self.id, stage);
    }

    /// Marks the response of the connection as a stream; returns whether there is room for it.
    ///
    /// From now on the connection is not evicted any more, and takes room only from other streams.
    #[must_use]
    pub(super) fn stream(&self) -> bool {
        let mut inner = self.seats.inner();
        let has_room = inner.room.stream(self.id);
        inner.tell_of_streams(self.peer, !has_room);
        has_room
    }

    /// Marks the connection as one whose client has sent the token.
    pub fn prove(&mut self) {
        self.origin = Origin::Own;
        self.seats.inner().room.prove(self.id);
    }

    /// Waits until the connection is evicted, if ever.
    pub async fn called(&mut self) {
        if self.leaving.is_some() {
            return std::future::pending().await;
        }
        let _dropped = (&mut self.called).await;
    }

    /// Returns whether the connection has been evicted, even if it may still be answered.
    pub fn is_called(&mut self) -> bool {
        !matches!(self.called.try_recv(), Ok(None)) || !self.seats.inner().room.has(self.id)
    }

    /// Lets an evicted connection send its client a response before it ends. The number of these is limited.
    pub fn leave(&mut self) {
        if self.leaving.is_some() || !self.is_called() {
            return;
        }
        let mut inner = self.seats.inner();
        if inner.leaving < inner.max / 4 {
            inner.leaving += 1;
            self.leaving = Some(Leaving(Arc::clone(&self.seats)));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.inner().room.leave(self.id);
    }
}

/// An evicted connection that still sends a response to its client.
#[derive(Debug)]
struct Leaving(Arc<Seats>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.inner().leaving -= 1;
    }
}
