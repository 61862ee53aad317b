//! The bodies of all requests together: their memory limit and their eviction.
//!
//! A body is charged for the bytes that have arrived, not for its announced length. Clients other than this
//! node may use at most half of the limit. If the limit is reached, the largest body that is still arriving
//! is evicted, of the address that uses the most. So slow clients cannot keep small posts out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_channel::oneshot;

use super::slot_table::Origin;

/// The steps by which a body's buffer grows, in bytes; from the last one on it doubles. The steps are few and
/// the last is large, so that bodies leave little fragmentation in the heap. Above the last step the
/// allocator moves pages instead of copying, and returns them to the system at once.
const STEPS: [usize; 3] = [4 << 10, 16 << 10, 256 << 10];

/// The error of a body without room: it was refused or evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    inner: Mutex<Inner>,
}

/// The origin of a body, and its number.
type Key = (Origin, u64);

#[derive(Debug)]
struct Inner {
    max: usize,
    held: usize,
    /// The part of `held` that belongs to clients other than this node.
    foreign: usize,
    next: u64,
    bodies: BTreeMap<Key, Charge>,
}

#[derive(Debug)]
struct Charge {
    /// The bytes charged: the capacity of the buffer, not its length.
    charged: usize,
    /// The buffer of an arriving body. Dropping the sender notifies the owner of the eviction.
    arriving: Option<(Vec<u8>, oneshot::Sender<()>)>,
}

impl Bodies {
    /// Creates an accounting with a limit of `max` bytes.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        let inner = Inner { max, held: 0, foreign: 0, next: 0, bodies: BTreeMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of bytes held.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.inner().held
    }

    /// Begins a body of `origin` with at most `most` bytes.
    #[must_use]
    pub(super) fn begin(self: &Arc<Self>, origin: Origin, most: usize) -> Body {
        let (call, eviction) = oneshot::channel();
        let mut inner = self.inner();
        inner.next += 1;
        let key = (origin, inner.next);
        inner.bodies.insert(key, Charge { charged: 0, arriving: Some((Vec::new(), call)) });
        drop(inner);
        Body { bodies: Arc::clone(self), key, length: 0, most, eviction }
    }
}

/// One body. Its memory is released when it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    bodies: Arc<Bodies>,
    key: Key,
    /// The number of bytes that have arrived.
    length: usize,
    most: usize,
    eviction: oneshot::Receiver<()>,
}

impl Body {
    /// Returns whether `more` bytes would exceed the body's maximum.
    #[must_use]
    pub(super) fn exceeds(&self, more: usize) -> bool {
        self.length.saturating_add(more) > self.most
    }

    /// Appends data. The time depends only on the length of `data`, not on the number of bodies, unless there
    /// are evictions.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Full> {
        let mut inner = self.bodies.inner();
        let held = inner.bodies.get(&self.key).ok_or(Full)?;
        let (room, needed) = (held.charged, self.length.saturating_add(data.len()));
        if needed > room {
            let step = STEPS.into_iter().find(|step| needed <= *step);
            let wanted = step.unwrap_or_else(|| room.saturating_mul(2)).min(self.most).max(needed);
            // Other bodies are evicted only for bytes that have arrived, not for spare capacity.
            let more = (wanted - room).min(inner.free(self.key.0)).max(needed - room);
            inner.charge(self.key, more)?;
        }
        let held = inner.bodies.get_mut(&self.key).ok_or(Full)?;
        let room = held.charged;
        let (bytes, _) = held.arriving.as_mut().ok_or(Full)?;
        bytes.reserve_exact(room - bytes.len());
        bytes.extend_from_slice(data);
        self.length = needed;
        Ok(())
    }

    /// Waits until the body is evicted, if ever.
    pub(super) async fn evicted(&mut self) {
        let _dropped = (&mut self.eviction).await;
    }

    /// Returns the whole body. It is charged until the body is dropped.
    pub(super) fn finish(&self) -> Result<Bytes, Full> {
        let mut inner = self.bodies.inner();
        let held = inner.bodies.get_mut(&self.key).ok_or(Full)?;
        let (bytes, _) = held.arriving.take().ok_or(Full)?;
        Ok(Bytes::from(bytes))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.bodies.inner().release(self.key);
    }
}

impl Inner {
    fn release(&mut self, key: Key) {
        if let Some(held) = self.bodies.remove(&key) {
            self.held -= held.charged;
            if key.0 != Origin::Own {
                self.foreign -= held.charged;
            }
        }
    }

    /// Returns the free bytes for a body of `origin`.
    fn free(&self, origin: Origin) -> usize {
        let all = self.max - self.held;
        match origin {
            Origin::Own => all,
            Origin::Foreign(_) => all.min((self.max / 2).saturating_sub(self.foreign)),
        }
    }

    /// Charges one body for `more` bytes; evicts others if that is fair.
    fn charge(&mut self, key: Key, more: usize) -> Result<(), Full> {
        while more > self.free(key.0) {
            let victim = self.choose_victim(key, more).ok_or(Full)?;
            self.release(victim);
        }
        let held = self.bodies.get_mut(&key).ok_or(Full)?;
        held.charged += more;
        self.held += more;
        if key.0 != Origin::Own {
            self.foreign += more;
        }
        Ok(())
    }

