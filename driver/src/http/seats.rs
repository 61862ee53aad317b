//! The connections of the HTTP port: the room, and the way to call one that gives way.

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
    /// Dropping a sender calls its connection.
    room: Room<oneshot::Sender<()>>,
    max: usize,
    /// Who has given way and still tells its client so.
    leaving: usize,
    /// It is full and the log says so.
    pressed: bool,
    /// The same of the room for answers that stay open.
    streams_pressed: bool,
}

impl Seats {
    /// Room for `max` connections, and `streams` more with an answer that stays open.
    #[must_use]
    pub(super) fn new(max: usize, streams: usize) -> Self {
        let room = Room::new(max, streams);
        let (leaving, pressed, streams_pressed) = (0, false, false);
        Self { inner: Mutex::new(Inner { room, max, leaving, pressed, streams_pressed }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a new connection between these addresses; nothing if there is none.
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
    /// Says once that there is no room, until there is plenty again.
    fn tell(&mut self, peer: IpAddr, is_full: bool) {
        if is_full && !self.pressed {
            let connections = self.room.len();
            tracing::warn!(target: "hax", connections, last = %peer,
                "there is no room for more HTTP connections: idle ones are closed for new ones");
        }
        self.pressed = is_full || self.pressed && self.room.len() > self.max / 8;
    }

    /// The same of the room for answers that stay open.
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
    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whose connection it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What is going on has changed.
    pub(super) fn set(&self, stage: SeatState) {
        self.seats.inner().room.set(self.id, stage);
    }

    /// The connection has an answer that stays open from now on: it does not give way any more, and keeps
    /// nobody out but others of its kind. Whether there is room for it.
    #[must_use]
    pub(super) fn stream(&self) -> bool {
        let mut inner = self.seats.inner();
        let has_room = inner.room.stream(self.id);
        inner.tell_of_streams(self.peer, !has_room);
        has_room
    }

    /// The client has shown the token.
    pub fn prove(&mut self) {
        self.origin = Origin::Own;
        self.seats.inner().room.prove(self.id);
    }

    /// Waits until the connection has to give way, if ever.
    pub async fn called(&mut self) {
        if self.leaving.is_some() {
            return std::future::pending().await;
        }
        let _dropped = (&mut self.called).await;
    }

    /// Whether the connection has given way, be it that it may still be answered.
    pub fn is_called(&mut self) -> bool {
        !matches!(self.called.try_recv(), Ok(None)) || !self.seats.inner().room.has(self.id)
    }

    /// One that has been called may tell its client so before it ends; not all at once may.
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

/// One that tells its client that it has given way.
#[derive(Debug)]
struct Leaving(Arc<Seats>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.inner().leaving -= 1;
    }
}
