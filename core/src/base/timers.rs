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
