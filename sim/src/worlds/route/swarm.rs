//! The drawn configuration of a world of routers, and the acts on the world.

use std::fmt;

use super::groups::Groups;
use crate::engine::Odds;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};
use crate::fifo::CLIENTS_MAX;

/// An act on the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A client creates a redundancy node.
    Create,
    /// A client changes a redundancy node.
    Set,
    /// A client removes parameters.
    Clear,
    /// A client deletes a redundancy node.
    Delete,
    /// A client requests one redundancy node, or all.
    Show,
    /// A client reports an event.
    Event,
    /// A client sends a request over HTTP.
    Http,
    /// Many clients send requests at once.
    Crowd,
    /// A client sends a request with wrong parameters, or an invalid request.
    Wrong,
    /// A client checks whether the server answers.
    Ping,
    /// A client requests the deletion of all state.
    Erase,
    /// A server dies.
    Kill,
    /// A router loses its power.
    LosePower,
    /// A server dies after some of its next outputs.
    KillSoon,
    /// A server is frozen for a while.
    Freeze,
    /// A server is stopped and starts again.
    Stop,
    /// The file is damaged while the server is down.
    Damage,
    /// A client reports an event on a member of a group.
    Told,
    /// A member of a group is deleted or created.
    Member,
    /// Another writer changes a route.
    Meddle,
    /// An agent is cut off from the servers.
    CutAgent,
    /// A router is cut off from its agent.
    Part,
    /// The servers elect another leader.
    Election,
    /// The servers have no leader for a while.
    Headless,
    /// Consul refuses all calls for a while.
    ConsulDown,
    /// A snapshot of Consul is taken or restored.
    Restore,
}

/// The number of acts without groups. They are the first of all acts.
const WITHOUT_GROUPS: usize = 17;

impl Act {
    /// All acts.
    pub const ALL: [Self; 26] = [
        Self::Create,
        Self::Set,
        Self::Clear,
        Self::Delete,
        Self::Show,
        Self::Event,
        Self::Http,
        Self::Crowd,
        Self::Wrong,
        Self::Ping,
        Self::Erase,
        Self::Kill,
        Self::LosePower,
        Self::KillSoon,
        Self::Freeze,
        Self::Stop,
        Self::Damage,
        Self::Told,
        Self::Member,
        Self::Meddle,
        Self::CutAgent,
        Self::Part,
        Self::Election,
        Self::Headless,
        Self::ConsulDown,
        Self::Restore,
    ];
}

/// A drawn configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The probabilities of the faults of every world.
    pub odds: Odds,
    /// The probability of a faulty client, in thousandths.
    pub clients: u64,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
    /// The groups, in a world with groups.
    pub groups: Option<Groups>,
}

impl Swarm {
    /// Draws a configuration.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut odds = Odds::draw(choice);
        odds.clients = [CLIENTS_MAX, 3][pick(choice, 2)];
        let clients = [0, 100, 600][pick(choice, 3)];
        let mut acts = [0; Act::ALL.len()];
        draw_weights(choice, &mut acts[..WITHOUT_GROUPS]);
        let groups = (pick(choice, 2) == 1).then(|| Groups::draw(choice));
        if groups.is_some() {
            draw_weights(choice, &mut acts[WITHOUT_GROUPS..]);
        }
        Self { odds, clients, acts, groups }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { odds, clients, acts, groups } = self;
        write!(f, "{odds}; room for {} clients, odd ones {clients}/1000; acts:", odds.clients)?;
        for (act, n) in Act::ALL.iter().zip(acts).filter(|(_, n)| **n > 0) {
            write!(f, " {act:?}*{n}")?;
        }
        match groups {
            Some(groups) => write!(f, "; groups {groups}"),
            None => Ok(()),
        }
    }
}
