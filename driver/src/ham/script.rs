//! The execution of `ham`'s commands one after another: a machine between the commands and the process's side
//! of the wire.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::SendId;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::ha::message::Message;
use hax_core::wire::process;
use serde_json::{Value, json};

use super::command::Command;
use super::json;
use crate::exit::Exit;

/// The maximum number of received messages that are remembered for later commands.
const UNSEEN_MAX: usize = 1024;

/// The control value of a reply that is to be used; with another value the process asks again or gives up.
const CONSUME: u32 = 0;

/// An action that the script asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Have the process execute a command.
    Do(process::Command),
    /// Print a line.
    Print(Value),
}

/// The condition that the current command waits for.
#[derive(Clone, Debug, PartialEq)]
enum Doing {
    Nothing,
    Entrypoint,
    Pause(Instant),
    Delivered,
    Message(Option<Box<str>>),
    Stop,
}

/// The commands and their progress.
#[derive(Debug)]
pub struct Script {
    me: Fid,
    patience: Duration,
    steps: VecDeque<Command>,
    /// More commands may come.
    open: bool,
    doing: Doing,
    /// The timeout of the current command.
    deadline: Instant,
    next_send: SendId,
    undelivered: BTreeSet<SendId>,
    /// The kinds of received messages that no command has waited for yet.
    unseen: VecDeque<&'static str>,
    up: bool,
    /// The entrypoint is known.
    answered: bool,
    /// The time of the last entrypoint request.
    asked: Instant,
    done: Option<Exit>,
}

impl Script {
    /// Creates a script without commands. A command that waits for the peer fails after `patience`.
    #[must_use]
    pub fn new(me: Fid, patience: Duration) -> Self {
        Self {
            me,
            patience,
            steps: VecDeque::new(),
            open: true,
            doing: Doing::Nothing,
            deadline: Instant::MAX,
            next_send: SendId::default(),
            undelivered: BTreeSet::new(),
            unseen: VecDeque::new(),
            up: false,
            answered: false,
            asked: Instant::default(),
            done: None,
        }
    }

    /// Adds a command.
    pub fn push(&mut self, now: Now, command: Command, out: &mut Vec<Act>) {
        self.steps.push_back(command);
        self.go_on(now, out);
    }

    /// Marks the end of the commands: when all are done, the link is disconnected.
    pub fn close(&mut self, now: Now, out: &mut Vec<Act>) {
        self.open = false;
        self.go_on(now, out);
    }

    /// Handles an event of the process.
    pub fn hear(&mut self, now: Now, event: process::Event, out: &mut Vec<Act>) {
        let mut line = json::event(&event);
        if let process::Event::Answered { .. } = event {
            line["us"] = now.mono.micros_since(self.asked).into();
            // A process with a refused request has sent the next one already.
            self.asked = now.mono;
        }
        out.push(Act::Print(line));
        match event {
            process::Event::Answered { control, .. } => self.answered = control == CONSUME,
            process::Event::LinkUp { .. } => self.up = true,
            process::Event::Received { msg, message } => {
                out.push(Act::Do(process::Command::Ack { msg }));
                if self.unseen.len() == UNSEEN_MAX {
                    self.unseen.pop_front();
                }
                self.unseen.push_back(message.body.name());
            }
            process::Event::Delivered { send } => {
                self.undelivered.remove(&send);
            }
            process::Event::Stopped => self.done = Some(Exit::Clean),
            process::Event::Aborted { .. } => self.done = Some(Exit::Failure),
            process::Event::LinkFailed => {}
        }
        self.go_on(now, out);
    }

