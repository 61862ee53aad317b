//! Keys and values: the effect of each verb, and the index of each read.

use std::ops::Bound;
use std::time::Duration;

use hax_core::base::time::Instant;

use super::rows::{Behavior, Entry, Session, SessionId, Tombstone};
use super::store::{Store, Tables};

/// The lifetime of a tombstone. Its end is rounded up to a multiple of `TOMBSTONE_GRANULARITY`.
pub(super) const TOMBSTONE_TTL: Duration = Duration::from_secs(15 * 60);
/// The maximum lock delay. Consul accepts a longer one but applies this one.
const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);
const TOMBSTONE_GRANULARITY: u64 = 30_000_000;

/// The changes of a transaction, for the rollback of a failed one.
#[derive(Debug, Default)]
pub(super) struct Undo {
    tables: Tables,
    entries: Vec<(String, Option<Entry>)>,
    tombstones: Vec<(String, Option<Tombstone>)>,
}

impl Undo {
    pub(super) fn new(store: &Store) -> Self {
        Self { tables: store.tables, ..Self::default() }
    }

    pub(super) fn roll_back(self, store: &mut Store) {
        store.tables = self.tables;
        for (key, entry) in self.entries.into_iter().rev() {
            match entry {
                Some(entry) => store.kv.insert(key, entry),
                None => store.kv.remove(&key),
            };
        }
        for (key, grave) in self.tombstones.into_iter().rev() {
            match grave {
                Some(grave) => store.tombstones.insert(key, grave),
                None => store.tombstones.remove(&key),
            };
        }
    }
}

impl Store {
    /// Returns the index of both tables of the key-value store.
    pub(super) fn kv_index(&self) -> u64 {
        self.tables.kvs.max(self.tables.tombstones)
    }

    /// Returns the index of a read of one key: the key's own, or the whole table's if the key does not exist.
    pub(super) fn key_index(&self, key: &str) -> u64 {
        self.kv.get(key).map_or_else(|| self.kv_index(), |entry| entry.modify_index)
    }

    /// Returns the entries at and below a prefix.
    pub(super) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let entries = self.kv.range::<str, _>(from).map(|(_, entry)| entry);
        entries.take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// Returns the index of a read of a prefix: the highest index of the entries and the tombstones below it.
    ///
    /// Without entries and tombstones it is the index of the whole table. The empty prefix has the index of
    /// the whole table as well.
    pub(super) fn prefix_index(&self, prefix: &str) -> u64 {
        if prefix.is_empty() {
            return self.kv_index();
        }
        let live = self.below(prefix).map(|entry| entry.modify_index).max().unwrap_or(0);
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let tombstones = self.tombstones.range::<str, _>(from);
        let tombstones = tombstones.take_while(|(key, _)| key.starts_with(prefix));
        let dead = tombstones.map(|(_, grave)| grave.index).max().unwrap_or(0);
        match live.max(dead) {
            0 => self.kv_index(),
            index => index,
        }
    }

    /// Executes `set` and returns the written entry. Writing the present value moves no index.
    ///
    /// The entry keeps its session, but its lock index is reset to zero.
    pub(super) fn set(&mut self, index: u64, mut entry: Entry, undo: &mut Undo) -> Entry {
        entry.session = self.kv.get(&entry.key).map(|e| e.session.clone()).unwrap_or_default();
        self.put(index, entry, undo)
    }

    /// Writes the entry with the session it has.
    fn put(&mut self, index: u64, mut entry: Entry, undo: &mut Undo) -> Entry {
        let old = self.kv.get(&entry.key);
        entry.create_index = old.map_or(index, |old| old.create_index);
        if let Some(old) = old
            && old.same_as(&entry)
        {
            entry.modify_index = old.modify_index;
            return entry;
        }
        entry.modify_index = index;
        let old = self.kv.insert(entry.key.clone(), entry.clone());
        undo.entries.push((entry.key.clone(), old));
        self.tables.kvs = index;
        entry
    }

    /// Executes `cas`. An index of zero means that the key must not exist.
    pub(super) fn set_cas(
        &mut self,
        index: u64,
        entry: Entry,
        cas: u64,
        undo: &mut Undo,
    ) -> Option<Entry> {
        let current = self.kv.get(&entry.key).map_or(0, |e| e.modify_index);
        (current == cas).then(|| self.set(index, entry, undo))
    }

