//! What happened, as one number and, when it is asked for, as lines.
//!
//! A run keeps the number only. Whoever wants the lines runs the same tape once more: the number says
//! whether it was the same run.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use hax_core::consul::port as consul;
use hax_core::ha::message::{Body, Message};
use hax_core::node::{Input, Output};
use hax_core::wire::fop::Fop;
use hax_core::wire::frame::Frames;
use hax_core::wire::{net, packet};

/// A number that depends on all that was put in and on its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// The number.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.word(*word));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        self.word(bytes.len() as u64);
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.word(u64::from(*byte)));
    }
}

/// What happened.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) hash: Hash,
    /// The last ones, if they are wanted.
    pub(super) lines: VecDeque<String>,
    /// How many.
    pub(super) keep: usize,
}

impl Trace {
    pub(super) fn say(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        if self.lines.len() == self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6}.{:06} {}", now / 1_000_000, now % 1_000_000, line()));
    }

    pub(super) fn input(&mut self, now: u64, hax: usize, input: &Input) {
        self.hash.words(&[now, hax as u64]);
        match input {
            Input::Tick => self.hash.word(1),
            Input::Net(net::Event::Received { conn, bytes }) => {
                self.hash.words(&[2, conn.0]);
                self.hash.bytes(bytes);
            }
            Input::Net(event) => self.hash.bytes(format!("{event:?}").as_bytes()),
            Input::Consul(consul::Reply { id, result }) => {
                self.hash.words(&[3, id.0]);
                match result {
                    Ok(answer) => {
                        self.hash.words(&[answer.status.into(), answer.index]);
                        self.hash.bytes(&answer.body);
                    }
                    Err(why) => self.hash.word(*why as u64),
                }
            }
            Input::Spiel(reply) => self.hash.bytes(format!("{reply:?}").as_bytes()),
            Input::Http(request) => {
                self.hash.words(&[4, request.id.0]);
                self.hash.bytes(&request.body);
            }
            Input::Stop => self.hash.word(5),
        }
        if self.keep > 0 {
            let text = describe_input(input);
            self.say(now, || format!("hax {hax} <- {text}"));
        }
    }

    pub(super) fn output(&mut self, now: u64, hax: usize, output: &Output) {
        match output {
            Output::Net(net::Command::Write { conn, segments }) => {
                self.hash.words(&[6, conn.0]);
                segments.iter().for_each(|segment| self.hash.bytes(segment));
            }
            Output::Net(net::Command::Connect { conn, to, .. }) => {
                self.hash.words(&[7, conn.0, to.port().into()]);
            }
            Output::Net(net::Command::Close { conn }) => self.hash.words(&[8, conn.0]),
            Output::Net(net::Command::Cut { conn }) => self.hash.words(&[18, conn.0]),
            Output::Consul(consul::Command::Call(call)) => {
                self.hash.words(&[9, call.id.0]);
                self.hash.bytes(call.target.as_bytes());
                self.hash.bytes(&call.body);
            }
            Output::Consul(consul::Command::Cancel(call)) => self.hash.words(&[10, call.0]),
            Output::Spiel(call) => self.hash.bytes(format!("{call:?}").as_bytes()),
            Output::Http(response) => {
                self.hash.words(&[11, response.id.0, response.status.into()]);
                self.hash.bytes(&response.body);
            }
            Output::Fact(fact) => self.hash.words(&[12, fact.kind() as u64]),
        }
        if self.keep > 0 {
            let text = describe_output(output);
            self.say(now, || format!("hax {hax} -> {text}"));
        }
    }
}

/// One line for an input.
#[must_use]
pub fn describe_input(input: &Input) -> String {
    match input {
        Input::Tick => "tick".into(),
        Input::Net(net::Event::Received { conn, bytes }) => {
            format!("{conn}: {}", frames(bytes))
        }
        Input::Net(event) => format!("{event:?}"),
        Input::Consul(reply) => match &reply.result {
            Ok(answer) => format!(
                "{}: {} index {} {}",
                reply.id,
                answer.status,
                answer.index,
                start_of(&answer.body)
            ),
            Err(why) => format!("{}: {}", reply.id, why.why()),
        },
        Input::Spiel(reply) => format!("{}: {:?}", reply.id, reply.result),
        Input::Http(request) => format!(
            "{}: {} {} {}",
            request.id,
            request.method,
            request.target,
            start_of(&request.body)
        ),
        Input::Stop => "stop".into(),
    }
}

/// One line for an output.
#[must_use]
pub fn describe_output(output: &Output) -> String {
    match output {
        Output::Net(net::Command::Write { conn, segments }) => {
            format!("{conn}: {}", frames(&Bytes::from(segments.concat())))
        }
        Output::Net(command) => format!("{command:?}"),
        Output::Consul(consul::Command::Call(call)) => {
            format!("{}: {:?} {} {}", call.id, call.method, call.target, start_of(&call.body))
        }
        Output::Consul(consul::Command::Cancel(call)) => format!("{call}: cancelled"),
        Output::Spiel(call) => format!("{}: {:?}", call.id, call.op),
        Output::Http(response) => {
            format!("{}: {} {}", response.id, response.status, start_of(&response.body))
        }
        Output::Fact(fact) => format!("[{}] {fact}", fact.kind().name()),
    }
}

fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    text.replace('\n', " ")
}

fn frames(bytes: &Bytes) -> String {
    let mut frames = Frames::default();
    frames.feed(bytes.clone());
    let mut text = String::new();
    while let Ok(Some((header, payload))) = frames.cut() {
        let Ok(items) = packet::decode(&payload) else { break };
        for item in items.flatten() {
            let _ = write!(text, "[{} to {} {}]", header.src.addr, header.dst.addr, fop(&item.fop));
        }
    }
    if text.is_empty() { format!("{} bytes", bytes.len()) } else { text }
}

fn fop(fop: &Fop) -> String {
    match fop {
        Fop::LinkMsg(msg) => {
            let what = msg.message.as_ref().map_or_else(|| "nothing".into(), |m| message(m));
            format!("207 tag {} in_delivered {} {what}", msg.tag, msg.in_delivered)
        }
        Fop::EntrypointReq(req) => format!("117 first {} {}", req.first, req.process),
        Fop::EntrypointRep(rep) => format!(
            "118 control {} reconnect {} confds {}",
            rep.control,
            rep.do_reconnect,
            rep.confds.len()
        ),
        other => format!("{other:?}"),
    }
}

/// A few words for a message.
pub(super) fn message(message: &Message) -> String {
    match &message.body {
        Body::Nvec(nvec) => {
            let mut text =
                format!("{:?} id {} of {}:", nvec.kind, nvec.id_of_get, nvec.notes.len());
            for note in nvec.notes.iter().take(4) {
                let _ = write!(text, " {}={}", note.fid, note.state);
            }
            text
        }
        Body::Process(event) => format!("{} {} {}", message.fid, event.event, event.kind),
        body => body.name().to_owned(),
    }
}