    /// Continues the commands, handles the timeout, and returns the next deadline.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Act>) -> Next {
        self.go_on(now, out);
        if self.done.is_none() && now.mono >= self.deadline {
            let doing = format!("{:?}", self.doing);
            out.push(Act::Print(json!({ "event": "timed-out", "waiting": doing })));
            self.done = Some(Exit::Failure);
        }
        match (&self.done, &self.doing) {
            (Some(_), _) => Next::Exit,
            (None, Doing::Pause(until)) => Next::WaitUntil { at: *until, why: "wait" },
            (None, Doing::Nothing) => Next::Wait,
            (None, _) => Next::WaitUntil { at: self.deadline, why: "patience" },
        }
    }

    /// Returns the result, once the script has ended.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.done
    }

    /// Executes commands until one has to wait.
    fn go_on(&mut self, now: Now, out: &mut Vec<Act>) {
        while self.done.is_none() && self.is_done_with_current(now) {
            self.doing = Doing::Nothing;
            self.deadline = Instant::MAX;
            let next = match self.steps.pop_front() {
                Some(command) => command,
                None if self.open => return,
                // Before the end the script waits until all sent messages are delivered.
                None if self.up && !self.undelivered.is_empty() => Command::WaitDelivered,
                None => Command::Stop,
            };
            self.begin(now, next, out);
        }
    }

    fn is_done_with_current(&mut self, now: Now) -> bool {
        match &self.doing {
            Doing::Nothing => true,
            Doing::Entrypoint => self.up && self.answered,
            Doing::Pause(until) => now.mono >= *until,
            Doing::Delivered => self.undelivered.is_empty(),
            Doing::Message(kind) => {
                let wanted = |name: &&str| kind.as_ref().is_none_or(|kind| **kind == **name);
                let found = self.unseen.iter().position(wanted);
                found.is_some_and(|at| self.unseen.drain(..=at).next().is_some())
            }
            Doing::Stop => false,
        }
    }

    fn begin(&mut self, now: Now, command: Command, out: &mut Vec<Act>) {
        self.deadline = now.mono.after(self.patience);
        self.doing = match command {
            Command::Entrypoint => {
                self.answered = false;
                self.asked = now.mono;
                out.push(Act::Do(process::Command::Ask));
                Doing::Entrypoint
            }
            Command::Send(_) if !self.up => {
                let why = "there is no link: the command entrypoint comes first";
                out.push(Act::Print(json!({ "event": "failed", "why": why })));
                self.done = Some(Exit::Usage);
                return;
            }
            Command::Send(body) => {
                let send = self.next_send.mint();
                self.undelivered.insert(send);
                let mut message = Box::new(Message::new(now.wall, body));
                message.fid = self.me;
                message.source_process = self.me;
                out.push(Act::Do(process::Command::Send { send, message }));
                Doing::Nothing
            }
            Command::Wait(time) => Doing::Pause(now.mono.after(time)),
            Command::WaitDelivered => Doing::Delivered,
            Command::WaitMessage(kind) => Doing::Message(kind),
            Command::Stop if self.up => {
                out.push(Act::Do(process::Command::Stop));
                Doing::Stop
            }
            Command::Stop | Command::Quit => {
                self.done = Some(Exit::Clean);
                return;
            }
        };
        if let Doing::Pause(_) = self.doing {
            self.deadline = Instant::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hax_core::base::id::MsgId;
    use hax_core::base::time::WallClock;
    use hax_core::ha::message::Body;

    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: Instant::from_micros(ms * 1000), wall: WallClock(ms) }
    }

    /// Creates a script with all commands at once; returns it with its actions.
    fn script(commands: &[&str]) -> (Script, Vec<Act>) {
        let mut script = Script::new(Fid::process(4), Duration::from_secs(10));
        let mut out = Vec::new();
        for command in commands {
            script.push(at(0), command.parse().unwrap(), &mut out);
        }
        script.close(at(0), &mut out);
        (script, out)
    }

    fn acts(out: &mut Vec<Act>) -> Vec<String> {
        let name = |act: Act| match act {
            Act::Do(process::Command::Send { send, message }) => {
                format!("{send} {}", message.body.name())
            }
            Act::Do(command) => format!("{command:?}"),
            Act::Print(line) => line["event"].as_str().unwrap_or_default().into(),
        };
        out.drain(..).map(name).collect()
    }

    fn up(script: &mut Script, out: &mut Vec<Act>) {
        let answered = |control| process::Event::Answered {
            control,
            entrypoint: Arc::default(),
            generation: 1,
        };
        // The link of a process begins with the first reply, even if the process is told to ask again.
        script.hear(at(1), answered(2), out);
        script.hear(at(1), process::Event::LinkUp { reconnected: false }, out);
        script.hear(at(1), answered(CONSUME), out);
    }

    #[test]
    fn commands_follow_one_another_and_the_end_is_polite() {
        let (mut script, mut out) =
            script(&["entrypoint", "process starting", "wait 2", "process started"]);
        assert_eq!(acts(&mut out), ["Ask"]);
        up(&mut script, &mut out);
        let expected = ["entrypoint", "link-up", "entrypoint", "send-0 EVENT_PROCESS"];
        assert_eq!(acts(&mut out), expected);
        let next = script.tick(at(1), &mut out);
        assert_eq!(next, Next::WaitUntil { at: at(2001).mono, why: "wait" });
        script.hear(at(5), process::Event::Delivered { send: SendId(0) }, &mut out);
        assert_eq!(acts(&mut out), ["delivered"]);
        let _ = script.tick(at(2001), &mut out);
        assert_eq!(acts(&mut out), ["send-1 EVENT_PROCESS"]);
        script.hear(at(2002), process::Event::Delivered { send: SendId(1) }, &mut out);
        assert_eq!(acts(&mut out), ["delivered", "Stop"]);
        script.hear(at(2003), process::Event::Stopped, &mut out);
        assert_eq!(script.tick(at(2003), &mut out), Next::Exit);
        assert_eq!(script.exit(), Some(Exit::Clean));
    }

    #[test]
    fn each_answer_says_how_long_its_request_took() {
        let (mut script, mut out) = script(&["wait 1", "entrypoint"]);
        let _ = script.tick(at(1000), &mut out);
        out.clear();
        for ms in [2200, 3300] {
            let entrypoint = Arc::default();
            let said = process::Event::Answered { control: 2, entrypoint, generation: 1 };
            script.hear(at(ms), said, &mut out);
        }
        let took = out.iter().filter_map(|act| match act {
            Act::Print(line) => line["us"].as_u64(),
            Act::Do(_) => None,
        });
        assert_eq!(took.collect::<Vec<_>>(), [1_200_000, 1_100_000]);
    }

    #[test]
    fn messages_are_acknowledged_and_waited_for() {
        let (mut script, mut out) =
            script(&["entrypoint", "wait-message keepalive_rep", "wait-message", "quit"]);
        up(&mut script, &mut out);
        out.clear();
        let hear = |script: &mut Script, out: &mut Vec<Act>, n, body| {
            let message = Box::new(Message::new(WallClock(0), body));
            script.hear(at(2), process::Event::Received { msg: MsgId(n), message }, out);
        };
        hear(&mut script, &mut out, 1, Body::Rpc { attempts: 1, state: 3 });
        assert_eq!(acts(&mut out), ["message", "Ack { msg: MsgId(1) }"]);
        hear(&mut script, &mut out, 2, Body::KeepaliveRep { id: (1, 2), counter: 1 });
        assert_eq!(script.exit(), None);
        hear(&mut script, &mut out, 3, Body::Rpc { attempts: 1, state: 3 });
        assert_eq!(script.exit(), Some(Exit::Clean));
    }

    #[test]
    fn failures_have_their_exit_codes() {
        let (early, mut out) = script(&["process started"]);
        assert_eq!((early.exit(), acts(&mut out)), (Some(Exit::Usage), vec!["failed".into()]));
        let (mut unanswered, mut out) = script(&["entrypoint"]);
        assert_eq!(unanswered.tick(at(10_000), &mut out), Next::Exit);
        assert_eq!(unanswered.exit(), Some(Exit::Failure));
        let (mut undelivered, mut out) = script(&["entrypoint", "rpc"]);
        up(&mut undelivered, &mut out);
        assert_eq!(undelivered.tick(at(20_000), &mut out), Next::Exit);
        assert_eq!(undelivered.exit(), Some(Exit::Failure));
        let (mut aborted, mut out) = script(&["entrypoint", "rpc"]);
        aborted.hear(at(2), process::Event::Aborted { why: "bad tags" }, &mut out);
        assert_eq!(aborted.exit(), Some(Exit::Failure));
    }
}
