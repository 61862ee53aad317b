//! What happens to those who surround the haxes.

use hax_core::base::id::MsgId;
use hax_core::ha::spiel;

/// What happens. What concerns one life of a machine names that life.
#[derive(Debug)]
pub enum Ev {
    /// The deadline of a process is reached.
    Wake(usize),
    /// Motr's library has answered.
    Spiel(usize, u32, Box<spiel::Reply>),
    /// Whoever elects leaders looks.
    Elect,
    /// A process starts, for the last time or to be formatted first.
    Boot(usize),
    /// The next line of a process's part.
    Cue(usize, u32),
    /// A process acknowledges.
    Ack(usize, u32, MsgId),
    /// What Consul's agent finds when it looks at a process.
    Check(usize),
    /// An agent and the servers find each other again.
    Reunite(usize),
}
