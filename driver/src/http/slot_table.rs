//! Admission and eviction of connections at the HTTP port: decisions only, without sockets or clocks.
//!
//! Every connection is accepted first and then admitted or closed. A quarter of the slots is reserved for this
//! node and for clients with the token. Each other address may have a quarter at most. If the part for the
//! others is full, the oldest idle connection is evicted, of the address that has the most. Connections whose
//! client has closed its side are evicted before all others: mostly the client is gone.
//!
//! Connections with a streaming response have slots of their own. They are shared in the same way, but without
//! evictions: if there is no free slot, a new stream is refused.

use std::net::{IpAddr, Ipv6Addr};

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// This node, or a client with the token.
    Own,
    /// Another address; of IPv6 its first 64 bits, which is the prefix of one host.
    Foreign(IpAddr),
}

impl Origin {
    /// Returns the origin for the two ends of a connection. A client that connects to an address of this node
    /// from that same address is on this node, and so is a client with a loopback address.
    #[must_use]
    pub fn of(peer: IpAddr, local: IpAddr) -> Self {
        let (peer, local) = (peer.to_canonical(), local.to_canonical());
        if peer.is_loopback() || peer == local {
            return Self::Own;
        }
        Self::Foreign(match peer {
            IpAddr::V6(whole) => {
                let network = whole.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The id of a connection's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(u64);

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SlotState {
    /// The core has the request, and the client has closed its side. The client may be gone or wait for the
    /// response, which cannot be told apart before the response is written.
    HalfClosed,
    /// No complete head has arrived: before, within or after a request. Its eviction costs the least.
    Idle,
    /// A body is arriving.
    Receiving,
    /// The core has the request. If few such connections have been evicted, it is still answered and then
    /// closed.
    Answering,
}

/// The decision about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The slot of the new connection; `None` if no slot is free.
    pub(super) slot: Option<SlotId>,
    /// The connection that is evicted for the new one and has to be closed.
    pub(super) evicted: Option<SlotId>,
}

#[derive(Debug)]
struct Slot<C> {
    id: SlotId,
    origin: Origin,
    state: SlotState,
    since: u64,
    /// The number of connections that had entered before this one became idle.
    entered: u64,
    _on_eviction: C,
}

/// The connections. Each has a `C` here, which is dropped at its eviction.
#[derive(Debug)]
pub(super) struct SlotTable<C> {
    max: usize,
    /// The slots, sorted by origin.
    slots: Vec<Slot<C>>,
    /// The evicted connections that are still being answered, the oldest first. They take no slot.
    draining: Vec<Slot<C>>,
    /// The connections with a streaming response.
    streams: Vec<Slot<C>>,
    streams_max: usize,
    next: u64,
    entered: u64,
}

impl<C> SlotTable<C> {
    /// Creates slots for `max` connections, and for `streams_max` more with a streaming response.
    #[must_use]
    pub(super) fn new(max: usize, streams_max: usize) -> Self {
        let (slots, draining, streams) = (Vec::new(), Vec::new(), Vec::new());
        Self { max, slots, draining, streams, streams_max, next: 0, entered: 0 }
    }

    /// Returns the number of connections.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the number of connections with a streaming response.
    #[must_use]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the maximum for all clients other than this node.
    fn foreign_max(&self) -> usize {
        self.max - self.max / 4
    }

    /// Returns the maximum for one address other than this node's.
    fn share(&self) -> usize {
        (self.max / 4).max(1)
    }

    fn count(&self, origin: Origin) -> usize {
        self.slots.iter().filter(|slot| slot.origin == origin).count()
    }

    /// Decides about a new connection.
    pub(super) fn enter(&mut self, origin: Origin, on_eviction: C) -> Decision {
        self.entered += 1;
        let (all, own) = (self.slots.len(), self.count(Origin::Own));
        let of_origin = self.count(origin);
        let is_foreign = origin != Origin::Own;
        let is_full = all >= self.max
            || is_foreign && (all - own >= self.foreign_max() || of_origin >= self.share());
        let evicted = if is_full { self.choose_victim(origin, of_origin) } else { None };
        if is_full && evicted.is_none() {
            return Decision { slot: None, evicted };
        }
        if let Some(at) = evicted.and_then(|id| self.find(id)) {
            let slot = self.slots.remove(at);
            if slot.state == SlotState::Answering {
                self.drain(slot);
            }
        }
        let since = self.tick();
        let id = SlotId(since);
        self.insert_slot(Slot {
            id,
            origin,
            state: SlotState::Idle,
            since,
            entered: self.entered,
            _on_eviction: on_eviction,
        });
        Decision { slot: Some(id), evicted }
    }

    /// Keeps an evicted connection until it is answered. If there are too many, the oldest is dropped, a
    /// foreign one if there is one.
    fn drain(&mut self, slot: Slot<C>) {
        if self.draining.len() >= self.share() {
            let stranger = self.draining.iter().position(|slot| slot.origin != Origin::Own);
            self.draining.remove(stranger.unwrap_or(0));
        }
        self.draining.push(slot);
    }

    /// Returns whether the connection has a slot, and is not evicted.
    #[must_use]
    pub(super) fn has(&self, id: SlotId) -> bool {
        self.find(id).is_some() || self.streams.iter().any(|slot| slot.id == id)
    }

    /// Moves the connection to the streams, if a slot is free there and it has not been evicted; returns whether it
    /// did.
    pub(super) fn move_to_streams(&mut self, id: SlotId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let (all, origin) = (self.streams.len(), self.slots[at].origin);
        let of = |origin| self.streams.iter().filter(|slot| slot.origin == origin).count();
        let share = (self.streams_max / 4).max(1);
        let foreign_max = self.streams_max - self.streams_max / 4;
        let is_full = all >= self.streams_max
            || origin != Origin::Own
                && (of(origin) >= share || all - of(Origin::Own) >= foreign_max);
        if is_full {
            return false;
        }
        let slot = self.slots.remove(at);
        self.streams.push(slot);
        true
    }

    /// Sets the state of a connection.
    pub(super) fn set_state(&mut self, id: SlotId, state: SlotState) {
        let since = self.tick();
        if let Some(at) = self.find(id) {
            self.slots[at].state = state;
            self.slots[at].since = since;
            self.slots[at].entered = self.entered;
        }
    }

    /// Records that the client has sent the token.
    pub(super) fn mark_authenticated(&mut self, id: SlotId) {
        if let Some(at) = self.find(id) {
            let slot = self.slots.remove(at);
            self.insert_slot(Slot { origin: Origin::Own, ..slot });
        }
    }

    /// Removes a connection that has ended. An evicted one has been removed already, which is no error.
    pub(super) fn remove_slot(&mut self, id: SlotId) {
        if let Some(at) = self.find(id) {
            self.slots.remove(at);
        }
        self.draining.retain(|other| other.id != id);
        if let Some(at) = self.streams.iter().position(|slot| slot.id == id) {
            self.streams.swap_remove(at);
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn find(&self, id: SlotId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id)
    }

    fn insert_slot(&mut self, slot: Slot<C>) {
        let at = self.slots.partition_point(|other| other.origin <= slot.origin);
        self.slots.insert(at, slot);
    }

    /// Returns whether the connection may be evicted in its state. One that has just connected or become idle
    /// is exempt, since its bytes have not been read yet: a listener accepts up to 64 connections in one
    /// turn, which equals this limit for the default of 512 connections.
    fn is_evictable(&self, slot: &Slot<C>) -> bool {
        slot.state != SlotState::Idle || self.entered - slot.entered >= self.max as u64 / 8
    }

    /// Returns the connection to evict for a new one of `origin`, which has `mine` connections already.
    ///
    /// An idle connection is worth less than a new one, even if both addresses have equally many. A
    /// connection with an arriving body is evicted only for an address with fewer connections, or for its own
    /// address. Connections of this node are evicted only for this node, after all others.
    fn choose_victim(&self, origin: Origin, mine: usize) -> Option<SlotId> {
        if let Some(id) = self.own_victim(origin, |state| state == SlotState::HalfClosed) {
            return Some(id);
        }
        for state in [SlotState::HalfClosed, SlotState::Idle, SlotState::Receiving] {
            if let Some(id) = self.foreign_victim(state, origin, mine) {
                return Some(id);
            }
        }
        // A client that sends one request after another is never idle, so other states are considered too.
        self.own_victim(origin, |state| state != SlotState::Answering)
            .or_else(|| self.foreign_victim(SlotState::Answering, origin, mine))
            .or_else(|| self.own_victim(origin, |_| true))
    }

    /// Returns the connection of this node to evict for this node, among those in matching states.
    fn own_victim(&self, origin: Origin, is_such: impl Fn(SlotState) -> bool) -> Option<SlotId> {
        let own =
            self.slots.iter().filter(|slot| slot.origin == Origin::Own && origin == slot.origin);
        let own = own.filter(|slot| is_such(slot.state) && self.is_evictable(slot));
        own.min_by_key(|slot| (slot.state, slot.since)).map(|slot| slot.id)
    }

    /// Returns the connection of another client to evict, among those in this state.
    fn foreign_victim(&self, state: SlotState, origin: Origin, mine: usize) -> Option<SlotId> {
        let only_itself = origin != Origin::Own && mine >= self.share();
        let mut best = None;
        for slots in self.slots.chunk_by(|a, b| a.origin == b.origin) {
            let of = slots[0].origin;
            let fair = match origin {
                Origin::Own => true,
                Origin::Foreign(_) if state <= SlotState::Idle => slots.len() >= mine,
                Origin::Foreign(_) => slots.len() > mine,
            };
            let may = of != Origin::Own && (of == origin || fair && !only_itself);
            let waiting =
                slots.iter().filter(|slot| slot.state == state && self.is_evictable(slot));
            if let Some(oldest) = waiting.min_by_key(|slot| slot.since).filter(|_| may) {
                let rank = (slots.len(), std::cmp::Reverse(oldest.since));
                if best.is_none_or(|(other, _)| rank > other) {
                    best = Some((rank, oldest.id));
                }
            }
        }
        best.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests;
