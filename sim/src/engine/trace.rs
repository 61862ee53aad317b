//! The trace of a run, as one hash and, on request, as lines.
//!
//! A run keeps only the hash. For the lines, the same tape is run once more, and the hash shows whether it
//! was the same run.

use std::collections::VecDeque;

use bytes::Bytes;
use hax_core::base::fact::Report;
use hax_core::consul::port as consul;
use hax_core::http::port as http;
use hax_core::machine::{Input, Output};
use hax_core::net;
use hax_core::state::Command;

/// A hash of all values fed to it, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Returns the hash as a number.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    /// Adds a number.
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Adds numbers.
    fn add_all(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.add(*word));
    }

    /// Adds bytes.
    fn add_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        self.add(bytes.len() as u64);
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.add(u64::from(*byte)));
    }
}

/// The trace of a run.
pub(crate) struct Trace {
    pub(crate) hash: Hash,
    /// The last lines, if lines are kept.
    pub(crate) lines: VecDeque<String>,
    /// The maximum number of lines to keep.
    keep: usize,
    /// The function for a short description of bytes on a connection.
    describe: fn(&Bytes) -> String,
}

impl Trace {
    /// Creates a trace with room for the last `lines` lines. `describe` describes the bytes on a connection.
    pub(crate) fn with_lines(lines: usize, describe: fn(&Bytes) -> String) -> Self {
        Self { hash: Hash::default(), lines: VecDeque::new(), keep: lines, describe }
    }

    /// Adds a line for the reader of the trace.
    pub(crate) fn log(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        if self.lines.len() == self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6}.{:06} {}", now / 1_000_000, now % 1_000_000, line()));
    }

    /// Records an input of a machine.
    pub(crate) fn input(&mut self, now: u64, name: &str, node: usize, input: &Input) {
        self.hash.add_all(&[now, node as u64]);
        self.hash.input(input);
        let describe = self.describe;
        self.log(now, || format!("{name} {node} <- {}", input_line(input, describe)));
    }

    /// Records an output of a machine.
    pub(crate) fn output<F: Report>(&mut self, now: u64, name: &str, node: usize, out: &Output<F>) {
        self.hash.output(out);
        let describe = self.describe;
        self.log(now, || format!("{name} {node} -> {}", output_line(out, describe)));
    }
}

impl Hash {
    fn input(&mut self, input: &Input) {
        match input {
            Input::Tick => self.add(1),
            Input::Net(net::Event::Received { conn, bytes }) => {
                self.add_all(&[2, conn.0]);
                self.add_bytes(bytes);
            }
            Input::Net(event) => self.add_bytes(format!("{event:?}").as_bytes()),
            Input::Consul(consul::Reply { id, result }) => {
                self.add_all(&[3, id.0]);
                match result {
                    Ok(answer) => {
                        self.add_all(&[answer.status.into(), answer.index]);
                        self.add_bytes(&answer.body);
                    }
                    Err(why) => self.add(*why as u64),
                }
            }
            Input::Spiel(reply) => self.add_bytes(format!("{reply:?}").as_bytes()),
            Input::Exec(event) => self.add_bytes(format!("{event:?}").as_bytes()),
            Input::HttpStream(closed) => self.add_bytes(format!("{closed:?}").as_bytes()),
            Input::File(event) => self.add_bytes(format!("{event:?}").as_bytes()),
            Input::Fifo(request) => self.add_bytes(format!("{request:?}").as_bytes()),
            Input::Keeper(event) => self.add_bytes(format!("{event:?}").as_bytes()),
            Input::Http(request) => {
                self.add_all(&[4, request.id.0]);
                self.add_bytes(&request.body);
            }
            Input::Stop => self.add(5),
        }
    }

