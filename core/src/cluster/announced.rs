//! The state of each object, and the state announced last.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fid_table::FidTable;
use crate::base::fid::{Fid, Object};
use crate::ha::note::{Note, ObjectState};

/// The types of objects with a state; all other objects are online.
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

/// The state of an object, and the state announced last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    /// The result of `state(object)`.
    pub(super) state: ObjectState,
    /// The state announced to links.
    pub(super) announced: ObjectState,
}

/// The states of all objects of types with a state.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    tables: [FidTable<Tracked>; STATEFUL.len()],
    /// All announced states, while they are unchanged. After a restart each of a thousand links needs them.
    snapshot: Option<Arc<[Note]>>,
}

impl Default for Announced {
    fn default() -> Self {
        Self { tables: LETTERS.map(FidTable::new), snapshot: None }
    }
}

impl Announced {
    /// Returns the state of any object, as [`Cluster::state`](super::Cluster::state) describes it.
    #[inline]
    pub(super) fn state(&self, fid: Fid) -> ObjectState {
        let Some(object) = fid.object() else { return ObjectState::Transient };
        match slot(object) {
            None => ObjectState::Online,
            Some(slot) => {
                let tracked = self.tables[slot].get(fid);
                tracked.map_or(ObjectState::Transient, |tracked| tracked.state)
            }
        }
    }

    /// Returns what is tracked of an object; `None` if it is unknown or its type has no state.
    pub(super) fn get(&self, fid: Fid) -> Option<Tracked> {
        self.tables[fid.object().and_then(slot)?].get(fid).copied()
    }

    /// Stores the state of an object. An object of a type without a state is left out.
    pub(super) fn set(&mut self, fid: Fid, tracked: Tracked) {
        let Some(slot) = fid.object().and_then(slot) else { return };
        let old = self.tables[slot].insert(fid, tracked);
        if old.is_none_or(|old| old.announced != tracked.announced) {
            self.snapshot = None;
        }
    }

    /// Returns the announced states of all objects, in the order of their fids.
    pub(super) fn snapshot(&mut self) -> Arc<[Note]> {
        let Self { tables, snapshot } = self;
        let all = snapshot.get_or_insert_with(|| {
            let all = tables.iter().flat_map(FidTable::iter);
            let all = all.map(|(fid, tracked)| Note { fid, state: tracked.announced });
            let mut all: Vec<Note> = all.collect();
            all.sort_unstable_by_key(|note| note.fid);
            all.into()
        });
        Arc::clone(all)
    }
}

/// Returns whether objects of this type have a state.
pub(super) fn is_stateful(object: Object) -> bool {
    slot(object).is_some()
}

/// Returns the index of a type's table of states; `None` for a type without a state.
fn slot(object: Object) -> Option<usize> {
    STATEFUL.iter().position(|stateful| *stateful == object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_the_states_announced_last() {
        let [first, second] = [Fid::process(1), Fid::process(2)];
        let tracked = |state, announced| Tracked { state, announced };
        let (online, failed) = (ObjectState::Online, ObjectState::Failed);
        let mut states = Announced::default();
        states.set(second, tracked(online, online));
        states.set(first, tracked(online, online));
        let note = |fid, state| Note { fid, state };
        let before = states.snapshot();
        assert_eq!(*before, [note(first, online), note(second, online)]);
        // What is not announced leaves it as it is.
        states.set(first, tracked(failed, online));
        assert!(Arc::ptr_eq(&before, &states.snapshot()));
        states.set(first, tracked(failed, failed));
        assert_eq!(*states.snapshot(), [note(first, failed), note(second, online)]);
        states.set(Fid::process(3), tracked(online, online));
        assert_eq!(states.snapshot().len(), 3);
    }
}
