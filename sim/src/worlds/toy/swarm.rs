//! What is drawn before a world of counters begins, and what is done to it.

use std::fmt;

use crate::engine::Odds;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};
use crate::fifo::CLIENTS_MAX;
use crate::stream::Limits;

/// One thing that is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A client asks for a new increment.
    Increment,
    /// A client that has heard nothing asks for one again, perhaps another machine.
    Again,
    /// Many clients ask at once.
    Crowd,
    /// A client listens to the tally.
    Listen,
    /// A client asks over named pipes, and may die of it.
    Inquire,
    /// Many do at once.
    InquireAll,
    /// A client asks for what there is not.
    Stray,
    /// A machine dies.
    Kill,
    /// A node loses its power.
    LosePower,
    /// A machine dies while it does something.
    KillSoon,
    /// A machine stands still for a while.
    Freeze,
    /// A machine is stopped and starts again.
    Stop,
    /// Consul cannot be reached.
    ConsulDown,
    /// Consul has no leader.
    Headless,
    /// The lease's session is destroyed.
    Unseat,
    /// A node's agent is found dead.
    Agent,
    /// Nothing passes between an agent and the servers for a while.
    CutAgent,
    /// An agent leaves the cluster for a while.
    LeaveCluster,
    /// Consul's servers elect another leader.
    Election,
    /// A snapshot of Consul is taken, or the last one is restored.
    Restore,
    /// A token may do less, or all again.
    Token,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Increment,
        Self::Again,
        Self::Crowd,
        Self::Listen,
        Self::Inquire,
        Self::InquireAll,
        Self::Stray,
        Self::Kill,
        Self::LosePower,
        Self::KillSoon,
        Self::Freeze,
        Self::Stop,
        Self::ConsulDown,
        Self::Headless,
        Self::Unseat,
        Self::Agent,
        Self::CutAgent,
        Self::LeaveCluster,
        Self::Election,
        Self::Restore,
        Self::Token,
    ];
}

/// One draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// What goes wrong that can in every world.
    pub odds: Odds,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
}

impl Swarm {
    /// Draws one.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut odds = Odds::draw(choice);
        odds.streams = [Limits::WIDE, Limits::TIGHT][pick(choice, 2)];
        odds.clients = [CLIENTS_MAX, 2][pick(choice, 2)];
        let mut acts = [0; Act::ALL.len()];
        draw_weights(choice, &mut acts);
        Self { odds, acts }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Odds { streams, clients, .. } = &self.odds;
        write!(f, "{}; room for {} and {clients}; acts:", self.odds, streams.open)?;
        for (act, n) in Act::ALL.iter().zip(&self.acts).filter(|(_, n)| **n > 0) {
            write!(f, " {act:?}*{n}")?;
        }
        Ok(())
    }
}
