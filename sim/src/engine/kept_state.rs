//! The state that a machine keeps for its next life: it outlives the machine, and may be damaged meanwhile.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hax_core::state::{Command, Slots, VALUE_MAX};

/// The maximum number of changes that an older copy lacks.
const OLDER_MAX: usize = 12;

/// The slots of one host.
#[derive(Debug, Default)]
pub(crate) struct KeptState {
    slots: BTreeMap<u32, Bytes>,
    /// The former values of the last changes.
    former: VecDeque<(u32, Option<Bytes>)>,
}

impl KeptState {
    pub(super) fn execute(&mut self, command: Command) {
        let (slot, former) = match command {
            Command::Keep { slot, value } => {
                assert!(value.len() <= VALUE_MAX, "a value of {} bytes", value.len());
                (slot, self.slots.insert(slot, value))
            }
            Command::Empty { slot } => (slot, self.slots.remove(&slot)),
        };
        if self.former.len() == OLDER_MAX {
            self.former.pop_front();
        }
        self.former.push_back((slot, former));
    }

    /// Returns the number of slots in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns what the next life finds.
    pub(crate) fn found(&self) -> Slots {
        self.slots.iter().map(|(slot, value)| (*slot, value.clone())).collect()
    }

    /// Loses all values.
    pub(crate) fn lose(&mut self) {
        self.slots.clear();
        self.former.clear();
    }

    /// Cuts or changes each value. `choose` draws a number below the given one.
    pub(crate) fn damage(&mut self, mut choose: impl FnMut(u64) -> u64) {
        for value in self.slots.values_mut() {
            let place = usize::try_from(choose(value.len() as u64)).unwrap_or(0);
            if choose(2) == 0 {
                value.truncate(place);
            } else {
                let mut bytes = value.to_vec();
                bytes[place] ^= 1 << choose(8);
                *value = bytes.into();
            }
        }
        self.former.clear();
    }

    /// Takes back the last changes.
    pub(crate) fn age(&mut self, changes: usize) {
        for _ in 0..changes {
            match self.former.pop_back() {
                Some((slot, Some(value))) => drop(self.slots.insert(slot, value)),
                Some((slot, None)) => drop(self.slots.remove(&slot)),
                None => {}
            }
        }
    }
}
