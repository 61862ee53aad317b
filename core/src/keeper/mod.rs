//! The keeper of service instances. It runs the instances as its child processes, so a restart of hax
//! restarts no service.
//!
//! [`Keeper`] is a separate state machine with a small host: a loop over poll(2). The host carries out all
//! outputs of a call in their order, and passes their results in as inputs before it waits again. The clock
//! is `CLOCK_BOOTTIME`: clients on the same node can read it, and it continues while the node is suspended.
//! Deadlines are times of this clock.
//!
//! The keeper guarantees: Two living instances never hold the same service name. The intent is written before
//! the start. A reply still holds after the keeper is killed. The end of an instance is reported once, and
//! kept until a client asks to forget the instance.

pub mod answer;
mod ask;
pub mod fact;
pub mod frame;
mod instance;
mod life;
pub mod name;
pub mod port;
pub mod process;
pub mod record;
pub mod request;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::base::errno::Errno;
use crate::base::time::{Instant, Next};
use crate::base::timers::Timers;
use crate::exec::Status;
use answer::{Event, Held, KeeperView, Message};
use fact::Fact;
use instance::Instance;
use name::{InstanceId, ServiceName};
use process::Process;
use record::{Found, RecordFile};
use request::Start;

/// The maximum number of instances in one reply.
pub const PAGE: usize = 256;

/// The keeper's configuration, passed in once at the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keeper's process id.
    pub pid: u32,
    /// The boot id of this node.
    pub boot: Box<str>,
    /// The generation of the keeper, which counts its starts.
    pub generation: u64,
    /// The way in which the host groups an instance's processes.
    pub held: Held,
    /// The maximum number of instances in the table, including ended instances that are not forgotten yet.
    pub instances_max: usize,
}

/// One connection of a client. The host assigns the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The key of an instance in timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

/// An input of the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last has been reached.
    Tick,
    /// A client has sent a frame.
    Frame {
        /// The client.
        client: ClientId,
        /// The client's user id, as the kernel reports it.
        user: u32,
        /// The frame's body.
        body: Vec<u8>,
    },
    /// A client's connection is closed.
    Closed {
        /// The client.
        client: ClientId,
    },
    /// The files that an earlier keeper process left of an instance. Occurs at the start only.
    Found(Box<Found>),
    /// The intent has been written to the disk.
    Stored {
        /// The instance.
        instance: InstanceId,
    },
    /// A file could not be written.
    NotStored {
        /// The instance.
        instance: InstanceId,
        /// The file.
        file: RecordFile,
        /// The error.
        why: Errno,
    },
    /// An instance has been started and runs.
    Started {
        /// The instance.
        instance: InstanceId,
        /// Its main process.
        process: Process,
    },
    /// An instance could not be started. None of its processes exists.
    NotStarted {
        /// The instance.
        instance: InstanceId,
        /// The reason, as text.
        why: Box<str>,
    },
    /// The main process of an instance has ended.
    Ended {
        /// The instance.
        instance: InstanceId,
        /// The exit status.
        status: Status,
        /// Whether other processes of the instance exist.
        left: bool,
    },
    /// The result of [`Output::Follow`]: the process that continues a forking instance, if there is one.
    Followed {
        /// The instance.
        instance: InstanceId,
        /// The main process from now on.
        process: Option<Process>,
    },
    /// The result of [`Output::Look`].
    Looked {
        /// The instance.
        instance: InstanceId,
        /// Whether processes of the instance exist.
        left: bool,
    },
    /// Output of an instance has been lost.
    Dropped {
        /// The instance.
        instance: InstanceId,
        /// The number of lost bytes.
        bytes: u64,
    },
}

/// An output of the keeper, which the host carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Sends a message. The host ignores it if the client is gone.
    Send {
        /// The client.
        client: ClientId,
        /// The message.
        message: Box<Message>,
    },
    /// Writes a file of an instance. The host responds with [`Input::NotStored`] if the write fails. If an
    /// intent has been written, it responds with [`Input::Stored`].
    Write {
        /// The instance.
        instance: InstanceId,
        /// The file.
        file: RecordFile,
        /// The whole content of the file.
        body: Vec<u8>,
    },
    /// Starts an instance. The host responds with [`Input::NotStarted`], or with [`Input::Started`] and
    /// exactly one [`Input::Ended`].
    Spawn {
        /// The start's parameters.
        start: Box<Start>,
    },
    /// Takes over an instance that an earlier keeper process started. The host responds with exactly one
    /// [`Input::Ended`] if `process` is some.
    Adopt {
        /// The start's parameters.
        start: Box<Start>,
        /// The main process, if it is alive.
        process: Option<Process>,
    },
    /// Finds the process that continues a forking instance. The host responds with [`Input::Followed`], and
    /// with exactly one [`Input::Ended`] if that has a process.
    Follow {
        /// The instance.
        instance: InstanceId,
    },
    /// Sends a signal.
    Signal {
        /// The instance.
        instance: InstanceId,
        /// The signal's number.
        signal: i32,
        /// Whether all processes of the instance get the signal, or the main process alone.
        all: bool,
    },
    /// Runs the stop command of an instance.
    RunStop {
        /// The instance.
        instance: InstanceId,
    },
    /// Kills all processes of an instance.
    Kill {
        /// The instance.
        instance: InstanceId,
    },
    /// Checks whether processes of an instance exist. The host responds with [`Input::Looked`].
    Look {
        /// The instance.
        instance: InstanceId,
    },
    /// Frees the host's resources for an instance that has ended. Its files stay.
    Release {
        /// The instance.
        instance: InstanceId,
    },
    /// Removes the files of an instance.
    Remove {
        /// The instance.
        instance: InstanceId,
    },
    /// Logs and counts a fact.
    Fact(Fact),
}

