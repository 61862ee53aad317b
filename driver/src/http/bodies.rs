//! The bodies of requests, all that there are together: what they may have and who gives way.
//!
//! A body has what has arrived of it and not what it has announced. Others than this node have half of the
//! room at most. When there is none left, the largest body that is still arriving gives way, of the
//! address that has the most: so nobody keeps small posts out by being slow.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_channel::oneshot;

use super::room::Origin;

/// How a body's room grows, in bytes; from the last on it doubles. The steps are few and the last is large,
/// so that what bodies leave behind in the heap is little: from there on the system moves pages instead of
/// copying, and takes them back at once.
const STEPS: [usize; 3] = [4 << 10, 16 << 10, 256 << 10];

/// There is no room for a body, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    inner: Mutex<Inner>,
}

/// Whose a body is, and which.
type Key = (Origin, u64);

#[derive(Debug)]
struct Inner {
    max: usize,
    held: usize,
    /// What others than this node hold of it.
    foreign: usize,
    next: u64,
    bodies: BTreeMap<Key, Held>,
}

#[derive(Debug)]
struct Held {
    /// What counts, in bytes: the room that was made and not only what is in it.
    room: usize,
    /// While it arrives; dropping the sender tells its owner that it gave way.
    arriving: Option<(Vec<u8>, oneshot::Sender<()>)>,
}

impl Bodies {
    /// Room for `max` bytes.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        let inner = Inner { max, held: 0, foreign: 0, next: 0, bodies: BTreeMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes are held.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.inner().held
    }

    /// A body of `origin` that begins and will have `most` bytes at most.
    #[must_use]
    pub(super) fn begin(self: &Arc<Self>, origin: Origin, most: usize) -> Body {
        let (call, gave_way) = oneshot::channel();
        let mut inner = self.inner();
        inner.next += 1;
        let key = (origin, inner.next);
        inner.bodies.insert(key, Held { room: 0, arriving: Some((Vec::new(), call)) });
        drop(inner);
        Body { bodies: Arc::clone(self), key, length: 0, most, gave_way }
    }
}

/// One of them. What it has is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    bodies: Arc<Bodies>,
    key: Key,
    /// How many bytes have arrived.
    length: usize,
    most: usize,
    gave_way: oneshot::Receiver<()>,
}

impl Body {
    /// Whether so many more bytes are too many for it.
    #[must_use]
    pub(super) fn exceeds(&self, more: usize) -> bool {
        self.length.saturating_add(more) > self.most
    }

    /// More of it. That takes as long as `data` is, however many bodies there are, unless others give way.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), Full> {
        let mut inner = self.bodies.inner();
        let held = inner.bodies.get(&self.key).ok_or(Full)?;
        let (room, needed) = (held.room, self.length.saturating_add(data.len()));
        if needed > room {
            let step = STEPS.into_iter().find(|step| needed <= *step);
            let wanted = step.unwrap_or_else(|| room.saturating_mul(2)).min(self.most).max(needed);
            // Nobody gives way for more than has arrived.
            let more = (wanted - room).min(inner.free(self.key.0)).max(needed - room);
            inner.make_room(self.key, more)?;
        }
        let held = inner.bodies.get_mut(&self.key).ok_or(Full)?;
        let room = held.room;
        let (bytes, _) = held.arriving.as_mut().ok_or(Full)?;
        bytes.reserve_exact(room - bytes.len());
        bytes.extend_from_slice(data);
        self.length = needed;
        Ok(())
    }

    /// Waits until it has given way to others, if ever.
    pub(super) async fn gave_way(&mut self) {
        let _called = (&mut self.gave_way).await;
    }

    /// All of it. It counts until the body is dropped.
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
            self.held -= held.room;
            if key.0 != Origin::Own {
                self.foreign -= held.room;
            }
        }
    }

    /// What is left for one more of `origin`.
    fn free(&self, origin: Origin) -> usize {
        let all = self.max - self.held;
        match origin {
            Origin::Own => all,
            Origin::Foreign(_) => all.min((self.max / 2).saturating_sub(self.foreign)),
        }
    }

    /// So much more for one body; others give way where that is fair.
    fn make_room(&mut self, key: Key, more: usize) -> Result<(), Full> {
        while more > self.free(key.0) {
            let victim = self.who_gives_way(key, more).ok_or(Full)?;
            self.release(victim);
        }
        let held = self.bodies.get_mut(&key).ok_or(Full)?;
        held.room += more;
        self.held += more;
        if key.0 != Origin::Own {
            self.foreign += more;
        }
        Ok(())
    }

    /// Which body gives way to `key`, which wants `more`; none if it does not get it.
    fn who_gives_way(&self, key: Key, more: usize) -> Option<Key> {
        let origin = key.0;
        let wants =
            |(other, held): &(&Key, &Held)| held.room + if **other == key { more } else { 0 };
        let all: Vec<_> = self.bodies.iter().collect();
        let mut best = None;
        for bodies in all.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
            let of = bodies[0].0.0;
            // This node's own give way to strangers never, and to its own only where there are no
            // strangers to give way.
            if of == Origin::Own && origin != Origin::Own {
                continue;
            }
            let sum: usize = bodies.iter().map(wants).sum();
            // What is complete is being worked. Of equal bodies the oldest gives way.
            let arriving = bodies.iter().filter(|(_, held)| held.arriving.is_some());
            let Some(largest) = arriving.max_by_key(|body| (wants(body), Reverse(*body.0))) else {
                continue;
            };
            // Of equal addresses that of the one that asks.
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

    fn has_given_way(body: &mut Body) -> bool {
        block_on(poll_once(body.gave_way())).is_some()
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
        assert!(has_given_way(&mut greedy[0]), "the oldest of the largest");
        assert!(!has_given_way(&mut greedy[1]) && !has_given_way(&mut greedy[3]));
        assert_eq!(greedy[0].push(b"x"), Err(Full));
        assert_eq!(greedy[0].finish(), Err(Full));
        // Behind one address too: the small one is not the largest.
        greedy[3].push(&[0; 6 * KIB]).unwrap();
        assert_eq!(bodies.held(), 31 * KIB);
        let mut small = bodies.begin(at(1), 2 * KIB);
        small.push(&[0; 2 * KIB]).unwrap();
        assert!(has_given_way(&mut greedy[3]) && !has_given_way(&mut small));
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
        assert!(!has_given_way(&mut small));
    }

    #[test]
    fn there_is_always_room_for_this_node() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut strangers: Vec<_> = (0..8).map(|n| bodies.begin(at(n), 4 * KIB)).collect();
        // What is complete does not give way any more.
        for body in &mut strangers {
            body.push(&[0; 4 * KIB]).unwrap();
            body.finish().unwrap();
        }
        let mut late = bodies.begin(at(9), KIB);
        assert_eq!(late.push(b"x"), Err(Full));
        let mut own = bodies.begin(Origin::Own, 32 * KIB);
        own.push(&[0; 32 * KIB]).unwrap();
        assert!(!has_given_way(&mut own));
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
        assert!(has_given_way(&mut slow[0]) && !has_given_way(&mut slow[1]));
    }

    #[test]
    fn this_node_takes_what_strangers_have_not_finished() {
        let bodies = Arc::new(Bodies::new(64 * KIB));
        let mut stranger = bodies.begin(at(1), 32 * KIB);
        stranger.push(&[0; 32 * KIB]).unwrap();
        let mut own = bodies.begin(Origin::Own, 64 * KIB);
        own.push(&[0; 64 * KIB]).unwrap();
        assert!(has_given_way(&mut stranger) && !has_given_way(&mut own));
    }
}
