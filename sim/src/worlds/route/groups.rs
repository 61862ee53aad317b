//! The groups of a world: redundancy nodes that both routers have, of which the holder of a lease acts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hax_core::route::{ConsulConfig, Rules, WithoutConsul};

use crate::engine::choice::Choice;
use crate::engine::swarm::pick;

/// The names of the groups. The router of the same number is the primary of a group.
pub(super) const GROUPS: [&str; 2] = ["a", "b"];

/// The flag of the parameter with a node's group.
pub(super) const GROUP_FLAG: &str = "-group";

/// Returns the number of the group of the redundancy node of this index.
pub(super) fn group_of(index: u16) -> Option<usize> {
    match index {
        11 | 12 => Some(0),
        13 | 14 => Some(1),
        _ => None,
    }
}

/// Returns the number of the group with this name.
pub(super) fn group_named(name: &str) -> Option<usize> {
    GROUPS.iter().position(|group| *group == name)
}

/// Returns the key of a group's lease.
pub(super) fn key(group: usize) -> String {
    format!("ha/route/{}", GROUPS[group])
}

/// Returns the address of a router as the next hop of the redundancy node of this index.
pub(super) fn hop(router: usize, index: u16) -> String {
    format!("10.0.{router}.{index}")
}

/// The configuration of both routers in a world with groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The validity of a proof of the lease, in seconds.
    pub hold: u64,
    /// The time for which a primary has to be well, in seconds.
    pub revert_after: u64,
    /// The period of sweeps, in seconds.
    pub sweep: u64,
    /// A primary that is well asks for the lease.
    pub preempts: bool,
    /// The members act while Consul does not answer.
    pub acts_alone: bool,
    /// The routers watch each other's service.
    pub watches: bool,
}

impl Groups {
    /// Draws a configuration.
    pub(super) fn draw(choice: &mut dyn Choice) -> Self {
        Self {
            hold: [3, 1, 2][pick(choice, 3)],
            revert_after: [5, 20][pick(choice, 2)],
            sweep: [30, 5][pick(choice, 2)],
            preempts: pick(choice, 4) < 3,
            acts_alone: pick(choice, 4) == 3,
            watches: pick(choice, 2) == 1,
        }
    }

    /// Returns the validity of a proof, in µs.
    pub(super) fn hold_us(&self) -> u64 {
        self.hold * 1_000_000
    }

    /// Returns the configuration of the server of this name. `other` is the name of the other router.
    pub(super) fn consul(&self, name: &str, other: &str) -> ConsulConfig {
        // The lease's own service is there as long as the other router has the lease or wants it.
        let peer = self.watches.then(|| format!("hax-route-{}-{other}", GROUPS[0]).into());
        ConsulConfig {
            name: name.into(),
            hold: Duration::from_secs(self.hold),
            revert_after: Duration::from_secs(self.revert_after),
            preempt: self.preempts,
            peer,
        }
    }

    pub(super) fn rules(&self) -> Rules {
        let grouped = if self.acts_alone { WithoutConsul::Act } else { WithoutConsul::Hold };
        Rules { grouped, ..Rules::default() }
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hold, revert_after, sweep, preempts, acts_alone, watches } = self;
        let flags = [preempts, acts_alone, watches].map(|flag| u8::from(*flag));
        let [preempts, acts_alone, watches] = flags;
        write!(f, "{hold},{revert_after},{sweep},{preempts},{acts_alone},{watches}")
    }
}

impl FromStr for Groups {
    type Err = &'static str;

    /// Parses the text of its `Display`, from a journal.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let numbers: Vec<u64> = text.split(',').filter_map(|number| number.parse().ok()).collect();
        let [hold, revert_after, sweep, preempts, acts_alone, watches] = numbers[..] else {
            return Err("a configuration of groups");
        };
        let [preempts, acts_alone, watches] = [preempts, acts_alone, watches].map(|n| n == 1);
        Ok(Self { hold, revert_after, sweep, preempts, acts_alone, watches })
    }
}
