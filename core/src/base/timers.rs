//! A table of named timers: one deadline per name, ordered by time.

use alloc::collections::{BTreeMap, BinaryHeap};
use core::cmp::Reverse;

use super::time::Instant;

/// The number of stale deadlines kept in addition to one per valid deadline.
const STALE: usize = 64;

/// Deadlines by name. Arming a name again replaces its deadline.
///
/// Most timers are disarmed long before they are due. So a stale deadline is only removed when it comes to
/// the top, or when stale deadlines are half of all.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    by_name: BTreeMap<K, Instant>,
    /// The first deadline is always valid.
    by_time: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), by_time: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms `name` for `at`; replaces its earlier deadline.
    pub fn arm(&mut self, name: K, at: Instant) {
        match self.by_name.insert(name, at) {
            Some(old) if old == at => {}
            old => {
                self.by_time.push(Reverse((at, name)));
                if old.is_some() {
                    self.clean();
                }
            }
        }
    }

    /// Arms `name` for `at` unless it is armed for an earlier time.
    pub fn arm_no_later(&mut self, name: K, at: Instant) {
        if self.by_name.get(&name).is_none_or(|old| at < *old) {
            self.arm(name, at);
        }
    }

    /// Disarms `name`; harmless if it is not armed.
    pub fn disarm(&mut self, name: K) {
        if self.by_name.remove(&name).is_some() {
            self.clean();
        }
    }

    /// Returns whether `name` is armed.
    #[must_use]
    pub fn is_armed(&self, name: K) -> bool {
        self.by_name.contains_key(&name)
    }

    /// Returns the earliest deadline and its name.
    #[must_use]
    pub fn first(&self) -> Option<(Instant, K)> {
        self.by_time.peek().map(|Reverse(first)| *first)
    }

    /// Removes and returns the earliest timer if it is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, name) = self.first()?;
        if at > now {
            return None;
        }
        self.disarm(name);
        Some(name)
    }

    /// Removes stale deadlines if necessary.
    fn clean(&mut self) {
        let Self { by_name, by_time } = self;
        let counts = |Reverse((at, name)): &Reverse<(Instant, K)>| by_name.get(name) == Some(at);
        while by_time.peek().is_some_and(|first| !counts(first)) {
            by_time.pop();
        }
        if by_time.len() > 2 * by_name.len() + STALE {
            let mut all = core::mem::take(by_time).into_vec();
            all.retain(counts);
            // A name that was armed for the same time again is in the heap twice.
            all.sort_unstable();
            all.dedup();
            *by_time = all.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    /// A list with linear search for every operation.
    #[derive(Default)]
    struct Naive(Vec<(u8, Instant)>);

    impl Naive {
        fn first(&self) -> Option<(Instant, u8)> {
            self.0.iter().map(|(name, at)| (*at, *name)).min()
        }

        fn disarm(&mut self, name: u8) {
            self.0.retain(|(other, _)| *other != name);
        }

        fn arm(&mut self, name: u8, at: Instant) {
            self.disarm(name);
            self.0.push((name, at));
        }
    }

    #[test]
    fn what_counts_no_more_takes_no_room() {
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.arm(n, at(n));
            timers.disarm(n);
            // A later time, an earlier one, and the same time again.
            timers.arm(u64::MAX, at(20_000 + n % 2));
            timers.arm(u64::MAX - 1, at(20_000));
        }
        assert!(timers.by_time.len() <= 2 * 2 + STALE + 1, "{}", timers.by_time.len());
        assert_eq!(timers.first(), Some((at(20_000), u64::MAX - 1)));
    }

    #[test]
    fn what_was_armed_for_the_same_moment_again_takes_no_room() {
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        // One early timer and many others, so that nothing is removed yet.
        timers.arm(u64::MAX, at(10));
        (0..100).for_each(|other| timers.arm(other, at(30_000)));
        for _ in 0..80 {
            timers.arm(100, at(20_001));
            timers.arm(100, at(20_000));
        }
        (0..100).for_each(|other| timers.disarm(other));
        assert!(timers.by_time.len() <= 2 * 2 + STALE, "{}", timers.by_time.len());
    }

    quickcheck! {
        fn they_do_as_a_list_does(steps: Vec<(u8, u8, u8)>) -> bool {
            let (mut timers, mut naive) = (Timers::default(), Naive::default());
            for (what, name, at) in steps {
                // A small range of names and times, so that collisions occur.
                let (name, at) = (name % 8, Instant::from_micros(u64::from(at % 16)));
                match what % 6 {
                    0 | 1 => {
                        timers.arm(name, at);
                        naive.arm(name, at);
                    }
                    2 => {
                        timers.arm_no_later(name, at);
                        if naive.0.iter().all(|(other, old)| *other != name || at < *old) {
                            naive.arm(name, at);
                        }
                    }
                    3 => {
                        timers.disarm(name);
                        naive.disarm(name);
                    }
                    _ => {
                        let due = naive.first().filter(|(first, _)| *first <= at);
                        assert_eq!(timers.pop(at), due.map(|(_, name)| name));
                        due.into_iter().for_each(|(_, name)| naive.disarm(name));
                    }
                }
                assert_eq!(timers.first(), naive.first());
                let armed = naive.0.iter().any(|(other, _)| *other == name);
                assert_eq!(timers.is_armed(name), armed);
            }
            let all: Vec<u8> = core::iter::from_fn(|| timers.pop(Instant::MAX)).collect();
            let mut left: Vec<_> = naive.0.iter().map(|(name, at)| (*at, *name)).collect();
            left.sort_unstable();
            left.into_iter().map(|(_, name)| name).eq(all)
        }
    }
}
