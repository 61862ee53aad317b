//! The drawn configuration of a world of services, and the acts on the world.

use std::fmt;

use crate::engine::Odds;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An act on the world.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act {
            $($(#[$doc])* $name,)*
        }

        impl Act {
            /// All acts.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];
        }
    };
}

acts! {
    /// A client starts a type.
    Start,
    /// A client stops a type.
    Stop,
    /// A client restarts a type.
    Restart,
    /// A client defines a type anew.
    Define,
    /// A client stores a parameter.
    Configure,
    /// A client reads something.
    Look,
    /// A client sends a wrong request.
    Wrong,
    /// A client opens a stream of all changes.
    Stream,
    /// Many clients start a type at once.
    Crowd,
    /// A process is killed.
    Death,
    /// A process ends with success.
    Success,
    /// The instances of a type end soon after each start, for a while.
    Breakage,
    /// A process fails its checks for a while.
    Sickness,
    /// A process hangs in a system call for a while.
    Hang,
    /// A process starts another one.
    Fork,
    /// hax dies.
    Kill,
    /// hax dies after some of its next outputs.
    KillSoon,
    /// hax is frozen for a while.
    Freeze,
    /// hax is stopped and starts again.
    StopHax,
    /// The keeper dies.
    KillKeeper,
    /// The keeper dies after some of its next outputs.
    KillKeeperSoon,
    /// The keeper is frozen for a while.
    FreezeKeeper,
    /// The keeper is gone for longer.
    AbsentKeeper,
    /// The keeper's disk is full for a while.
    FullDisk,
    /// Another program starts an instance.
    Stranger,
    /// A node is rebooted.
    Reboot,
    /// An agent is cut off from the servers.
    CutAgent,
    /// hax is cut off from its agent.
    Part,
    /// The servers elect another leader.
    Election,
    /// The servers have no leader for a while.
    Headless,
    /// Consul refuses all calls for a while.
    ConsulDown,
    /// A snapshot of Consul is taken or restored.
    Restore,
    /// The wall clocks jump.
    Clock,
    /// Another writer removes what a node has written.
    Meddle,
    /// Another writer damages a record, or a later version of hax writes it.
    Damage,
}

/// A drawn configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The probabilities of the faults of every world.
    pub odds: Odds,
    /// The probability that an instance does not do well, in thousandths.
    pub fates: u64,
    /// The probability of a slow message between hax and a keeper, in thousandths.
    pub slow_keeper: u64,
    /// The probability that a keeper's disk is slow, in thousandths.
    pub slow_disks: u64,
    /// Whether the keepers' folders survive a reboot.
    pub keeps_folder: bool,
    /// The TTL and the lock delay of the leases, in s.
    pub lease: (u64, u64),
    /// The number of types.
    pub types: usize,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
}

impl Swarm {
    /// Draws a configuration.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut odds = Odds::draw(choice);
        odds.server_lag_ms = [0, 0, 100][pick(choice, 3)];
        let fates = [0, 100, 500][pick(choice, 3)];
        let slow_keeper = [0, 30, 300][pick(choice, 3)];
        let slow_disks = [0, 100, 500][pick(choice, 3)];
        let keeps_folder = pick(choice, 2) == 1;
        let lease = ([3, 1][pick(choice, 2)], [1, 5][pick(choice, 2)]);
        let types = [6, 2, 4][pick(choice, 3)];
        let mut acts = [0; Act::ALL.len()];
        draw_weights(choice, &mut acts);
        Self { odds, fates, slow_keeper, slow_disks, keeps_folder, lease, types, acts }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { odds, fates, slow_keeper, slow_disks, keeps_folder, lease, types, acts } = self;
        write!(
            f,
            "{odds}; {types} types, fates {fates}/1000, slow keepers {slow_keeper}/1000, \
             slow disks {slow_disks}/1000, folders kept: {keeps_folder}, leases {lease:?} s; acts:"
        )?;
        for (act, n) in Act::ALL.iter().zip(acts).filter(|(_, n)| **n > 0) {
            write!(f, " {act:?}*{n}")?;
        }
        Ok(())
    }
}
