//! The events of the cast.

use hax_core::exec::Status;
use hax_core::keeper;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::port;
use hax_core::keeper::process::Process;

/// The events of this cast, in addition to the events of every world.
#[derive(Debug)]
pub enum Ev {
    /// A keeper starts.
    StartKeeper(usize),
    /// hax connects with its keeper.
    Connect {
        /// The node.
        node: usize,
        /// The life of hax.
        life: u32,
    },
    /// An event of the keeper's port reaches hax.
    ToHax {
        /// The node.
        node: usize,
        /// The life of hax.
        life: u32,
        /// The event.
        event: Box<port::Event>,
    },
    /// An input reaches a keeper.
    ToKeeper {
        /// The node.
        node: usize,
        /// The keeper's life.
        life: u32,
        /// The input.
        input: Box<keeper::Input>,
    },
    /// A keeper's deadline.
    TickKeeper {
        /// The node.
        node: usize,
        /// The keeper's life.
        life: u32,
    },
    /// An intent is on the disk.
    Synced {
        /// The node.
        node: usize,
        /// The keeper's life.
        life: u32,
        /// The instance.
        instance: InstanceId,
    },
    /// A process ends by itself.
    Ends {
        /// The node.
        node: usize,
        /// The instance.
        instance: InstanceId,
        /// The process.
        process: Process,
        /// Its exit status.
        status: Status,
    },
    /// A process passes its checks again.
    Well {
        /// The node.
        node: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// A node's processes do not hang any more.
    Unhang(usize),
    /// There is room on a keeper's disk again.
    Room(usize),
    /// Another program ends its instance.
    Leaves {
        /// The node.
        node: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// An agent reaches the servers again.
    Reunite(usize),
    /// A damaged record is repaired.
    Repair(String),
    /// The instances of a type do not end by themselves any more.
    Works(usize),
    /// The first definitions.
    Begin,
}