    /// Returns the body to evict for `key`, which needs `more` bytes; `None` if `key` gets no room.
    fn choose_victim(&self, key: Key, more: usize) -> Option<Key> {
        let origin = key.0;
        let wants =
            |(other, held): &(&Key, &Charge)| held.charged + if **other == key { more } else { 0 };
        let all: Vec<_> = self.bodies.iter().collect();
        let mut best = None;
        for bodies in all.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
            let of = bodies[0].0.0;
            // A body of this node is never evicted for a foreign one. It is evicted for another body of this
            // node only if there are no foreign bodies to evict.
            if of == Origin::Own && origin != Origin::Own {
                continue;
            }
            let sum: usize = bodies.iter().map(wants).sum();
            // A complete body is in use by the core. Of equally large bodies the oldest is evicted.
            let arriving = bodies.iter().filter(|(_, held)| held.arriving.is_some());
            let Some(largest) = arriving.max_by_key(|body| (wants(body), Reverse(*body.0))) else {
                continue;
            };
            // Of equally large addresses the one of the requester is chosen.
            let rank = (of != Origin::Own, sum, of == origin);
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, *largest.0));
            }
        }
        best.map(|(_, victim)| victim).filter(|victim| *victim != key)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const KIB: usize = 1 << 10;

    fn at(n: u8) -> Origin {
        Origin::Foreign(IpAddr::from([192, 0, 2, n]))
    }

    fn is_evicted(body: &mut Body) -> bool {
        block_on(poll_once(body.evicted())).is_some()
    }

    #[test]
    fn a_body_is_what_was_pushed_and_is_given_back() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut body = bodies.begin(Origin::Own, 5000);
        assert_eq!(bodies.held(), 0, "what is announced takes nothing");
        for _ in 0..50 {
            assert!(!body.exceeds(100));
            body.push(&[7; 100]).unwrap();
        }
        assert!(body.exceeds(1));
        assert_eq!(bodies.held(), 5000, "no more than it will have");
        let whole = body.finish().unwrap();
        assert_eq!(whole, vec![7; 5000]);
        assert_eq!(bodies.held(), 5000, "the core has it");
        drop(body);
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn the_largest_slow_body_of_the_greediest_gives_way() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut greedy: Vec<_> = [8, 8, 8, 13].map(|most| bodies.begin(at(1), most * KIB)).into();
        for body in &mut greedy[..3] {
            body.push(&[0; 8 * KIB]).unwrap();
        }
        greedy[3].push(&[0; 7 * KIB]).unwrap();
        let mut honest = bodies.begin(at(2), 2 * KIB);
        honest.push(&[0; 2 * KIB]).unwrap();
        assert!(is_evicted(&mut greedy[0]), "the oldest of the largest");
        assert!(!is_evicted(&mut greedy[1]) && !is_evicted(&mut greedy[3]));
        assert_eq!(greedy[0].push(b"x"), Err(Full));
        assert_eq!(greedy[0].finish(), Err(Full));
        // This also holds behind one address: the small body is not the largest.
        greedy[3].push(&[0; 6 * KIB]).unwrap();
        assert_eq!(bodies.held(), 31 * KIB);
        let mut small = bodies.begin(at(1), 2 * KIB);
        small.push(&[0; 2 * KIB]).unwrap();
        assert!(is_evicted(&mut greedy[3]) && !is_evicted(&mut small));
        assert!(bodies.held() <= 32 * KIB, "half is this node's");
    }

    #[test]
    fn who_has_the_most_is_refused_himself() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut small = bodies.begin(at(1), KIB);
        small.push(&[0; KIB]).unwrap();
        let mut large = bodies.begin(at(2), 64 * KIB);
        large.push(&[0; 31 * KIB]).unwrap();
        assert_eq!(large.push(&[0; 4 * KIB]), Err(Full));
        assert!(!is_evicted(&mut small));
    }

    #[test]
    fn there_is_always_room_for_this_node() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut strangers: Vec<_> = (0..8).map(|n| bodies.begin(at(n), 4 * KIB)).collect();
        // A complete body is not evicted any more.
        for body in &mut strangers {
            body.push(&[0; 4 * KIB]).unwrap();
            body.finish().unwrap();
        }
        let mut late = bodies.begin(at(9), KIB);
        assert_eq!(late.push(b"x"), Err(Full));
        let mut own = bodies.begin(Origin::Own, 32 * KIB);
        own.push(&[0; 32 * KIB]).unwrap();
        assert!(!is_evicted(&mut own));
        own.finish().unwrap();
        let mut more = bodies.begin(Origin::Own, KIB);
        assert_eq!(more.push(b"x"), Err(Full), "the bound is one for all");
    }

    #[test]
    fn this_node_s_own_slow_bodies_keep_its_small_ones_out_no_more_than_strangers_do() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut slow: Vec<_> = (0..2).map(|_| bodies.begin(Origin::Own, 32 * KIB)).collect();
        slow.iter_mut().for_each(|body| body.push(&[0; 32 * KIB]).unwrap());
        let mut small = bodies.begin(Origin::Own, KIB);
        small.push(&[0; KIB]).unwrap();
        assert!(is_evicted(&mut slow[0]) && !is_evicted(&mut slow[1]));
    }

    #[test]
    fn this_node_takes_what_strangers_have_not_finished() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut stranger = bodies.begin(at(1), 32 * KIB);
        stranger.push(&[0; 32 * KIB]).unwrap();
        let mut own = bodies.begin(Origin::Own, 64 * KIB);
        own.push(&[0; 64 * KIB]).unwrap();
        assert!(is_evicted(&mut stranger) && !is_evicted(&mut own));
    }
}
