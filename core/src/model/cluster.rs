//! The cluster: configuration, words and checks together, and `state(object)`, the one function
//! that answers, broadcasts and the simulator's model use.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::conf::Conf;
use super::health::{Check, Concerned, Health, Verdict};
use super::states::{self, ProcessWord};
use super::table::FidTable;
use crate::base::fid::{Fid, Object};
use crate::ha::note::{Note, ObjectState};
use crate::ha::process::{ProcessEventKind, ProcessType};

/// What is known, and for each object with a state what it is and what the links were told.
#[derive(Clone, Debug)]
pub struct Cluster {
    me: Fid,
    conf: Conf,
    words: BTreeMap<Fid, Word>,
    health: Health,
    states: [FidTable<Told>; STATEFUL.len()],
    stale: Concerned,
    all_stale: bool,
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
pub struct Told {
    /// `state(object)`.
    pub state: ObjectState,
    /// What links were told.
    pub told: ObjectState,
}

/// What is in Consul under `processes/<fid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    /// `None` for a value that is not understood.
    word: Option<ProcessWord>,
    /// `ModifyIndex`.
    index: u64,
}

impl Cluster {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(me: Fid) -> Self {
        Self {
            me,
            conf: Conf::default(),
            words: BTreeMap::new(),
            health: Health::default(),
            states: LETTERS.map(FidTable::new),
            stale: Concerned::default(),
            all_stale: false,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn conf(&self) -> &Conf {
        &self.conf
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
        all.map(|(fid, told)| Note { fid, state: told.told })
    }

    /// What `processes/<fid>` says and its `ModifyIndex`; index 0 if there is no such key.
    #[must_use]
    pub fn word(&self, process: Fid) -> (Option<ProcessWord>, u64) {
        self.words.get(&process).map_or((None, 0), |entry| (entry.word, entry.index))
    }

    /// Takes over a configuration.
    pub fn take_conf(&mut self, conf: Conf) {
        self.conf = conf;
        self.all_stale = true;
    }

    /// Takes over a value of `processes/<fid>`, unless a newer one is known.
    pub fn take_word(&mut self, process: Fid, word: Option<ProcessWord>, index: u64) {
        let old = self.words.get(&process);
        if old.is_none_or(|old| old.index < index) {
            self.words.insert(process, Word { word, index });
            self.stale.processes.insert(process);
        }
    }

    /// Drops the words that a complete reading at `index` did not have; what is newer stays.
    pub fn retain_words(&mut self, index: u64, read: &BTreeSet<Fid>) {
        let stale = &mut self.stale.processes;
        self.words.retain(|fid, entry| {
            let keep = entry.index > index || read.contains(fid);
            if !keep {
                stale.insert(*fid);
            }
            keep
        });
    }

    /// Forgets a key that Consul does not have (any more).
    pub fn forget_word(&mut self, process: Fid) {
        if self.words.remove(&process).is_some() {
            self.stale.processes.insert(process);
        }
    }

    /// Forgets all words: Consul's indexes have begun anew.
    pub fn clear_words(&mut self) {
        self.words.clear();
        self.all_stale = true;
    }

    /// Takes a check unless a newer state of it is known.
    pub fn take_check(&mut self, check: Check) {
        self.health.take(check, &mut self.stale);
    }

    /// Drops the checks that a complete reading at `index` did not have; what is newer stays.
    pub fn retain_checks(&mut self, index: u64, read: &BTreeSet<(Box<str>, Box<str>)>) {
        self.health.retain(index, read, &mut self.stale);
    }

    /// Forgets all checks: Consul's indexes have begun anew.
    pub fn clear_checks(&mut self) {
        self.health.clear();
        self.all_stale = true;
    }

    /// Works out the states anew that what was taken may have changed, and appends what links have
    /// to be told. `first`: nobody was told anything before, so nothing is news.
    pub fn settle(&mut self, first: bool, news: &mut Vec<Note>) {
        if self.all_stale {
            self.settle_all(first, news);
            return;
        }
        let stale = core::mem::take(&mut self.stale);
        let mut processes = stale.processes;
        if !stale.hosts.is_empty() {
            let on_host = self.conf.processes().filter(|(_, process)| {
                self.conf.host(process.node).is_some_and(|host| stale.hosts.contains(host))
            });
            processes.extend(on_host.map(|(fid, _)| fid));
        }
        for process in processes {
            self.settle_process(process, first, news);
        }
    }

    fn settle_all(&mut self, first: bool, news: &mut Vec<Note>) {
        self.all_stale = false;
        self.stale = Concerned::default();
        let before = core::mem::replace(&mut self.states, LETTERS.map(FidTable::new));
        let own: Vec<_> = self.conf.own_states().collect();
        let processes: Vec<Fid> = self.conf.processes().map(|(fid, _)| fid).collect();
        let mut all = own;
        for process in processes {
            let state = self.process_state(process);
            all.push((process, state));
            let services = self.conf.get_process(process).map_or(&[][..], |p| &p.services);
            all.extend(services.iter().map(|service| (*service, state)));
        }
        for (fid, state) in all {
            let Some(slot) = fid.object().and_then(slot) else { continue };
            let told = before[slot].get(fid).map_or(state, |old| old.told);
            // An object that is new to us is news to everybody, once anybody was told anything.
            let new = before[slot].get(fid).is_none() && !first;
            self.states[slot].insert(fid, Told { state, told });
            if new {
                news.push(Note { fid, state });
            } else {
                self.tell(fid, state, first, news);
            }
        }
    }

    fn settle_process(&mut self, process: Fid, first: bool, news: &mut Vec<Note>) {
        let Some(entry) = self.conf.get_process(process) else { return };
        let services = entry.services.clone();
        let state = self.process_state(process);
        // m0mkfs comes and goes under its server's fid; that is nobody else's business.
        let mkfs = self.word(process).0.is_some_and(|word| word.kind == ProcessType::Mkfs);
        for fid in core::iter::once(process).chain(services) {
            self.tell(fid, state, first || mkfs, news);
        }
    }

    fn tell(&mut self, fid: Fid, state: ObjectState, silently: bool, news: &mut Vec<Note>) {
        let Some(slot) = fid.object().and_then(slot) else { return };
        let entry = self.states[slot].entry(fid, || Told { state, told: state });
        entry.state = state;
        if !says(entry.told, state, fid) {
            entry.told = state;
            if !silently {
                news.push(Note { fid, state });
            }
        }
    }

    /// A process said that it has stopped: it and its services are told as failed, which ends
    /// their sessions at the other processes. For `state(object)` they are transient.
    pub fn tell_stopped(&mut self, process: Fid, news: &mut Vec<Note>) {
        let Some(entry) = self.conf.get_process(process) else { return };
        let services = entry.services.clone();
        for fid in core::iter::once(process).chain(services) {
            let Some(slot) = fid.object().and_then(slot) else { continue };
            if let Some(entry) = self.states[slot].get_mut(fid) {
                entry.told = ObjectState::Failed;
                news.push(Note { fid, state: ObjectState::Failed });
            }
        }
    }

    fn process_state(&self, process: Fid) -> ObjectState {
        let Some(entry) = self.conf.get_process(process) else { return ObjectState::Transient };
        let word = self.word(process).0;
        let settles = process == self.me || entry.confd || entry.hax;
        match self.health.verdict(process, self.conf.host(entry.node)) {
            Verdict::Failing => ObjectState::Transient,
            Verdict::Passing => states::of_passing_process(word, settles),
            // Nobody vouches for it: only its own word counts.
            Verdict::Unregistered if word.is_none() => ObjectState::Transient,
            Verdict::Unregistered => states::of_passing_process(word, settles),
        }
    }

    /// The event to be stored for `event`: a confd and the bridge itself have nothing to replay,
    /// so for them "started" is "recovered" (`hax.md` 1.11).
    #[must_use]
    pub fn stored_event(&self, process: Fid, word: ProcessWord) -> ProcessWord {
        let confd = || self.conf.get_process(process).is_some_and(|entry| entry.confd);
        let settles = process == self.me || (word.kind == ProcessType::M0d && confd());
        match word.state {
            ProcessEventKind::Started if settles => {
                ProcessWord { state: ProcessEventKind::DtmRecovered, ..word }
            }
            _ => word,
        }
    }
}

/// Where an object's state is kept; `None` for a type without one.
fn slot(object: Object) -> Option<usize> {
    STATEFUL.iter().position(|stateful| *stateful == object)
}

/// Whether who was told `told` need not be told `state`. A process that was told as failed is not
/// told as transient on top: that would take back half of the news.
fn says(told: ObjectState, state: ObjectState, fid: Fid) -> bool {
    let of_process = matches!(fid.object(), Some(Object::Process | Object::Service));
    told == state || (of_process && told == ObjectState::Failed && state == ObjectState::Transient)
}
