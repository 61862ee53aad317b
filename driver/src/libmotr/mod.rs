//! Motr through its own library, for sites on libfabric or LNet: the same [`Event`]s and [`Command`]s as
//! the wire's.
//!
//! Two threads. The *owner* makes the interface, starts, stops and ends it: the library wants one thread
//! for that and keeps it waiting, when starting until our own entrypoint request is answered. The *worker*
//! does the rest: it takes what the callbacks put in the one queue, and what the bridge commands, in order,
//! and alone knows links, messages and requests by their handles. So no lock is held while the library is
//! called, and no table is ever seen by two threads. Neither is adopted (`m0_thread_adopt`): the library
//! gives threads that it does not know what they need by itself, and only one that was adopted has to be
//! shunned before it ends. But both live between `init` and `fini`, and never call before or after. Commands
//! to the cluster block, each for as long as it takes: each has a thread that the worker begins and joins.
//!
//! What the library wants and the wire does not:
//!
//! - It connects to itself. What it says of our own process over that link is dropped here, for the bridge
//!   reports its process itself. But it asks for states over it, before it has the configuration and of all
//!   that is in it, and has to be told what the others are told, or its commands are refused: for that it is a
//!   link like any other. Only that a process has failed is softened, see below.
//! - A restarted process gets a second link beside the old one, which would keep what is owed to it for
//!   ever. So the library is told that the process has failed, as the only thing that makes it let go, and
//!   the reply waits until it has heard that; else it would take the new link away too, on which a
//!   process aborts.
//! - A link may not be taken away while messages on it are not acknowledged. Those of a process that is no
//!   more are acknowledged then: nobody can say them again. Those of processes that live are not: where
//!   such are left at the stop, the process ends without stopping the library, and they are said again.

mod call;
mod callbacks;
mod library;
mod links;
mod message;
mod node;
mod owner;
mod spiel;
mod work;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

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

/// How many words of the library, and commands, may wait for the worker.
const QUEUE: usize = 1 << 14;

/// How many events may wait for the bridge; the worker waits then, the library does not.
const EVENTS: usize = 512;

/// Who we are to Motr.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where we listen, on the transport that the library was built for.
    pub endpoint: Box<str>,
    /// Our process.
    pub process: Fid,
    /// Its HA service.
    pub ha_service: Fid,
    /// Its resource manager.
    pub rm_service: Fid,
}

impl Config {
    /// Of the process `process` with these services.
    #[must_use]
    pub fn of(process: Fid, services: Services, endpoint: &str) -> Self {
        let Services { ha, rm } = services;
        Self { endpoint: endpoint.into(), process, ha_service: ha, rm_service: rm }
    }
}

/// How the worker tells the bridge.
struct EventSink {
    events: Sender<Event>,
    replies: Sender<Reply>,
    wake: Box<dyn Fn() + Send>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopOutcome {
    /// All links were disconnected and the library is finished.
    #[error("Motr's library is stopped")]
    Stopped,
    /// The library was not stopped, because processes would have taken these messages for worked.
    #[error(
        "Motr's library is left as it is: {0} messages are not in Consul; their processes will send them again"
    )]
    Left(usize),
    /// The library was not stopped, because it is reading the configuration: that has no end but its own, and
    /// the library aborts where it is told that there is nothing to read.
    #[error(
        "Motr's library is left as it is: it is reading confd's configuration, and cannot be stopped meanwhile"
    )]
    Reading,
    /// The library is not to be had.
    #[error("Motr's library cannot be initialised: errno {0}")]
    Init(i32),
    /// It does not start.
    #[error("Motr's library cannot listen at {endpoint}: errno {errno}")]
    Start {
        /// Where.
        endpoint: Box<str>,
        /// Why.
        errno: i32,
    },
}

/// Motr's library at work. One at a time in a process.
#[derive(Debug)]
pub struct Libmotr {
    queue: Sender<Work>,
    events: Receiver<Event>,
    replies: Receiver<Reply>,
    ended: Receiver<StopOutcome>,
}

impl Libmotr {
    /// Starts the library and returns at once. Our own entrypoint request is among the first events.
    /// `wake` is called after each event, on a thread of its own.
    ///
    /// # Panics
    ///
    /// If it is started in this process already, or there can be no thread.
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

    /// What happens; ends after [`Command::Stop`].
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// What comes of [`Self::call`].
    #[must_use]
    pub fn replies(&self) -> Receiver<Reply> {
        self.replies.clone()
    }

    /// Asks the library something about the cluster, and returns at once.
    pub fn call(&self, call: Call) {
        work::put(&self.queue, Work::Call(call));
    }

    /// Starts what the bridge commands and returns at once. After [`Command::Stop`] nothing else has an
    /// effect.
    pub fn execute(&self, command: Command) {
        if matches!(command, Command::Stop) {
            // The worker may wait for room among events that nobody takes any more.
            self.events.close();
        }
        work::put(&self.queue, Work::Do(command));
    }

    /// What the worker has done when it gets to this.
    #[cfg(test)]
    fn pause(&self) -> Receiver<u64> {
        let (reached, pause) = async_channel::bounded(1);
        work::put(&self.queue, Work::Pause(reached));
        pause
    }

    /// Completes when it has ended: after [`Command::Stop`], which takes up to 20 seconds where peers are
    /// dead, or early if it does not start.
    pub async fn ended(&self) -> StopOutcome {
        // Both ends are dropped by a thread that panicked.
        self.ended.recv().await.unwrap_or(StopOutcome::Left(0))
    }
}
