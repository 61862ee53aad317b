//! The cluster: configuration, records and checks together, and `state(object)`, the one function used by
//! replies, broadcasts and the simulator's model.
//!
//! Changes between two calls are collected as *dirty*. [`Cluster::recompute`] computes these states again.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::announced::{Announced, Tracked, is_stateful};
use super::conf::{Conf, Process};
use super::health::{Check, Dirty, Health, Source, Verdict, host_of};
use super::liveness::Liveness;
use super::states::{self, ProcessRecord};
use crate::base::fid::{Fid, Object};
use crate::ha::note::{Note, ObjectState};
use crate::ha::process::{ProcessEventKind, ProcessType};

/// The known data of the cluster, and the current and announced state of each object.
#[derive(Clone, Debug)]
pub struct Cluster {
    me: Fid,
    host: Box<str>,
    conf: Conf,
    records: BTreeMap<Fid, Stored>,
    health: Health,
    states: Announced,
    dirty: Dirty,
    /// The objects with a changed entry in the configuration.
    dirty_objects: BTreeSet<Fid>,
    all_dirty: bool,
    /// The configuration was read again.
    moved: bool,
    /// Other writers have changed records of processes of our node.
    overwritten: bool,
    /// The processes with a changed kind.
    retyped: Vec<(Fid, &'static str, &'static str)>,
    /// The remote processes with an ended life, to be announced.
    ended: BTreeSet<Fid>,
    pub(super) liveness: Liveness,
}

/// The changes to announce to links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The ends of lives. Each is announced before all other notes, to all links except the process's own.
    pub ends: Vec<(Fid, Vec<Note>)>,
    /// The objects with a state other than the announced one.
    pub notes: Vec<Note>,
}

/// The entry `processes/<fid>` in Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    /// The record; `None` for a malformed value.
    record: Option<ProcessRecord>,
    /// The `ModifyIndex`.
    index: u64,
}

