//! The part of a Motr process: asks for its entrypoint, has a link, sends and receives over it.
//!
//! It behaves as a real process does, its timers and its retries included. Where a real one would
//! abort, hang or lose messages because of what the server sent, it reports [`Event::Aborted`]: so it
//! is a judge of the server, too.

pub(crate) mod client;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::{MsgId, SendId};
use crate::base::time::{Instant, Next, Now};
use crate::base::timers::Timers;
use crate::ha::entrypoint::Entrypoint;
use crate::ha::fact::Fact;
use crate::ha::message::Message;
use crate::net;
use crate::wire::codec::fop::{EntrypointRep, Fop, LinkMsg};
use crate::wire::codec::message;
use crate::wire::codec::params::{Cookie, LinkParams};
use crate::wire::conns::Out;
use crate::wire::link::{Link, ReplyOutcome, State, refusal};
use crate::wire::rpc::client::ClientId;
use crate::wire::rpc::event::{ReplyTo, RpcEvent};
use crate::wire::rpc::{Rpc, Settings};

/// The pause after a failed 207 (`ha.c:HA_RECONNECT_INTERVAL`).
const PAUSE: Duration = Duration::from_secs(1);

/// Who the process is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its fid.
    pub fid: Fid,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the server of entrypoints listens.
    pub connect: SocketAddr,
    /// Its pid.
    pub pid: u64,
    /// The version that it claims.
    pub git_rev: Box<str>,
    /// Nanoseconds of the wall clock at its start.
    pub generation: u64,
    /// For what real processes choose at random.
    pub seed: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection.
    Net(net::Event),
    /// The application wants something.
    Command(Command),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// With a TCP connection.
    Net(net::Command),
    /// To tell the application.
    Event(Event),
    /// To log.
    Fact(Fact),
}

/// What the application wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask for the entrypoint until there is one.
    Ask,
    /// Send a message; before there is a link it waits.
    Send {
        /// Names it.
        send: SendId,
        /// What.
        message: Box<Message>,
    },
    /// A message has been taken in.
    Ack {
        /// Which.
        msg: MsgId,
    },
    /// Wait until all is delivered, take leave, exit.
    Stop,
}

/// What the application is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply to a request for the entrypoint. If `control` is QUERY, the next is asked for already.
    Answered {
        /// CONSUME 0, QUIT 1, QUERY 2.
        control: u32,
        /// What it says.
        entrypoint: Arc<Entrypoint>,
        /// Which request of this life it was: 1, 2, 3, …
        generation: u64,
    },
    /// There is a link.
    LinkUp {
        /// Whether it goes on with an earlier one, the server having forgotten that.
        reconnected: bool,
    },
    /// A message could not be sent; the entrypoint is being asked for again.
    LinkFailed,
    /// A message. Owed: one [`Command::Ack`].
    Received {
        /// Names it.
        msg: MsgId,
        /// What it says.
        message: Box<Message>,
    },
    /// The server has taken in what was sent.
    Delivered {
        /// What.
        send: SendId,
    },
    /// A real process would abort, hang or lose messages now. Nothing follows.
    Aborted {
        /// Because of this.
        why: &'static str,
    },
    /// All is over.
    Stopped,
}

impl Out for Vec<Output> {
    fn net(&mut self, command: net::Command) {
        self.push(Output::Net(command));
    }

    fn fact(&mut self, fact: Fact) {
        self.push(Output::Fact(fact));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The pause after a failed 207 ends.
    Pause,
    /// An entrypoint's server does not let itself be connected to.
    Connect,
}

/// How far a request is. Each has its own rpc connection.
#[derive(Debug)]
pub(crate) enum Asking {
    Idle,
    Connecting(ClientId),
    /// For as long as it takes.
    Waiting(ClientId, LinkParams),
    /// The answer counts once the connection is closed.
    Closing(ClientId, LinkParams, Box<EntrypointRep>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Waits for its messages to be delivered.
    Flushing,
    /// Takes leave.
    Leaving,
    Over,
}

/// What becomes of the link when nothing is in flight.
#[derive(Debug)]
pub(crate) enum Change {
    None,
    /// These are to be its names; the old rpc connection is to be closed first.
    Wanted(LinkParams),
    /// The old rpc connection is being closed.
    Closing(ClientId, LinkParams),
}

/// The machine.
#[derive(Debug)]
pub struct Process {
    pub(crate) config: Config,
    pub(crate) rpc: Rpc,
    pub(crate) asking: Asking,
    pub(crate) cookie: Cookie,
    pub(crate) generation: u64,
    pub(crate) link: Option<Link>,
    pub(crate) change: Change,
    /// Sent before there was a link.
    pub(crate) early: Vec<(SendId, Bytes)>,
    next_msg: MsgId,
    pub(crate) timers: Timers<Timer>,
    pub(crate) life: Life,
    last: Instant,
}

impl Process {
    /// A process that has not done anything yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let settings = Settings {
            me: config.listen,
            generation: config.generation,
            conns_max: 64,
            backlog_bytes_max: 4 << 20,
            rpc_conns_max: 64,
            reply_bytes_max: 1 << 20,
            answers_unknown: false,
        };
        Self {
            rpc: Rpc::new(settings),
            asking: Asking::Idle,
            cookie: Cookie::NONE,
            generation: 0,
            link: None,
            change: Change::None,
            early: Vec::new(),
            next_msg: MsgId(1),
            timers: Timers::default(),
            life: Life::Running,
            last: Instant::default(),
            config,
        }
    }

