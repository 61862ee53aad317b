//! The process's side of the protocol: it requests its entrypoint, has a link, and sends and receives
//! messages.
//!
//! It behaves like a real process, including its timers and retries. If the server's messages would make a
//! real process abort, hang or lose messages, it reports [`Event::Aborted`]. So it also tests the server.

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
use crate::wire::conns::{Limits, Out};
use crate::wire::link::{Link, ReplyOutcome, State, refusal};
use crate::wire::queue::Sent;
use crate::wire::rpc::client::ClientId;
use crate::wire::rpc::event::{RequestOrigin, RpcEvent};
use crate::wire::rpc::{Rpc, Settings};

/// The pause after a failed 207 (`ha.c:HA_RECONNECT_INTERVAL`).
const PAUSE: Duration = Duration::from_secs(1);

/// The configuration of a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The fid.
    pub fid: Fid,
    /// The listening address.
    pub listen: SocketAddr,
    /// The listening address of the server of entrypoints.
    pub connect: SocketAddr,
    /// The pid.
    pub pid: u64,
    /// The reported version.
    pub git_rev: Box<str>,
    /// The wall clock in nanoseconds at its start.
    pub generation: u64,
    /// The seed of the random values of real processes.
    pub seed: u64,
}

/// One input of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline returned last has been reached.
    Tick,
    /// An event of a TCP connection.
    Net(net::Event),
    /// A command of the application.
    Command(Command),
}

/// One output of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A command for a TCP connection.
    Net(net::Command),
    /// An event for the application.
    Event(Event),
    /// A fact to log.
    Fact(Fact),
}

/// A command of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Request the entrypoint until there is one.
    Ask,
    /// Send a message. It waits until there is a link.
    Send {
        /// The id of the message.
        send: SendId,
        /// The message.
        message: Box<Message>,
    },
    /// Acknowledge a received message.
    Ack {
        /// The id of the message.
        msg: MsgId,
    },
    /// Wait until all messages are delivered, disconnect and exit.
    Stop,
}

/// An event for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply to an entrypoint request. If `control` is QUERY, the next request is already in flight.
    Answered {
        /// The control value: CONSUME 0, QUIT 1, QUERY 2.
        control: u32,
        /// The entrypoint in the reply.
        entrypoint: Arc<Entrypoint>,
        /// The number of the request in this life: 1, 2, 3, …
        generation: u64,
    },
    /// The link is up.
    LinkUp {
        /// Whether it continues an earlier link, forgotten by the server.
        reconnected: bool,
    },
    /// A message could not be sent; the entrypoint is being requested again.
    LinkFailed,
    /// A received message. The application must send one [`Command::Ack`].
    Received {
        /// The id of the message.
        msg: MsgId,
        /// The message.
        message: Box<Message>,
    },
    /// The server has received a message.
    Delivered {
        /// The id of the message.
        send: SendId,
    },
    /// A real process would abort, hang or lose messages now. No event follows.
    Aborted {
        /// The reason.
        why: &'static str,
    },
    /// The process has stopped.
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
    /// The end of the pause after a failed 207.
    Pause,
    /// The time limit of connecting to an entrypoint's server.
    Connect,
}

/// The stage of an entrypoint request. Each request has its own rpc connection.
#[derive(Debug)]
pub(crate) enum Asking {
    Idle,
    Connecting(ClientId),
    /// The process waits for the reply without a time limit.
    Waiting(ClientId, LinkParams),
    /// The reply counts once the connection is closed.
    Closing(ClientId, LinkParams, Box<EntrypointRep>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// The process waits for its messages to be delivered.
    Flushing,
    /// The process closes its connection.
    Leaving,
    Over,
}

/// The pending change of the link. It takes place when nothing is in flight.
#[derive(Debug)]
pub(crate) enum Change {
    None,
    /// The link gets these ids after the old rpc connection is closed.
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
    /// The messages sent before there was a link.
    pub(crate) early: Vec<(SendId, Bytes)>,
    next_msg: MsgId,
    pub(crate) timers: Timers<Timer>,
    pub(crate) life: Life,
    last: Instant,
}

impl Process {
    /// Creates a process in its initial state.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let settings = Settings {
            me: config.listen,
            generation: config.generation,
            conns: Limits { conns_max: 64, backlog_bytes_max: 4 << 20, limits_peers: false },
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