/// The timers of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The time limit of the stop.
    Kill(Key),
    /// The deadline of a counted instance. A renewal moves it.
    Deadline(Key),
    /// The next check for remaining processes.
    Look(Key),
}

/// The keeper's state machine. See the module.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    instances: BTreeMap<InstanceId, Instance>,
    by_key: BTreeMap<Key, InstanceId>,
    /// The instance that holds each service name. Ended instances hold no name.
    holders: BTreeMap<ServiceName, InstanceId>,
    next_key: Key,
    timers: Timers<Timer>,
    watchers: BTreeSet<ClientId>,
}

/// The context of one call: the current time and the outputs.
struct Cx<'a> {
    now: Instant,
    out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    fn say(&mut self, fact: Fact) {
        self.out.push(Output::Fact(fact));
    }

    fn send(&mut self, client: ClientId, message: Message) {
        self.out.push(Output::Send { client, message: Box::new(message) });
    }
}

impl Keeper {
    /// Creates a keeper without instances.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            instances: BTreeMap::new(),
            by_key: BTreeMap::new(),
            holders: BTreeMap::new(),
            next_key: Key(1),
            timers: Timers::default(),
            watchers: BTreeSet::new(),
        }
    }

    /// Handles one input and appends all resulting outputs in order. Timers that are due fire in the same
    /// call.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) -> Next {
        let mut cx = Cx { now, out };
        match input {
            Input::Tick => {}
            Input::Frame { client, user, body } => self.on_frame(client, user, &body, &mut cx),
            Input::Closed { client } => drop(self.watchers.remove(&client)),
            Input::Found(found) => self.on_found(&found, &mut cx),
            Input::Stored { instance } => self.on_stored(&instance, &mut cx),
            Input::NotStored { instance, file, why } => {
                self.on_not_stored(&instance, file, why, &mut cx);
            }
            Input::Started { instance, process } => self.on_started(&instance, process, &mut cx),
            Input::NotStarted { instance, why } => self.on_not_started(&instance, why, &mut cx),
            Input::Ended { instance, status, left } => {
                self.on_ended(&instance, status, left, &mut cx);
            }
            Input::Followed { instance, process } => {
                self.on_followed(&instance, process, &mut cx);
            }
            Input::Looked { instance, left } => self.on_looked(&instance, left, &mut cx),
            Input::Dropped { instance, bytes } => self.on_dropped(instance, bytes, &mut cx),
        }
        while let Some(timer) = self.timers.pop(now) {
            self.on_timer(timer, &mut cx);
        }
        let why = |timer| match timer {
            Timer::Kill(_) => "kill",
            Timer::Deadline(_) => "deadline",
            Timer::Look(_) => "look",
        };
        self.timers
            .first()
            .map_or(Next::Wait, |(at, timer)| Next::WaitUntil { at, why: why(timer) })
    }

    /// Returns the number of instances that have not ended.
    #[must_use]
    pub fn living(&self) -> usize {
        self.holders.len()
    }

    /// Returns the number of all instances in the table.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.instances.len()
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Cx<'_>) {
        let (Timer::Kill(key) | Timer::Deadline(key) | Timer::Look(key)) = timer;
        let Some(id) = self.by_key.get(&key).cloned() else { return };
        match timer {
            Timer::Kill(_) => self.on_stop_over(&id, cx),
            Timer::Deadline(_) => self.on_deadline_over(&id, cx),
            Timer::Look(_) => cx.out.push(Output::Look { instance: id }),
        }
    }

    fn tell(&self, event: &Event, cx: &mut Cx<'_>) {
        for client in &self.watchers {
            cx.send(*client, Message::event(event.clone()));
        }
    }

    fn shown(&self) -> Box<KeeperView> {
        let Config { pid, boot, generation, held, .. } = &self.config;
        Box::new(KeeperView { pid: *pid, boot: boot.clone(), generation: *generation, held: *held })
    }
}
