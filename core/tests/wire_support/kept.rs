//! The states of links that outlive hax, and the deaths of hax between two outputs.

use hax_core::state;

use super::world::World;

impl World {
    /// Returns whether hax dies before its next output.
    pub(super) fn dies(&mut self) -> bool {
        let Some(left) = &mut self.dies_after else { return !self.is_alive(0) };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.trace.push(format!("{:>10} hax dies", self.now));
            self.kill(0);
        }
        !self.is_alive(0)
    }

    pub(super) fn on_state(&mut self, command: state::Command) {
        let slots = self.slots.as_mut().expect("states are kept if the configuration says so");
        match command {
            state::Command::Keep { slot, value } => {
                assert!(value.len() <= state::VALUE_MAX);
                slots.insert(slot, value);
            }
            state::Command::Empty { slot } => drop(slots.remove(&slot)),
        }
    }
}