    /// Takes one input and appends the resulting outputs in order.
    ///
    /// Due timers fire in the same call, after the input. Returns [`Next::Exit`] when the process has stopped
    /// or aborted.
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
                    Some(link) => link.push(Sent::new(send, body.into())),
                    None => self.early.push((send, body.into())),
                }
            }
            Command::Ack { msg } => {
                let known = self.link.as_mut().is_some_and(|l| l.ack(msg));
                assert!(known, "each message is acknowledged once");
            }
            Command::Stop if self.life == Life::Running => self.life = Life::Flushing,
            Command::Stop => {}
        }
        self.go_on(now, out);
    }

    fn on_rpc_event(&mut self, now: Instant, event: RpcEvent, out: &mut Vec<Output>) {
        match event {
            RpcEvent::Request { origin, fop: Fop::LinkMsg(msg) } => {
                self.on_message(now, origin, *msg, out)
            }
            RpcEvent::Repeated { origin, reply, .. } => {
                self.rpc.send_reply(now, &origin, reply, out)
            }
            RpcEvent::Request { .. }
            | RpcEvent::UnknownSession { .. }
            | RpcEvent::Forgotten { .. } => {}
            RpcEvent::Violation(why) => self.abort(why, out),
            RpcEvent::Opened(client) if self.is_link(client) => {
                self.link.iter_mut().for_each(Link::on_opened);
                self.go_on(now, out);
            }
            RpcEvent::Reply(client, fop) if self.is_link(client) => self.on_reply(now, &fop, out),
            // A link connects without a time limit. After that, a failure means that its message could not be
            // sent.
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
            // A real process ignores the state of its TCP connections.
            RpcEvent::PeerGone(_) | RpcEvent::ConnectFailed(_) | RpcEvent::Connected(_) => {}
        }
    }

    /// Returns whether the process has been told to continue its link under other ids and has not done so yet, or may
    /// be told so by the reply that it waits for.
    #[must_use]
    pub fn may_switch(&self) -> bool {
        !matches!(self.change, Change::None)
            || matches!(self.asking, Asking::Waiting(..) | Asking::Closing(..))
    }

    fn is_link(&self, client: ClientId) -> bool {
        self.link.as_ref().is_some_and(|l| l.client == client)
    }

    fn on_message(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        msg: LinkMsg,
        out: &mut Vec<Output>,
    ) {
        let quiesced = matches!(self.change, Change::Closing(..)) || self.life == Life::Leaving;
        let link = self.link.as_mut().filter(|l| !quiesced && l.ids.local == msg.ids.remote);
        let refused = match &link {
            None => Some(Errno::ENOLINK),
            Some(link) if link.ids.connection != msg.ids.connection => Some(Errno::EBADSLT),
            Some(_) => None,
        };
        let (Some(link), None) = (link, refused) else {
            return self.rpc.reply(now, &origin, refusal(refused.unwrap_or(Errno::ENOLINK)), out);
        };
        let mut delivered = Vec::new();
        let received = link.on_message(msg, &mut delivered);
        let message = received.message.map(|m| (link.accept(&mut self.next_msg, &m), m));
        if received.wrong.is_some() {
            return self.abort("in_delivered says what cannot be", out);
        }
        if let Some(why) = message.as_ref().and_then(|(_, m)| message::harm(m)) {
            return self.abort(why, out);
        }
        self.rpc.reply(now, &origin, received.reply, out);
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
            // A process takes over no links.
            ReplyOutcome::Contradicted { .. } | ReplyOutcome::Unexpected => {}
        }
    }

    fn link_failed(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.timers.arm(Timer::Pause, now.after(PAUSE));
        out.push(Output::Event(Event::LinkFailed));
        self.ask(now, out);
    }

    /// Does the next step when nothing is in flight.
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

    /// Continues the link under new ids, and sends all unconfirmed messages again.
    ///
    /// A real process also aborts if its own application acknowledges a message between its request and this
    /// moment. No server can prevent that; this implementation does not do it.
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
