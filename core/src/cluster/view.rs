//! The cluster: configuration, records and checks together, and `state(object)`, the one function
//! that answers, broadcasts and the simulator's model use.
//!
//! What happened between two calls is collected as *stale*; [`Cluster::settle`] works the states out
//! anew and says what is news.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::conf::{Conf, Process};
use super::fid_table::FidTable;
use super::health::{Check, Dirty, Health, Source, Verdict, host_of};
use super::liveness::Liveness;
use super::states::{self, ProcessRecord};
use crate::base::fid::{Fid, Object};
use crate::ha::note::{Note, ObjectState};
use crate::ha::process::{ProcessEventKind, ProcessType};

/// What is known, and for each object with a state what it is and what the links were told.
#[derive(Clone, Debug)]
pub struct Cluster {
    me: Fid,
    host: Box<str>,
    conf: Conf,
    records: BTreeMap<Fid, Stored>,
    health: Health,
    states: [FidTable<Tracked>; STATEFUL.len()],
    dirty: Dirty,
    /// Objects whose entry in the configuration has changed.
    dirty_objects: BTreeSet<Fid>,
    all_dirty: bool,
    /// The configuration was read anew.
    moved: bool,
    /// Others have written of processes of our node.
    overwritten: bool,
    /// Processes that have become another kind of process.
    retyped: Vec<(Fid, &'static str, &'static str)>,
    /// Processes elsewhere whose life has ended, which others have to be told.
    ended: BTreeSet<Fid>,
    pub(super) liveness: Liveness,
}

/// What links have to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The ends of lives: each is told, before all else, to everybody but the process itself.
    pub ends: Vec<(Fid, Vec<Note>)>,
    /// What is otherwise than it was told.
    pub notes: Vec<Note>,
}

/// The types of object that have a state; all others are online.
const STATEFUL: [Object; 7] = [
    Object::Process,
    Object::Service,
    Object::Sdev,
    Object::Drive,
    Object::Node,
    Object::Enclosure,
    Object::Controller,
];
const LETTERS: [u8; STATEFUL.len()] = *b"rsdknec";

/// The state of an object, and what the links were told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// `state(object)`.
    pub state: ObjectState,
    /// What links were told.
    pub announced: ObjectState,
}

/// What is in Consul under `processes/<fid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    /// `None` for a value that is not understood.
    record: Option<ProcessRecord>,
    /// `ModifyIndex`.
    index: u64,
}

