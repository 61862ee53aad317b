//! The keeper of service instances: it runs them as its children, so that a restart of hax restarts no service.
//!
//! [`Keeper`] is its table as a machine of its own, since its host is a small one: a loop over poll(2) that carries
//! out all outputs of a call, in their order, and feeds back what came of them before it waits. Its clock is `CLOCK_BOOTTIME`, which
//! clients on the same node read, too, and which goes on while the node is suspended: deadlines are moments of it.
//!
//! What is promised: no two living instances hold one service name; an intent is written before a start; what is
//! answered holds after a kill of the keeper; the end of an instance is told once and kept until it is forgotten.

pub mod answer;
mod ask;
pub mod fact;
pub mod frame;
mod instance;
mod life;
pub mod name;
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

/// How many instances an answer shows at once.
pub const PAGE: usize = 256;

/// What the keeper is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its process.
    pub pid: u32,
    /// The boot of this node.
    pub boot: Box<str>,
    /// The number of its life.
    pub generation: u64,
    /// How the host holds processes together.
    pub held: Held,
    /// How many instances it keeps, those included that have ended and are not forgotten.
    pub instances_max: usize,
}

/// One connection of a client. The host mints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// An instance in timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// A client has sent a frame.
    Frame {
        /// Who.
        client: ClientId,
        /// As which user, as the kernel says.
        user: u32,
        /// The frame's body.
        body: Vec<u8>,
    },
    /// A client is gone.
    Closed {
        /// Who.
        client: ClientId,
    },
    /// At the start: what an earlier life has left of an instance.
    Found(Box<Found>),
    /// The intent is on the disk.
    Stored {
        /// Of whom.
        instance: InstanceId,
    },
    /// A file could not be written.
    NotStored {
        /// Of whom.
        instance: InstanceId,
        /// Which.
        file: RecordFile,
        /// Why.
        why: Errno,
    },
    /// An instance runs.
    Started {
        /// Which.
        instance: InstanceId,
        /// Its main process.
        process: Process,
    },
    /// An instance could not be started; nothing of it is there.
    NotStarted {
        /// Which.
        instance: InstanceId,
        /// Why, in words.
        why: Box<str>,
    },
    /// The main process of an instance has ended.
    Ended {
        /// Which.
        instance: InstanceId,
        /// How.
        status: Status,
        /// Something else of it is there.
        left: bool,
    },
    /// What goes on of a forking instance, if anything does.
    Followed {
        /// Which.
        instance: InstanceId,
        /// Its main process from now on.
        process: Option<Process>,
    },
    /// Whether something of an instance is there.
    Looked {
        /// Which.
        instance: InstanceId,
        /// Something is.
        left: bool,
    },
    /// Output of an instance is lost.
    Dropped {
        /// Which.
        instance: InstanceId,
        /// How much, in bytes.
        bytes: u64,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message. A client that is gone is none the wiser.
    Send {
        /// To whom.
        client: ClientId,
        /// What.
        message: Box<Message>,
    },
    /// Write a file of an instance. Owed: [`Input::NotStored`] if it cannot be, and [`Input::Stored`] for an intent.
    Write {
        /// Of whom.
        instance: InstanceId,
        /// Which.
        file: RecordFile,
        /// All that is in it.
        body: Vec<u8>,
    },
    /// Start an instance. Owed: [`Input::NotStarted`], or [`Input::Started`] and exactly one [`Input::Ended`].
    Spawn {
        /// What.
        start: Box<Start>,
    },
    /// Hold an instance that an earlier life has started. Owed: exactly one [`Input::Ended`] if `process` is some.
    Adopt {
        /// What.
        start: Box<Start>,
        /// Its main process, if that lives.
        process: Option<Process>,
    },
    /// Find out what goes on of a forking instance. Owed: [`Input::Followed`], and exactly one [`Input::Ended`] if
    /// that has a process.
    Follow {
        /// Which.
        instance: InstanceId,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        instance: InstanceId,
        /// Which.
        signal: i32,
        /// To all its processes, not to the main one alone.
        all: bool,
    },
    /// Run the command by which an instance is stopped.
    RunStop {
        /// Which.
        instance: InstanceId,
    },
    /// Kill all of an instance.
    Kill {
        /// Which.
        instance: InstanceId,
    },
    /// Find out whether something of an instance is there. Owed: [`Input::Looked`].
    Look {
        /// Which.
        instance: InstanceId,
    },
    /// An instance has ended: what the host holds of it is given up, but for its files.
    Release {
        /// Which.
        instance: InstanceId,
    },
    /// Remove the files of an instance.
    Remove {
        /// Which.
        instance: InstanceId,
    },
    /// Log and count.
    Fact(Fact),
}

/// What an instance is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The time of its stop is over.
    Kill(Key),
    /// It is counted and has to be renewed until then.
    Deadline(Key),
    /// What is left of it is looked at again.
    Look(Key),
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    instances: BTreeMap<InstanceId, Instance>,
    by_key: BTreeMap<Key, InstanceId>,
    /// Who holds which service name: instances that have not ended.
    holders: BTreeMap<ServiceName, InstanceId>,
    next_key: Key,
    timers: Timers<Timer>,
    watchers: BTreeSet<ClientId>,
}

/// The moment, and what follows.
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
    /// A keeper with no instances.
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

    /// Takes one input and appends, in order, all that follows from it. What is due fires in the same call.
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

    /// How many instances have not ended.
    #[must_use]
    pub fn living(&self) -> usize {
        self.holders.len()
    }

    /// How many instances there are.
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