    /// Executes `lock`. Returns `None` if another session holds the lock, and an error if the session is
    /// invalid.
    pub(super) fn lock(
        &mut self,
        index: u64,
        mut entry: Entry,
        session: &str,
        undo: &mut Undo,
    ) -> Result<Option<Entry>, String> {
        self.valid_session(session)?;
        match self.kv.get(&entry.key) {
            Some(old) if old.session == session => entry.lock_index = old.lock_index,
            Some(old) if !old.session.is_empty() => return Ok(None),
            Some(old) => entry.lock_index = old.lock_index + 1,
            None => entry.lock_index = 1,
        }
        entry.session = session.to_owned();
        Ok(Some(self.put(index, entry, undo)))
    }

    /// Executes `unlock`. Returns `None` if the session does not hold the lock.
    pub(super) fn unlock(
        &mut self,
        index: u64,
        mut entry: Entry,
        session: &str,
        undo: &mut Undo,
    ) -> Result<Option<Entry>, String> {
        if session.is_empty() {
            return Err("missing session".to_owned());
        }
        let Some(old) = self.kv.get(&entry.key).filter(|old| old.session == session) else {
            return Ok(None);
        };
        entry.lock_index = old.lock_index;
        Ok(Some(self.put(index, entry, undo)))
    }

    /// Executes `delete`. Deleting a missing key moves no index.
    pub(super) fn delete(&mut self, index: u64, key: &str, undo: &mut Undo) {
        if let Some(old) = self.kv.remove(key) {
            undo.entries.push((key.to_owned(), Some(old)));
            self.add_tombstone(index, key, undo);
            self.tables.kvs = index;
        }
    }

    /// Executes `delete-cas`. Returns true also if the key does not exist, whatever the index.
    pub(super) fn delete_cas(&mut self, index: u64, key: &str, cas: u64, undo: &mut Undo) -> bool {
        match self.kv.get(key) {
            Some(old) if old.modify_index != cas => false,
            Some(_) => {
                self.delete(index, key, undo);
                true
            }
            None => true,
        }
    }

    /// Executes `delete-tree`. It leaves one tombstone with the name of the prefix, and none if the prefix is
    /// empty.
    ///
    /// So the index of a longer prefix falls back to its value from before the keys existed.
    pub(super) fn delete_tree(&mut self, index: u64, prefix: &str, undo: &mut Undo) {
        let keys: Vec<String> = self.below(prefix).map(|entry| entry.key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        for key in keys {
            let old = self.kv.remove(&key);
            undo.entries.push((key, old));
        }
        if !prefix.is_empty() {
            self.add_tombstone(index, prefix, undo);
        }
        self.tables.kvs = index;
    }

    fn add_tombstone(&mut self, index: u64, key: &str, undo: &mut Undo) {
        let end = self.now.after(TOMBSTONE_TTL).as_micros();
        let reaped_at = Instant::from_micros(
            end.div_ceil(TOMBSTONE_GRANULARITY).saturating_mul(TOMBSTONE_GRANULARITY),
        );
        let old = self.tombstones.insert(key.to_owned(), Tombstone { index, reaped_at });
        undo.tombstones.push((key.to_owned(), old));
        self.tables.tombstones = index;
    }

    /// Removes the expired tombstones. No index of a table moves, but the index of a prefix may fall.
    pub(super) fn reap(&mut self) {
        let now = self.now;
        if self.tombstones.values().any(|grave| grave.reaped_at <= now) {
            self.next_index();
            self.tombstones.retain(|_, grave| grave.reaped_at > now);
        }
    }

    /// Returns the time at which the next tombstone expires.
    pub(super) fn next_reap(&self) -> Option<Instant> {
        self.tombstones.values().map(|grave| grave.reaped_at).min()
    }

    /// Returns whether a lock delay applies to the key because the session that held it was lost.
    pub(super) fn lock_delayed(&self, key: &str) -> bool {
        self.lock_delays.get(key).is_some_and(|end| *end > self.now)
    }

    /// Releases or deletes the keys that a lost session held.
    pub(super) fn release_locks(&mut self, index: u64, id: &SessionId, session: &Session) {
        let held = self.kv.values().filter(|entry| entry.session == *id);
        let held: Vec<Entry> = held.cloned().collect();
        let mut undo = Undo::default();
        let (now, delay) = (self.now, session.lock_delay.min(MAX_LOCK_DELAY));
        self.lock_delays.retain(|_, end| *end > now);
        for mut entry in held {
            if !delay.is_zero() {
                self.lock_delays.insert(entry.key.clone(), now.after(delay));
            }
            match session.behavior {
                Behavior::Release => {
                    entry.session.clear();
                    self.put(index, entry, &mut undo);
                }
                Behavior::Delete => self.delete(index, &entry.key, &mut undo),
            }
        }
    }
}