    fn output<F: Report>(&mut self, output: &Output<F>) {
        match output {
            Output::Net(net::Command::Write { conn, segments }) => {
                self.add_all(&[6, conn.0]);
                segments.iter().for_each(|segment| self.add_bytes(segment));
            }
            Output::Net(net::Command::Connect { conn, to, .. }) => {
                self.add_all(&[7, conn.0, to.port().into()]);
            }
            Output::Net(net::Command::Close { conn }) => self.add_all(&[8, conn.0]),
            Output::Net(net::Command::Cut { conn }) => self.add_all(&[18, conn.0]),
            Output::Consul(consul::Command::Call(call)) => {
                self.add_all(&[9, call.id.0]);
                self.add_bytes(call.target.as_bytes());
                self.add_bytes(&call.body);
            }
            Output::Consul(consul::Command::Cancel(call)) => self.add_all(&[10, call.0]),
            Output::Spiel(call) => self.add_bytes(format!("{call:?}").as_bytes()),
            Output::Exec(command) => self.add_bytes(format!("{command:?}").as_bytes()),
            Output::HttpStream(command) => self.add_bytes(format!("{command:?}").as_bytes()),
            Output::File(command) => self.add_bytes(format!("{command:?}").as_bytes()),
            Output::Fifo(response) => self.add_bytes(format!("{response:?}").as_bytes()),
            Output::Keeper(command) => self.add_bytes(format!("{command:?}").as_bytes()),
            Output::State(Command::Keep { slot, value }) => {
                self.add_all(&[19, (*slot).into()]);
                self.add_bytes(value);
            }
            Output::State(Command::Empty { slot }) => self.add_all(&[20, (*slot).into()]),
            Output::Http(response) => {
                self.add_all(&[11, response.id.0, response.status.into()]);
                self.add_bytes(&response.body);
            }
            Output::Fact(fact) => self.add_all(&[12, fact.nth() as u64]),
        }
    }
}

/// Formats an input as one line.
fn input_line(input: &Input, describe: fn(&Bytes) -> String) -> String {
    match input {
        Input::Tick => "tick".into(),
        Input::Net(net::Event::Received { conn, bytes }) => format!("{conn}: {}", describe(bytes)),
        Input::Net(event) => format!("{event:?}"),
        Input::Consul(consul::Reply { id, result }) => match result {
            Ok(answer) => {
                format!("{id}: {} index {} {}", answer.status, answer.index, start_of(&answer.body))
            }
            Err(why) => format!("{id}: {}", why.why()),
        },
        Input::Spiel(reply) => format!("{}: {:?}", reply.id, reply.result),
        Input::Exec(event) => format!("{event:?}"),
        Input::HttpStream(closed) => format!("{closed:?}"),
        Input::File(event) => format!("{event:?}"),
        Input::Fifo(request) => format!("{request:?}"),
        Input::Keeper(event) => format!("{event:?}"),
        Input::Http(request) => {
            let http::Request { id, method, target, body, .. } = &**request;
            format!("{id}: {method} {target} {}", start_of(body))
        }
        Input::Stop => "stop".into(),
    }
}

/// Formats an output as one line.
fn output_line<F: Report>(output: &Output<F>, describe: fn(&Bytes) -> String) -> String {
    match output {
        Output::Net(net::Command::Write { conn, segments }) => {
            format!("{conn}: {}", describe(&Bytes::from(segments.concat())))
        }
        Output::Net(command) => format!("{command:?}"),
        Output::Consul(consul::Command::Call(call)) => {
            format!("{}: {:?} {} {}", call.id, call.method, call.target, start_of(&call.body))
        }
        Output::Consul(consul::Command::Cancel(call)) => format!("{call}: cancelled"),
        Output::Spiel(call) => format!("{}: {:?}", call.id, call.op),
        Output::Exec(command) => format!("{command:?}"),
        Output::HttpStream(command) => format!("{command:?}"),
        Output::File(command) => format!("{command:?}"),
        Output::Fifo(response) => format!("{response:?}"),
        Output::Keeper(command) => format!("{command:?}"),
        Output::State(Command::Keep { slot, value }) => {
            format!("state {slot}: {} bytes", value.len())
        }
        Output::State(Command::Empty { slot }) => format!("state {slot}: empty"),
        Output::Http(response) => {
            format!("{}: {} {}", response.id, response.status, start_of(&response.body))
        }
        Output::Fact(fact) => format!("[{}] {fact}", F::KINDS[fact.nth()].name),
    }
}

fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    text.replace('\n', " ")
}
