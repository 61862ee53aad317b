//! Motr through its own library, for sites on libfabric or LNet: the same [`Event`]s and [`Command`]s as
//! those of the wire.
//!
//! There are two threads. The *owner* creates, starts, stops and ends the interface. The library requires one
//! thread for this and blocks it, at the start until our own entrypoint request is answered. The *worker*
//! does all other work in order: the callbacks' entries of the one queue, and the bridge's commands. Only the
//! worker knows links, messages and requests by their handles. So no lock is held during a call of the
//! library, and no table is shared by two threads. Neither thread is adopted (`m0_thread_adopt`): the library
//! sets up foreign threads by itself, and only an adopted thread has to be shunned before it ends. But both
//! threads exist between `init` and `fini`, and never call the library before or after. Commands to the
//! cluster block for as long as they take, so each has a thread that the worker starts and joins.
//!
//! The library has requirements that the wire does not have:
//!
//! - It connects to itself. Its messages about our own process over that link are dropped here, since the
//!   bridge reports its process itself. But it asks for states over the link, before it has the configuration
//!   and then for all objects in it. It has to be told what the other processes are told, or its commands are
//!   refused. For that the link is like any other. Only failures of processes are changed, see below.
//! - A restarted process gets a second link beside the old one, which would keep undelivered messages for
//!   ever. So the library is told that the process has failed, since only this makes it disconnect. The reply
//!   waits until that message is delivered. Otherwise the library would disconnect the new link too, on which
//!   a process aborts.
//! - A link may not be disconnected while it has unacknowledged messages. The messages of a dead process are
//!   acknowledged then: no process can repeat them. The messages of living processes are not. If there are
//!   such messages at the stop, the process ends without stopping the library, and they are sent again.

mod call;
mod callbacks;
mod library;
mod links;
pub mod message;
mod node;
mod owner;
mod spiel;
mod work;
mod worker;

use std::thread;

use async_channel::{Receiver, Sender};
use hax_core::base::fid::Fid;
use hax_core::discover::Services;
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::spiel::{Call, Reply};
use motr_sys::Ha;

pub use library::open;
pub use motr_sys::Library;
pub use node::LibraryNode;

use work::Work;

/// The capacity of the worker's queue, in callbacks and commands.
const QUEUE: usize = 1 << 14;

/// The capacity of the queue of events to the bridge. If it is full, the worker waits, but the library does
/// not.
const EVENTS: usize = 512;

/// Our identity for Motr.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address at which we listen, on the transport that the library was built for.
    pub endpoint: Box<str>,
    /// Our process.
    pub process: Fid,
    /// Its HA service.
    pub ha_service: Fid,
    /// Its resource manager.
    pub rm_service: Fid,
}

impl Config {
    /// Returns the configuration of the process `process` with these services.
    #[must_use]
    pub fn of(process: Fid, services: Services, endpoint: &str) -> Self {
        let Services { ha, rm } = services;
        Self { endpoint: endpoint.into(), process, ha_service: ha, rm_service: rm }
    }
}

/// The worker's channels to the bridge.
struct EventSink {
    events: Sender<Event>,
    replies: Sender<Reply>,
    wake: Box<dyn Fn() + Send>,
}

/// The end of the library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopOutcome {
    /// All links were disconnected and the library is finished.
    #[error("Motr's library is stopped")]
    Stopped,
    /// The library was not stopped, since processes would have taken this number of messages for processed.
    #[error(
        "Motr's library is left as it is: {0} messages are not in Consul; their processes will send them again"
    )]
    Left(usize),
    /// The library was not stopped, because it is reading the configuration. This cannot be interrupted: the
    /// library aborts if it is told that there is nothing to read.
    #[error(
        "Motr's library is left as it is: it is reading confd's configuration, and cannot be stopped meanwhile"
    )]
    Reading,
    /// The library cannot be initialised.
    #[error("Motr's library cannot be initialised: errno {0}")]
    Init(i32),
    /// The library does not start.
    #[error("Motr's library cannot listen at {endpoint}: errno {errno}")]
    Start {
        /// The endpoint of the start.
        endpoint: Box<str>,
        /// The error of the start.
        errno: i32,
    },
}

/// The running library of Motr; at most one in a process.
#[derive(Debug)]
pub struct Libmotr {
    queue: Sender<Work>,
    events: Receiver<Event>,
    replies: Receiver<Reply>,
    ended: Receiver<StopOutcome>,
}

impl Libmotr {
    /// Starts the library and returns at once. Our own entrypoint request is among the first events. `wake`
    /// is called after each event, on a thread of its own.
    ///
    /// # Panics
    ///
    /// If it is started in this process already, or no thread can be started.
    #[must_use]
    pub fn start(
        ha: Ha,
        spiel: motr_sys::Spiel,
        config: Config,
        wake: impl Fn() + Send + 'static,
    ) -> Self {
        let (queue, work) = async_channel::bounded(QUEUE);
        let (told, events) = async_channel::bounded(EVENTS);
        let (replied, replies) = async_channel::bounded(QUEUE);
        let (end, ended) = async_channel::bounded(2);
        assert!(callbacks::connect(queue.clone()), "Motr's library is started twice");
        let wake = Box::new(wake);
        let sink = EventSink { events: told, replies: replied, wake };
        let owner = owner::Owner { ha, spiel, config, queue: queue.clone(), work, end };
        thread::Builder::new()
            .name("motr-owner".into())
            .spawn(move || owner.run(sink))
            .expect("a thread for Motr's library");
        Self { queue, events, replies, ended }
    }

    /// Returns the receiver of the events; it ends after [`Command::Stop`].
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// Returns the receiver of the replies to [`Self::call`].
    #[must_use]
    pub fn replies(&self) -> Receiver<Reply> {
        self.replies.clone()
    }

    /// Sends a command for the cluster to the library, and returns at once.
    pub fn call(&self, call: Call) {
        work::put(&self.queue, Work::Call(call));
    }

    /// Executes a command of the bridge and returns at once. After [`Command::Stop`] no other command has an
    /// effect.
    pub fn execute(&self, command: Command) {
        if matches!(command, Command::Stop) {
            // The worker may wait for room in the queue of events, which has no reader any more.
            self.events.close();
        }
        work::put(&self.queue, Work::Do(command));
    }

    /// Puts a barrier behind all commands and callbacks so far. When the worker has handled those, it sends the
    /// number of all that it has handled since its start.
    #[must_use]
    pub fn barrier(&self) -> Receiver<u64> {
        let (reached, barrier) = async_channel::bounded(1);
        work::put(&self.queue, Work::Barrier(reached));
        barrier
    }

    /// Completes when the library has ended. This is after [`Command::Stop`], which takes up to 20 seconds
    /// with dead peers, or early if the library does not start.
    pub async fn ended(&self) -> StopOutcome {
        // The senders are dropped without a message only by a thread that panicked.
        self.ended.recv().await.unwrap_or(StopOutcome::Left(0))
    }
}