    /// Takes one input and appends, in order, all that follows from it; due timers fire in the same
    /// call, after the input. Returns [`Next::Exit`] when it has stopped or aborted.
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in the call before.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        assert!(now.mono >= self.last, "time went backwards");
        self.last = now.mono;
        if self.life == Life::Over {
            return Next::Exit;
        }
        match input {
            Input::Tick => {}
            Input::Net(event) => self.rpc.on_net(now.mono, event, out),
            Input::Command(command) => self.on_command(now.mono, command, out),
        }
        self.drain(now.mono, out);
        if self.life != Life::Over {
            self.rpc.on_time(now.mono, out);
            while let Some(timer) = self.timers.pop(now.mono) {
                self.on_timer(now.mono, timer, out);
            }
            self.drain(now.mono, out);
        }
        if self.life == Life::Over {
            return Next::Exit;
        }
        let own = self.timers.first().map_or(Next::Wait, |(at, timer)| {
            let why = match timer {
                Timer::Pause => "pause",
                Timer::Connect => "entrypoint",
            };
            Next::WaitUntil { at, why }
        });
        own.earlier(self.rpc.next())
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Output>) {
        while self.life != Life::Over
            && let Some(event) = self.rpc.next_event(now, out)
        {
            self.on_rpc_event(now, event, out);
        }
    }

    fn on_command(&mut self, now: Instant, command: Command, out: &mut Vec<Output>) {
        match command {
            Command::Ask => self.ask(now, out),
            Command::Send { send, message } => {
                assert!(message::is_sendable(&message), "a message that has a form on the wire");
                let mut body = Vec::new();
                message::encode(&message, &mut body);
                match &mut self.link {
                    Some(link) => link.sent.push(send, body.into()),
                    None => self.early.push((send, body.into())),
                }
            }
            Command::Ack { msg } => {
                let known = self.link.as_mut().is_some_and(|l| l.received.ack(msg));
                assert!(known, "each message is acknowledged once");
            }
            Command::Stop if self.life == Life::Running => self.life = Life::Flushing,
            Command::Stop => {}
        }
        self.go_on(now, out);
    }

    fn on_rpc_event(&mut self, now: Instant, event: RpcEvent, out: &mut Vec<Output>) {
        match event {
            RpcEvent::Request { at, fop: Fop::LinkMsg(msg) } => self.on_message(now, at, *msg, out),
            RpcEvent::Repeated { at, reply, .. } => self.rpc.send_reply(now, &at, reply, out),
            RpcEvent::Request { .. }
            | RpcEvent::UnknownSession { .. }
            | RpcEvent::Forgotten { .. } => {}
            RpcEvent::Violation(why) => self.abort(why, out),
            RpcEvent::Opened(client) if self.is_link(client) => {
                self.link.iter_mut().for_each(Link::on_opened);
                self.go_on(now, out);
            }
            RpcEvent::Reply(client, fop) if self.is_link(client) => self.on_reply(now, &fop, out),
            // A link connects for as long as it takes; else its message could not be sent.
            RpcEvent::Failed(client) if self.is_link(client) => {
                if self.link.as_ref().is_some_and(|l| l.state != State::Opening) {
                    self.link.iter_mut().for_each(Link::on_failed);
                    self.link_failed(now, out);
                }
            }
            RpcEvent::Ended(client) => self.on_ended(now, client, out),
            RpcEvent::Opened(_) | RpcEvent::Reply(..) | RpcEvent::Failed(_) => {
                self.on_asking(now, event, out)
            }
            // A real process does not look at its connections.
            RpcEvent::PeerGone(_) | RpcEvent::ConnectRefused(_) | RpcEvent::Connected(_) => {}
        }
    }

    fn is_link(&self, client: ClientId) -> bool {
        self.link.as_ref().is_some_and(|l| l.client == client)
    }

    fn on_message(&mut self, now: Instant, at: ReplyTo, msg: LinkMsg, out: &mut Vec<Output>) {
        let quiesced = matches!(self.change, Change::Closing(..)) || self.life == Life::Leaving;
        let link = self.link.as_mut().filter(|l| !quiesced && l.ids.local == msg.ids.remote);
        let refused = match &link {
            None => Some(Errno::ENOLINK),
            Some(link) if link.ids.connection != msg.ids.connection => Some(Errno::EBADSLT),
            Some(_) => None,
        };
        let (Some(link), None) = (link, refused) else {
            return self.rpc.reply(now, &at, refusal(refused.unwrap_or(Errno::ENOLINK)), out);
        };
        let mut delivered = Vec::new();
        let received = link.on_message(msg, &mut delivered);
        let message = received.message.map(|m| (link.accept(&mut self.next_msg), m));
        if received.wrong.is_some() {
            return self.abort("in_delivered says what cannot be", out);
        }
        if let Some(why) = message.as_ref().and_then(|(_, m)| message::harm(m)) {
            return self.abort(why, out);
        }
        self.rpc.reply(now, &at, received.reply, out);
        report_delivered(delivered, out);
        if let Some((msg, message)) = message {
            out.push(Output::Event(Event::Received { msg, message }));
        }
        self.go_on(now, out);
    }

    fn on_reply(&mut self, now: Instant, fop: &Fop, out: &mut Vec<Output>) {
        let Some(link) = &mut self.link else { return };
        let mut delivered = Vec::new();
        match link.on_reply(fop, &mut delivered) {
            ReplyOutcome::Done { wrong: Some(_) } => {
                self.abort("in_delivered says what cannot be", out);
            }
            ReplyOutcome::Done { wrong: None } => {
                report_delivered(delivered, out);
                self.go_on(now, out);
            }
            ReplyOutcome::Refused { .. } => self.link_failed(now, out),
            ReplyOutcome::Unexpected => {}
        }
    }

    fn link_failed(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.timers.arm(Timer::Pause, now.after(PAUSE));
        out.push(Output::Event(Event::LinkFailed));
        self.ask(now, out);
    }

    /// Does what is to be done when nothing is in flight.
    pub(crate) fn go_on(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(link) = &mut self.link else {
            if self.life == Life::Flushing && self.early.is_empty() {
                self.finish(out);
            }
            return;
        };
        if link.state != State::Idle {
            return;
        }
        if let Change::Wanted(params) = self.change {
            let client = link.client;
            self.change = Change::Closing(client, params);
            link.state = State::Opening;
            return self.rpc.close(now, client, out);
        }
        if self.life == Life::Flushing && link.sent.len() == 0 && !link.received.has_unconfirmed() {
            self.life = Life::Leaving;
            let client = link.client;
            self.drop_asking();
            return self.rpc.close(now, client, out);
        }
        if self.life != Life::Leaving {
            link.pump(now, &mut self.rpc, out);
        }
    }

    fn on_ended(&mut self, now: Instant, client: ClientId, out: &mut Vec<Output>) {
        if let Change::Closing(closing, params) = self.change
            && closing == client
        {
            self.change = Change::None;
            self.apply(now, params, out);
        } else if self.is_link(client) && self.life == Life::Leaving {
            self.finish(out);
        } else {
            self.on_asking(now, RpcEvent::Ended(client), out);
        }
    }

    /// The link goes on under new names, with all that is not known to be delivered to be sent again.
    ///
    /// A real process also aborts if its own application acknowledges anything between its asking and
    /// now, which no server can help; this one does not.
    fn apply(&mut self, now: Instant, params: LinkParams, out: &mut Vec<Output>) {
        let client = self.rpc.start(now, self.config.connect, out);
        let Some(link) = &mut self.link else { return };
        let same_out = link.sent.tags().delivered == params.tags_local.delivered;
        if !same_out || link.received.tags().assign != params.tags_remote.assign {
            return self.abort("the tags have moved since they were told", out);
        }
        link.ids = params.ids;
        link.client = client;
        link.sent.rewind();
        out.push(Output::Event(Event::LinkUp { reconnected: true }));
    }

    fn on_timer(&mut self, now: Instant, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Pause => {
                self.link.iter_mut().for_each(Link::on_pause_over);
                self.go_on(now, out);
            }
            Timer::Connect => self.on_connect_timeout(now, out),
        }
    }

    pub(crate) fn abort(&mut self, why: &'static str, out: &mut Vec<Output>) {
        self.life = Life::Over;
        self.rpc.conns.close_all(out);
        out.push(Output::Event(Event::Aborted { why }));
    }

    fn finish(&mut self, out: &mut Vec<Output>) {
        self.life = Life::Over;
        self.rpc.conns.close_all(out);
        out.push(Output::Event(Event::Stopped));
    }
}

fn report_delivered(delivered: Vec<SendId>, out: &mut Vec<Output>) {
    out.extend(delivered.into_iter().map(|send| Output::Event(Event::Delivered { send })));
}
