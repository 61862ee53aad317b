//! The events of the machines around the haxes.

use hax_core::base::id::MsgId;
use hax_core::ha::spiel;

/// An event. An event that concerns one life of a machine carries the number of that life.
#[derive(Debug)]
pub enum Ev {
    /// The deadline of a process is reached.
    ProcessTick(usize),
    /// Motr's library responds.
    Spiel(usize, u32, Box<spiel::Reply>),
    /// The external elector of leaders looks at the lock.
    Elect,
    /// A process starts.
    StartProcess(usize),
    /// A process takes the next step of its script.
    NextStep(usize, u32),
    /// A process acknowledges a message.
    Ack(usize, u32, MsgId),
    /// Consul's agent checks a process.
    Check(usize),
    /// The cut between an agent and the servers ends.
    RejoinAgent(usize),
}
