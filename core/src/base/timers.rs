//! A table of named timers: one deadline for each name, the earliest first.

use alloc::collections::{BTreeMap, BTreeSet};

use super::time::Instant;

/// Deadlines by name. Arming a name again replaces its deadline.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    by_name: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms `name` for `at`, instead of what it was armed for.
    pub fn arm(&mut self, name: K, at: Instant) {
        if let Some(old) = self.by_name.insert(name, at) {
            self.by_time.remove(&(old, name));
        }
        self.by_time.insert((at, name));
    }

    /// Arms `name` for `at` unless it is armed for an earlier moment.
    pub fn arm_no_later(&mut self, name: K, at: Instant) {
        if self.by_name.get(&name).is_none_or(|old| at < *old) {
            self.arm(name, at);
        }
    }

    /// Disarms `name`; harmless if it is not armed.
    pub fn disarm(&mut self, name: K) {
        if let Some(old) = self.by_name.remove(&name) {
            self.by_time.remove(&(old, name));
        }
    }

    /// Whether `name` is armed.
    #[must_use]
    pub fn is_armed(&self, name: K) -> bool {
        self.by_name.contains_key(&name)
    }

    /// The earliest deadline and its name.
    #[must_use]
    pub fn first(&self) -> Option<(Instant, K)> {
        self.by_time.first().copied()
    }

    /// Takes the earliest timer if it is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, name) = self.first()?;
        if at > now {
            return None;
        }
        self.disarm(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    /// A list that is searched for everything.
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

    quickcheck! {
        fn they_do_as_a_list_does(steps: Vec<(u8, u8, u8)>) -> bool {
            let (mut timers, mut naive) = (Timers::default(), Naive::default());
            for (what, name, at) in steps {
                // Few names and moments, so that they meet.
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