impl Cluster {
    /// Creates a cluster without data; `me` is our own process, on `host`.
    #[must_use]
    pub fn new(me: Fid, host: &str) -> Self {
        Self {
            me,
            host: host.into(),
            conf: Conf::default(),
            records: BTreeMap::new(),
            health: Health::default(),
            states: Announced::default(),
            dirty: Dirty::default(),
            dirty_objects: BTreeSet::new(),
            all_dirty: false,
            moved: false,
            overwritten: false,
            retyped: Vec::new(),
            ended: BTreeSet::new(),
            liveness: Liveness::default(),
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// Returns the checks.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns whether a process is our own.
    #[must_use]
    pub fn is_me(&self, process: Fid) -> bool {
        process == self.me
    }

    /// Returns whether a process is configured on our own node.
    #[must_use]
    pub fn is_local(&self, process: Fid) -> bool {
        self.conf.host_of(process) == Some(&self.host)
    }

    /// Returns the state of any object.
    ///
    /// Types without a state (root, profile, pool, pver, …) are online. An unconfigured object of a type with
    /// a state is transient, and so is an object of an unknown type. The result is never UNKNOWN, which
    /// receivers refuse.
    #[must_use]
    pub fn state(&self, fid: Fid) -> ObjectState {
        self.states.state(fid)
    }

    /// Returns the announced states of all objects, as sent to a returning link. It is the same slice while
    /// no state changes.
    pub fn snapshot(&mut self) -> Arc<[Note]> {
        self.states.snapshot()
    }

    /// Returns the record in `processes/<fid>` and its `ModifyIndex`; index 0 if the key does not exist.
    #[must_use]
    pub fn record(&self, process: Fid) -> (Option<ProcessRecord>, u64) {
        self.records.get(&process).map_or((None, 0), |entry| (entry.record, entry.index))
    }

    /// Returns the numbers of known entries: of the configuration, of `processes/`, and of health.
    #[must_use]
    pub fn entries(&self) -> [usize; 3] {
        [self.conf.len(), self.records.len(), self.health.len()]
    }

    /// Applies a configuration read at `index`; entries written since are kept.
    pub fn apply_conf(&mut self, mut conf: Conf, index: u64) {
        conf.keep_newer(&self.conf, index);
        conf.resolve(|host| self.health.knows(host));
        for (process, entry) in conf.processes() {
            let before = self.conf.get_process(process).map(Process::kind);
            if let Some(before) = before.filter(|before| *before != entry.kind()) {
                self.retyped.push((process, before, entry.kind()));
            }
        }
        self.conf = conf;
        self.all_dirty = true;
        self.moved = true;
    }

    /// Removes and returns the processes with a changed kind after a new read of the configuration, with the
    /// old and the new kind.
    pub fn take_retyped(&mut self) -> Vec<(Fid, &'static str, &'static str)> {
        core::mem::take(&mut self.retyped)
    }

    /// Returns whether the configuration was read again since the last call of this function.
    pub fn take_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// Applies one entry of the configuration by its whole key, unless a newer one is known.
    pub fn apply_entry(&mut self, object: Fid, key: &str, value: &[u8], index: u64) {
        if self.conf.entry(object).is_none_or(|entry| entry.index < index) {
            self.overwrite_entry(object, key, value, index);
        }
    }

    /// Applies one entry of the configuration from a read of its key. It is authoritative whatever index is
    /// known.
    pub fn overwrite_entry(&mut self, object: Fid, key: &str, value: &[u8], index: u64) {
        let path = key.strip_prefix("m0conf/").unwrap_or(key);
        if self.conf.apply(path, value, index) {
            self.dirty_objects.insert(object);
            self.dirty_objects.extend(self.conf.drive_of(object));
        }
    }

    /// Removes an object's entry, so the object cannot be changed any more. The object disappears with the
    /// next complete read.
    pub fn remove_entry(&mut self, object: Fid) {
        self.conf.forget(object);
    }

    /// Resets the indexes of the configuration's entries after Consul's indexes have restarted.
    pub fn invalidate_conf(&mut self) {
        self.conf.forget_indexes();
    }

    /// Applies a value of `processes/<fid>` from a read, unless a newer one is known.
    pub fn apply_record(&mut self, process: Fid, record: Option<ProcessRecord>, index: u64) {
        if self.apply_own_record(process, record, index) {
            self.overwritten |= self.is_local(process);
        }
    }

    /// Returns whether other writers have changed records of processes of our node since the last call of
    /// this function.
    pub fn take_overwritten(&mut self) -> bool {
        core::mem::take(&mut self.overwritten)
    }

    /// Applies a value of `processes/<fid>` from our own write. Returns whether it is new.
    pub fn apply_own_record(
        &mut self,
        process: Fid,
        record: Option<ProcessRecord>,
        index: u64,
    ) -> bool {
        let old = self.records.get(&process);
        let news = old.is_none_or(|old| old.index < index);
        if news {
            if let (Some(old), Some(new)) = (old.and_then(|old| old.record), record)
                && ends_life(old, new)
                && !self.is_local(process)
            {
                self.ended.insert(process);
            }
            self.records.insert(process, Stored { record, index });
            self.dirty.processes.insert(process);
        }
        news
    }

    /// Applies a value of `processes/<fid>` from a read of its key. It is authoritative whatever index is
    /// known.
    pub fn overwrite_record(&mut self, process: Fid, record: Option<ProcessRecord>, index: u64) {
        if let Some(known) = self.records.get_mut(&process) {
            known.index = known.index.min(index.saturating_sub(1));
        }
        self.apply_record(process, record, index);
    }

    /// Applies a value from a complete read at `reading`. A known record with a larger index than the value's
    /// is kept if it is newer than the whole read. Otherwise it belongs to a history that Consul has
    /// abandoned, for example by restoring a snapshot.
    pub fn apply_read_record(
        &mut self,
        process: Fid,
        record: Option<ProcessRecord>,
        index: u64,
        reading: u64,
    ) {
        let known = self.records.get(&process).map_or(0, |known| known.index);
        if known > index && known <= reading {
            self.overwrite_record(process, record, index);
        } else {
            self.apply_record(process, record, index);
        }
    }

    /// Drops the records missing in a complete read at `index`; newer records are kept.
    pub fn retain_records(&mut self, index: u64, read: &BTreeSet<Fid>) {
        let stale = &mut self.dirty.processes;
        self.records.retain(|fid, entry| {
            let keep = entry.index > index || read.contains(fid);
            if !keep {
                stale.insert(*fid);
            }
            keep
        });
    }

    /// Removes the record of a key missing in Consul.
    pub fn remove_record(&mut self, process: Fid) {
        if self.records.remove(&process).is_some() {
            self.dirty.processes.insert(process);
        }
    }

    /// Forgets all records after Consul's indexes have restarted.
    pub fn clear_records(&mut self) {
        self.records.clear();
        self.all_dirty = true;
    }

    /// Applies a check from a complete read at `index`, unless a newer state of it is known.
    pub fn apply_check(&mut self, check: Check, index: u64) {
        self.health.apply(check, Source::Reading(index), &mut self.dirty);
    }

    /// Applies a posted check if its node or process is configured, not too many similar checks are known,
    /// and it is newer than the replica: anybody may post. An older one is applied only if no read has shown
    /// a check of its node or process, since such a read knows better. Returns whether it was applied.
    pub fn apply_posted(&mut self, check: Check, replica: u64, most: usize) -> bool {
        let host = host_of(&check.node);
        let configured = match check.process {
            Some(process) => self.conf.host_of(process) == Some(host),
            None => !self.conf.nodes_of(host).is_empty() && !self.health.is_renamed(&check.node),
        };
        let news = check.index > replica || !self.health.is_shown(&check);
        let taken = configured && news && self.health.alike(&check) < most;
        if taken {
            self.health.apply(check, Source::Post, &mut self.dirty);
        }
        taken
    }

    /// Drops the posted checks with a larger index than Consul's. Returns whether there were any.
    pub fn invalidate_posted(&mut self, index: u64) -> bool {
        self.health.invalidate_posted(index, &mut self.dirty)
    }

    /// Drops the checks missing in a complete read at `index`; newer checks are kept.
    pub fn retain_checks(&mut self, index: u64, read: &BTreeSet<(Box<str>, Box<str>)>) {
        self.health.retain(index, read, &mut self.dirty);
    }

    /// Forgets all checks after Consul's indexes have restarted.
    pub fn clear_checks(&mut self) {
        self.health.clear();
        self.all_dirty = true;
    }

    /// Returns whether an object's type has a state here. Notes about other types are passed on unchanged.
    #[must_use]
    pub fn is_stateful(fid: Fid) -> bool {
        fid.object().is_none_or(is_stateful)
    }

    /// Recomputes the dirty states and appends the changes to announce. Returns whether anything was dirty.
    /// If `first`, nothing was announced before, and the states are recorded without an announcement.
    pub fn recompute(&mut self, first: bool, news: &mut Changes) -> bool {
        let ended = core::mem::take(&mut self.ended);
        if !self.dirty.hosts.is_empty() && self.conf.resolve(|host| self.health.knows(host)) {
            (self.all_dirty, self.moved) = (true, true);
        }
        let changed =
            self.all_dirty || !self.dirty_objects.is_empty() || self.dirty != Dirty::default();
        if self.all_dirty {
            self.recompute_all(first, news);
        } else {
            let stale = core::mem::take(&mut self.dirty);
            let mut processes = stale.processes;
            for host in &stale.hosts {
                processes.extend(self.conf.processes_of(host));
            }
            for object in core::mem::take(&mut self.dirty_objects) {
                if let Some(state) = self.conf.own_state(object) {
                    self.announce(object, state, first, &mut news.notes);
                }
            }
            for process in processes {
                self.recompute_process(process, first, &mut news.notes);
            }
        }
        if !first {
            ended.into_iter().for_each(|process| self.announce_end(process, news));
        }
        changed
    }

    fn recompute_all(&mut self, first: bool, news: &mut Changes) {
        self.all_dirty = false;
        self.dirty = Dirty::default();
        self.dirty_objects.clear();
        self.assess_all();
        let before = core::mem::take(&mut self.states);
        let own = self.conf.own_objects();
        let own = own.filter_map(|object| Some((object, self.conf.own_state(object)?)));
        let mut all: Vec<(Fid, ObjectState)> = own.collect();
        for (process, entry) in self.conf.processes() {
            let state = self.process_state(process);
            all.push((process, state));
            all.extend(entry.services.iter().map(|service| (*service, state)));
        }
        for (fid, state) in all {
            if !fid.object().is_some_and(is_stateful) {
                continue;
            }
            let old = before.get(fid);
            let announced = old.map_or(state, |old| old.announced);
            self.states.set(fid, Tracked { state, announced });
            // An object that is new here is announced, unless nothing was announced before.
            if old.is_none() && !first {
                news.notes.push(Note { fid, state });
            } else {
                self.announce(fid, state, first, &mut news.notes);
            }
        }
    }

    fn recompute_process(&mut self, process: Fid, first: bool, news: &mut Vec<Note>) {
        let Some(entry) = self.conf.get_process(process) else { return };
        let services = entry.services.clone();
        let state = self.process_state(process);
        self.assess(process);
        for fid in core::iter::once(process).chain(services) {
            self.announce(fid, state, first, news);
        }
    }

    fn announce(&mut self, fid: Fid, state: ObjectState, silently: bool, news: &mut Vec<Note>) {
        let announced = self.states.get(fid).map_or(state, |old| old.announced);
        if covers(announced, state, fid) {
            return self.states.set(fid, Tracked { state, announced });
        }
        self.states.set(fid, Tracked { state, announced: state });
        if !silently {
            news.push(Note { fid, state });
        }
    }

    /// Announces the end of a process's life: the process and its services are announced as failed, which
    /// ends their sessions at other processes, then with their current state, TRANSIENT for a stopped
    /// process.
    pub fn announce_end(&mut self, process: Fid, news: &mut Changes) {
        let Some(entry) = self.conf.get_process(process) else { return };
        let fids = core::iter::once(process).chain(entry.services.iter().copied());
        let state = self.process_state(process);
        let mut ends = Vec::new();
        for fid in fids {
            if self.states.get(fid).is_none() {
                continue;
            }
            let failed = ObjectState::Failed;
            ends.push(Note { fid, state: failed });
            news.notes.retain(|note| note.fid != fid);
            if covers(failed, state, fid) {
                self.states.set(fid, Tracked { state, announced: failed });
            } else {
                self.states.set(fid, Tracked { state, announced: state });
                news.notes.push(Note { fid, state });
            }
        }
        news.ends.push((process, ends));
    }

    fn process_state(&self, process: Fid) -> ObjectState {
        let Some(entry) = self.conf.get_process(process) else { return ObjectState::Transient };
        let record = self.record(process).0;
        let settles = process == self.me || entry.confd || entry.hax;
        match self.health.verdict(process, self.conf.host(entry.node)) {
            Verdict::Failing => ObjectState::Transient,
            // Without a check only the process's own record counts.
            Verdict::Passing | Verdict::Unregistered => states::of_passing_process(record, settles),
        }
    }

    /// Returns the record to store for a reported one. A confd and the bridge itself have nothing to replay,
    /// so "started" is stored as "recovered" for them (`hax.md` 1.11).
    #[must_use]
    pub fn stored_event(&self, process: Fid, record: ProcessRecord) -> ProcessRecord {
        let confd = || self.conf.get_process(process).is_some_and(|entry| entry.confd);
        let settles = process == self.me || (record.kind == ProcessType::M0d && confd());
        if record.state == ProcessEventKind::Started && settles {
            return ProcessRecord { state: ProcessEventKind::DtmRecovered, ..record };
        }
        record
    }
}

/// Returns whether the announced state `told` makes an announcement of `state` unnecessary. A process
/// announced as failed is not announced as transient after that: it would revoke half of the announcement.
fn covers(told: ObjectState, state: ObjectState, fid: Fid) -> bool {
    let of_process = matches!(fid.object(), Some(Object::Process | Object::Service));
    told == state || (of_process && told == ObjectState::Failed && state == ObjectState::Transient)
}

/// Returns whether the second record belongs to a new life or ends the old one. Events only go forwards
/// within a life, so this covers lives that began and ended between two reads.
fn ends_life(old: ProcessRecord, new: ProcessRecord) -> bool {
    let rank = |record: ProcessRecord| match record.state {
        ProcessEventKind::Starting => 0,
        ProcessEventKind::Started => 1,
        ProcessEventKind::DtmRecovered => 2,
        ProcessEventKind::Stopping => 3,
        ProcessEventKind::Stopped | ProcessEventKind::Undefined(_) => 4,
    };
    // Other processes do not see m0mkfs. When it runs, the life of the server with the same fid has ended.
    let lived = old.kind != ProcessType::Mkfs && rank(old) < 4;
    lived && (new.kind == ProcessType::Mkfs || rank(new) <= rank(old) || rank(new) == 4)
}
