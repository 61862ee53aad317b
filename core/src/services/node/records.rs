//! The records of this node in Consul: their first reading, and the watch of them.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::context::{Call, Cx, Timer};
use super::instance::Stage;
use super::writing::{AGAIN, Writing};
use super::{State, WATCH};
use crate::consul::json::{self, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::keeper::name::ServiceName;
use crate::services::fact::Fact;
use crate::services::model::keys::{self, Side};
use crate::services::model::name::TypeName;
use crate::services::model::record::{NodeRecord, Observed, Wanted};
use crate::services::model::stored::{self, Unusable};
use crate::store::txn;

/// The time after which a record that cannot be used is read again.
const UNUSABLE: Duration = Duration::from_secs(30);

impl State {
    /// Reads all records of this node. What was known of them is void.
    pub(super) fn load(&mut self, cx: &mut Cx<'_>) {
        self.is_loaded = false;
        if !core::mem::replace(&mut self.is_loading, true) {
            let node = &self.config.node;
            let names = keys::name(node, "");
            let trees = [keys::instances(node), names, keys::node(node)];
            txn::send(cx, Call::Load, &trees.map(|prefix| Op::get_tree(&prefix)));
        }
    }

    pub(super) fn on_loaded(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        self.is_loading = false;
        let txn::Outcome::Applied(results) = txn::Outcome::of(answer) else {
            return cx.retry(Timer::Load, &mut self.backoff);
        };
        self.backoff.reset();
        let entries: Vec<KvEntry<'_>> =
            results.into_iter().filter_map(|result| result.kv).collect();
        self.names.clear();
        (self.record, self.record_index) = (None, 0);
        for row in self.instances.values_mut() {
            (row.stored, row.stored_index) = (Observed::default(), 0);
            (row.wanted, row.wanted_index) = (None, 0);
            (row.is_wanted_frozen, row.is_observed_frozen) = (false, false);
        }
        let own = keys::node(&self.config.node);
        let names = keys::name(&self.config.node, "");
        for entry in &entries {
            if let Some(name) = entry.key.strip_prefix(&names).and_then(ServiceName::new) {
                let record = read(cx, entry);
                self.names.on_read(name, record, entry.modify_index);
            } else if *entry.key == own {
                self.record = read::<NodeRecord>(cx, entry);
                self.record_index = entry.modify_index;
            } else {
                self.take(cx, entry, true);
            }
        }
        self.is_loaded = true;
        let is_unusable = self.record_index > 0 && self.record.is_none();
        if is_unusable || self.names.has_frozen() {
            // No watch tells when it is corrected.
            let pause = cx.around(UNUSABLE);
            cx.arm(Timer::Load, pause);
        }
        // Another run may have begun meanwhile, so the number of this run is proved again.
        let run = self.record.as_ref().map(|record| record.run);
        if self.run.is_some() && self.run != run {
            self.run = None;
        }
        // A name that was being acquired is demanded anew.
        for row in self.instances.values_mut() {
            if row.live.as_ref().is_some_and(|live| live.stage == Stage::Naming) {
                row.on_not_begun();
            }
        }
        self.watch.send(cx, Call::Watch, WATCH);
    }

    pub(super) fn on_watched(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(answer) = self.watch.on_answer(cx, Timer::Watch, answer) else { return };
        let entries = if answer.status == 404 { Ok(Vec::new()) } else { json::parse(&answer.body) };
        match entries {
            Ok(entries) if self.is_loaded => self.on_entries(cx, &entries, answer.index),
            Ok(_) => {
                // What is being read may be from before this answer.
                self.watch.restart();
                return;
            }
            Err(why) => cx.emit(Fact::ConsulFailed { what: "the node's instances", why }),
        }
        self.watch.send(cx, Call::Watch, WATCH);
    }

    fn on_entries(&mut self, cx: &mut Cx<'_>, entries: &[KvEntry<'_>], index: u64) {
        // While observations are in flight, or are not in this answer yet, the answer says nothing of them. The
        // watch answers again once they are there.
        let is_writing = self.writing.as_ref().is_some_and(Writing::has_observations);
        let is_current = !is_writing && index >= self.written_index;
        let is_restored = index < self.watched_index
            || self.watch.has_nothing_new()
            || entries.iter().any(|entry| self.is_older(entry, is_current));
        self.watched_index = index;
        if is_restored {
            // Consul's history has begun anew: a snapshot was restored.
            self.written_index = 0;
            self.is_loaded = false;
            let pause = cx.around(AGAIN);
            return cx.arm(Timer::Load, pause);
        }
        let mut seen = BTreeSet::new();
        for entry in entries {
            seen.extend(self.take(cx, entry, is_current));
        }
        if is_current {
            let has = |kind: &TypeName, side| seen.contains(&(kind.clone(), side));
            let lost = |(kind, row): (&TypeName, &super::Instance)| {
                row.stored_index > 0 && !has(kind, Side::Observed)
                    || row.wanted_index > 0 && !has(kind, Side::Wanted)
            };
            if self.instances.iter().any(lost) {
                cx.emit(Fact::Rewritten { key: keys::instances(&self.config.node).into() });
                self.load(cx);
            }
        }
    }

    /// Returns whether an entry is older than the one that is known.
    fn is_older(&self, entry: &KvEntry<'_>, is_current: bool) -> bool {
        let place = keys::parse_instance(&entry.key);
        let row = place.as_ref().and_then(|(_, kind, _)| self.instances.get(kind));
        let (Some((_, _, side)), Some(row)) = (place, row) else { return false };
        match side {
            Side::Wanted => entry.modify_index < row.wanted_index,
            Side::Observed => is_current && entry.modify_index < row.stored_index,
        }
    }

    /// Takes an entry of an instance. Returns what it is about.
    fn take(
        &mut self,
        cx: &mut Cx<'_>,
        entry: &KvEntry<'_>,
        is_current: bool,
    ) -> Option<(TypeName, Side)> {
        let (_, kind, side) = keys::parse_instance(&entry.key)?;
        let row = self.row(&kind);
        let index = entry.modify_index;
        match side {
            Side::Wanted if row.wanted_index == index => {}
            Side::Wanted => {
                row.wanted_index = index;
                let wanted: Option<Wanted> = read(cx, entry);
                let row = self.row(&kind);
                row.is_wanted_frozen = wanted.is_none();
                row.wanted = wanted.or_else(|| row.wanted.take());
            }
            Side::Observed if row.stored_index == index || !is_current => {}
            Side::Observed => {
                let was_unknown = row.stored_index == 0 || row.is_observed_frozen;
                let is_new = was_unknown && row.seen == Observed::default();
                row.stored_index = index;
                let stored: Option<Observed> = read(cx, entry);
                let row = self.row(&kind);
                row.is_observed_frozen = stored.is_none();
                row.stored = stored.unwrap_or_default();
                if is_new {
                    row.seen = row.stored.clone();
                    self.found.push(kind.clone());
                }
            }
        }
        Some((kind, side))
    }
}

/// Reads a record. One that cannot be used is reported.
fn read<T: serde::de::DeserializeOwned>(cx: &mut Cx<'_>, entry: &KvEntry<'_>) -> Option<T> {
    let bytes = entry.bytes().ok_or_else(|| Unusable::Damaged("the value is no base64".into()));
    match bytes.and_then(|bytes| stored::decode(&bytes)) {
        Ok(record) => Some(record),
        Err(why) => {
            let why: Box<str> = format!("{why}").into();
            cx.emit(Fact::Unusable { key: (&*entry.key).into(), why });
            None
        }
    }
}
