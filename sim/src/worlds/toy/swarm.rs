//! The drawn configuration of a world of counters, and the acts on the world.

use std::fmt;

use crate::engine::Odds;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};
use crate::fifo::CLIENTS_MAX;
use crate::stream::Limits;

/// An act on the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A client requests a new increment.
    Increment,
    /// A client without an answer requests an increment again, perhaps from another machine.
    Repeat,
    /// Many clients send requests at once.
    Crowd,
    /// A client listens to the tally.
    Listen,
    /// A client sends a request over named pipes, and may die during it.
    RequestOverPipes,
    /// Many clients send requests over named pipes at once.
    ManyOverPipes,
    /// A client requests a missing route.
    MissingRoute,
    /// A machine dies.
    Kill,
    /// A node loses its power.
    LosePower,
    /// A machine dies after some of its next outputs.
    KillSoon,
    /// A machine is frozen for a while.
    Freeze,
    /// A machine is stopped and starts again.
    Stop,
    /// Consul cannot be reached.
    ConsulDown,
    /// Consul has no leader.
    NoLeader,
    /// The lease's session is destroyed.
    DestroySession,
    /// A node's agent is found dead.
    Agent,
    /// The connection between an agent and the servers is cut for a while.
    CutAgent,
    /// An agent leaves the cluster for a while.
    LeaveCluster,
    /// Consul's servers elect another leader.
    Election,
    /// A snapshot of Consul is taken, or the last one is restored.
    Restore,
    /// A token loses permissions, or it regains all of them.
    Token,
}

impl Act {
    /// All acts.
    pub const ALL: [Self; 21] = [
        Self::Increment,
        Self::Repeat,
        Self::Crowd,
        Self::Listen,
        Self::RequestOverPipes,
        Self::ManyOverPipes,
        Self::MissingRoute,
        Self::Kill,
        Self::LosePower,
        Self::KillSoon,
        Self::Freeze,
        Self::Stop,
        Self::ConsulDown,
        Self::NoLeader,
        Self::DestroySession,
        Self::Agent,
        Self::CutAgent,
        Self::LeaveCluster,
        Self::Election,
        Self::Restore,
        Self::Token,
    ];
}

/// A drawn configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The probabilities of the faults of every world.
    pub odds: Odds,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
}

impl Swarm {
    /// Draws a configuration.
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
