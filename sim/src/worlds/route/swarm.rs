//! What is drawn before a world of routers begins, and what is done to it.

use std::fmt;

use crate::engine::Odds;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};
use crate::fifo::CLIENTS_MAX;

/// One thing that is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A client creates a redundancy node.
    Create,
    /// A client changes one.
    Set,
    /// A client takes parameters away.
    Clear,
    /// A client deletes one.
    Delete,
    /// A client asks for one, or for all.
    Show,
    /// A client tells of an event.
    Event,
    /// Somebody asks over HTTP.
    Http,
    /// Many clients ask at once.
    Crowd,
    /// A client asks for what is wrong, or writes what is no request.
    Wrong,
    /// A client asks whether the server answers.
    Ping,
    /// A client has all state deleted.
    Erase,
    /// A server dies.
    Kill,
    /// A router loses its power.
    LosePower,
    /// A server dies while it does something.
    KillSoon,
    /// A server stands still for a while.
    Freeze,
    /// A server is stopped and starts again.
    Stop,
    /// Somebody spoils the file while the server is down.
    Damage,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 17] = [
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
    ];
}

/// One draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// What goes wrong that can in every world.
    pub odds: Odds,
    /// How often a client does not do as it should, in thousandths.
    pub clients: u64,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
}

impl Swarm {
    /// Draws one.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut odds = Odds::draw(choice);
        odds.clients = [CLIENTS_MAX, 3][pick(choice, 2)];
        let clients = [0, 100, 600][pick(choice, 3)];
        let mut acts = [0; Act::ALL.len()];
        draw_weights(choice, &mut acts);
        Self { odds, clients, acts }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { odds, clients, acts } = self;
        write!(f, "{odds}; room for {} clients, odd ones {clients}/1000; acts:", odds.clients)?;
        for (act, n) in Act::ALL.iter().zip(acts).filter(|(_, n)| **n > 0) {
            write!(f, " {act:?}*{n}")?;
        }
        Ok(())
    }
}