impl Cluster {
    /// Nothing is known yet; `me` is our own process, on `host`.
    #[must_use]
    pub fn new(me: Fid, host: &str) -> Self {
        Self {
            me,
            host: host.into(),
            conf: Conf::default(),
            records: BTreeMap::new(),
            health: Health::default(),
            states: LETTERS.map(FidTable::new),
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

    /// The configuration.
    #[must_use]
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// The checks.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether a process is our own.
    #[must_use]
    pub fn is_me(&self, process: Fid) -> bool {
        process == self.me
    }

    /// Whether a process is configured on our own node.
    #[must_use]
    pub fn is_local(&self, process: Fid) -> bool {
        self.conf.host_of(process) == Some(&self.host)
    }

    /// The state of any object.
    ///
    /// Types without state (root, profile, pool, pver, …) are online; an object that should have
    /// one and is not configured, or whose type nobody knows, is transient. Never UNKNOWN, which
    /// receivers refuse.
    #[must_use]
    pub fn state(&self, fid: Fid) -> ObjectState {
        let Some(object) = fid.object() else { return ObjectState::Transient };
        match slot(object) {
            None => ObjectState::Online,
            Some(slot) => {
                self.states[slot].get(fid).map_or(ObjectState::Transient, |told| told.state)
            }
        }
    }

    /// All objects with a state, as a link that was away is told them.
    pub fn snapshot(&self) -> impl Iterator<Item = Note> {
        let all = self.states.iter().flat_map(FidTable::iter);
        all.map(|(fid, told)| Note { fid, state: told.announced })
    }

    /// What `processes/<fid>` says and its `ModifyIndex`; index 0 if there is no such key.
    #[must_use]
    pub fn record(&self, process: Fid) -> (Option<ProcessRecord>, u64) {
        self.records.get(&process).map_or((None, 0), |entry| (entry.record, entry.index))
    }

    /// How many entries are known: of the configuration, of `processes/`, of health.
    #[must_use]
    pub fn entries(&self) -> [usize; 3] {
        [self.conf.len(), self.records.len(), self.health.len()]
    }

    /// Takes over a configuration that was read at `index`; entries that were written since stay.
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

    /// The processes that another reading of the configuration has made another kind of process, from what
    /// and to what, since this was asked last.
    pub fn take_retyped(&mut self) -> Vec<(Fid, &'static str, &'static str)> {
        core::mem::take(&mut self.retyped)
    }

    /// Whether the configuration was read anew since this was asked last.
    pub fn take_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// Takes over one entry of the configuration, by its whole key, unless a newer one is known.
    pub fn apply_entry(&mut self, object: Fid, key: &str, value: &[u8], index: u64) {
        if self.conf.entry(object).is_none_or(|entry| entry.index < index) {
            self.overwrite_entry(object, key, value, index);
        }
    }

    /// Takes over one entry of the configuration that was read by itself: it is the truth, whatever
    /// index is known.
    pub fn overwrite_entry(&mut self, object: Fid, key: &str, value: &[u8], index: u64) {
        let path = key.strip_prefix("m0conf/").unwrap_or(key);
        if self.conf.apply(path, value, index) {
            self.dirty_objects.insert(object);
            self.dirty_objects.extend(self.conf.drive_of(object));
        }
    }

    /// An object's entry is gone: it cannot be changed any more; the next reading of the whole will
    /// not have it.
    pub fn remove_entry(&mut self, object: Fid) {
        self.conf.forget(object);
    }

    /// Forgets which writes the configuration's entries are of: Consul's indexes have begun anew.
    pub fn invalidate_conf(&mut self) {
        self.conf.forget_indexes();
    }

    /// Takes over a value of `processes/<fid>` that was read, unless a newer one is known.
    pub fn apply_record(&mut self, process: Fid, record: Option<ProcessRecord>, index: u64) {
        if self.apply_own_record(process, record, index) {
            self.overwritten |= self.is_local(process);
        }
    }

    /// Whether others have written of processes of our node since this was asked last.
    pub fn take_overwritten(&mut self) -> bool {
        core::mem::take(&mut self.overwritten)
    }

    /// Takes over a value of `processes/<fid>` that we wrote. Returns whether it is news.
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

    /// Takes over a value of `processes/<fid>` that was read by itself: it is the truth, whatever
    /// index is known.
    pub fn overwrite_record(&mut self, process: Fid, record: Option<ProcessRecord>, index: u64) {
        if let Some(known) = self.records.get_mut(&process) {
            known.index = known.index.min(index.saturating_sub(1));
        }
        self.apply_record(process, record, index);
    }

    /// Takes over a value of a complete reading at `reading`. What is known of a later index than the value's
    /// stays if it is newer than the whole reading; else it is of a history that Consul has gone back behind,
    /// as it does when a snapshot is restored.
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

    /// Drops the records that a complete reading at `index` did not have; what is newer stays.
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

    /// Forgets a key that Consul does not have (any more).
    pub fn remove_record(&mut self, process: Fid) {
        if self.records.remove(&process).is_some() {
            self.dirty.processes.insert(process);
        }
    }

    /// Forgets all records: Consul's indexes have begun anew.
    pub fn clear_records(&mut self) {
        self.records.clear();
        self.all_dirty = true;
    }

    /// Takes a check of a complete reading at `index`, unless a newer state of it is known.
    pub fn apply_check(&mut self, check: Check, index: u64) {
        self.health.apply(check, Source::Reading(index), &mut self.dirty);
    }

    /// Takes a check that was posted, if it is of a node that is configured, or of a process that is
    /// configured there, there are not too many of its kind, and the reading at `replica` does not know better: anybody may post.
    /// Returns whether it was taken.
    pub fn apply_posted(&mut self, check: Check, replica: u64, most: usize) -> bool {
        let host = host_of(&check.node);
        let configured = match check.process {
            Some(process) => self.conf.host_of(process) == Some(host),
            None => !self.conf.nodes_of(host).is_empty() && !self.health.is_renamed(&check.node),
        };
        let news = check.index > replica || !self.health.is_confirmed(&check);
        let taken = configured && news && self.health.alike(&check) < most;
        if taken {
            self.health.apply(check, Source::Post, &mut self.dirty);
        }
        taken
    }

    /// Drops posted checks of a later index than Consul has. Returns whether there were any.
    pub fn invalidate_posted(&mut self, index: u64) -> bool {
        self.health.invalidate_posted(index, &mut self.dirty)
    }

    /// Drops the checks that a complete reading at `index` did not have; what is newer stays.
    pub fn retain_checks(&mut self, index: u64, read: &BTreeSet<(Box<str>, Box<str>)>) {
        self.health.retain(index, read, &mut self.dirty);
    }

    /// Forgets all checks: Consul's indexes have begun anew.
    pub fn clear_checks(&mut self) {
        self.health.clear();
        self.all_dirty = true;
    }

    /// Whether an object has a state of its own; the others are what they are said to be.
    #[must_use]
    pub fn is_stateful(fid: Fid) -> bool {
        fid.object().is_none_or(|object| slot(object).is_some())
    }

    /// Works out the states anew that what was taken may have changed, and appends what links have
    /// to be told. `first`: nobody was told anything before, so nothing is news. Returns whether
    /// anything was taken since the last time.
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
        let before = core::mem::replace(&mut self.states, LETTERS.map(FidTable::new));
        let own = self.conf.own_objects();
        let own = own.filter_map(|object| Some((object, self.conf.own_state(object)?)));
        let mut all: Vec<(Fid, ObjectState)> = own.collect();
        for (process, entry) in self.conf.processes() {
            let state = self.process_state(process);
            all.push((process, state));
            all.extend(entry.services.iter().map(|service| (*service, state)));
        }
        for (fid, state) in all {
            let Some(slot) = fid.object().and_then(slot) else { continue };
            let told = before[slot].get(fid).map_or(state, |old| old.announced);
            // An object that is new to us is news to everybody, once anybody was told anything.
            let new = before[slot].get(fid).is_none() && !first;
            self.states[slot].insert(fid, Tracked { state, announced: told });
            if new {
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
        let Some(slot) = fid.object().and_then(slot) else { return };
        let entry = self.states[slot].entry(fid, || Tracked { state, announced: state });
        entry.state = state;
        if !covers(entry.announced, state, fid) {
            entry.announced = state;
            if !silently {
                news.push(Note { fid, state });
            }
        }
    }

    /// A life of a process has ended: it and its services are told as failed, which ends their
    /// sessions at the other processes, and then whatever else they are by now. For
    /// `state(object)` a stopped process is transient.
    pub fn announce_end(&mut self, process: Fid, news: &mut Changes) {
        let Some(entry) = self.conf.get_process(process) else { return };
        let fids = core::iter::once(process).chain(entry.services.iter().copied());
        let state = self.process_state(process);
        let mut ends = Vec::new();
        for fid in fids {
            let Some(slot) = fid.object().and_then(slot) else { continue };
            let Some(entry) = self.states[slot].get_mut(fid) else { continue };
            *entry = Tracked { state, announced: ObjectState::Failed };
            ends.push(Note { fid, state: ObjectState::Failed });
            news.notes.retain(|note| note.fid != fid);
            if !covers(entry.announced, state, fid) {
                entry.announced = state;
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
            // Where nobody vouches for it, only its own record counts.
            Verdict::Passing | Verdict::Unregistered => states::of_passing_process(record, settles),
        }
    }

    /// The event to be stored for `event`: a confd and the bridge itself have nothing to replay,
    /// so for them "started" is "recovered" (`hax.md` 1.11).
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

/// Where an object's state is kept; `None` for a type without one.
fn slot(object: Object) -> Option<usize> {
    STATEFUL.iter().position(|stateful| *stateful == object)
}

/// Whether who was told `told` need not be told `state`. A process that was told as failed is not
/// told as transient on top: that would take back half of the news.
fn covers(told: ObjectState, state: ObjectState, fid: Fid) -> bool {
    let of_process = matches!(fid.object(), Some(Object::Process | Object::Service));
    told == state || (of_process && told == ObjectState::Failed && state == ObjectState::Transient)
}

/// Whether a record that follows another is of a new life, or of the old one's end. Lives that began
/// and ended between two looks count too, as events only go forwards within a life.
fn ends_life(old: ProcessRecord, new: ProcessRecord) -> bool {
    let rank = |record: ProcessRecord| match record.state {
        ProcessEventKind::Starting => 0,
        ProcessEventKind::Started => 1,
        ProcessEventKind::DtmRecovered => 2,
        ProcessEventKind::Stopping => 3,
        ProcessEventKind::Stopped | ProcessEventKind::Undefined(_) => 4,
    };
    // m0mkfs lives for nobody else. When it runs, the life of the server whose fid it has is over.
    let lived = old.kind != ProcessType::Mkfs && rank(old) < 4;
    lived && (new.kind == ProcessType::Mkfs || rank(new) <= rank(old) || rank(new) == 4)
}
