//! A process's side of the wire and the script that directs it, as one machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hax_core::base::id::ConnId;
use hax_core::base::time::{Next, Now};
use hax_core::ha::fact::Fact;
use hax_core::net;
use hax_core::wire::process::{self, Process};
use serde_json::{Value, json};

use super::command::Command;
use super::script::{Act, Script};
use crate::exit::Exit;
use crate::host::run::Tick;

/// One input of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// An event of a TCP connection.
    Net(net::Event),
    /// A command.
    Command(Command),
    /// The end of the commands.
    Close,
}

impl Tick for Input {
    const TICK: Self = Self::Tick;
}

/// One output of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A command to a TCP connection.
    Net(net::Command),
    /// Print a line.
    Print(Value),
    /// Log a fact.
    Fact(Fact),
}

/// The HA messenger.
#[derive(Debug)]
pub struct Ham {
    process: Process,
    script: Script,
    connections: Connections,
}

impl Ham {
    /// Creates a messenger with an idle process; a command that waits for the peer fails after `patience`.
    #[must_use]
    pub fn new(config: process::Config, patience: Duration) -> Self {
        let script = Script::new(config.fid, patience);
        let connections = Connections::new(config.connect);
        Self { process: Process::new(config), script, connections }
    }

    /// Handles one input and appends the resulting outputs in order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let mut acts = Vec::new();
        let first = match input {
            Input::Net(event) => {
                out.extend(self.connections.hear(&event).map(Output::Print));
                process::Input::Net(event)
            }
            Input::Tick => process::Input::Tick,
            Input::Command(command) => {
                self.script.push(now, command, &mut acts);
                process::Input::Tick
            }
            Input::Close => {
                self.script.close(now, &mut acts);
                process::Input::Tick
            }
        };
        let mut next = self.process(now, first, &mut acts, out);
        // A command of the script to the process may cause events for the script.
        loop {
            let script = self.script.tick(now, &mut acts);
            if acts.is_empty() {
                return if self.script.exit().is_some() {
                    Next::Exit
                } else {
                    next.earlier(script)
                };
            }
            for act in std::mem::take(&mut acts) {
                match act {
                    Act::Print(line) => out.push(Output::Print(line)),
                    Act::Do(command) => {
                        next = self.process(now, process::Input::Command(command), &mut acts, out);
                    }
                }
            }
        }
    }

    /// Returns the result, once the messenger has ended.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.script.exit()
    }

    fn process(
        &mut self,
        now: Now,
        input: process::Input,
        acts: &mut Vec<Act>,
        out: &mut Vec<Output>,
    ) -> Next {
        let mut said = Vec::new();
        let next = self.process.handle(now, input, &mut said);
        for output in said {
            match output {
                process::Output::Net(command) => {
                    self.connections.command(&command);
                    out.push(Output::Net(command));
                }
                process::Output::Event(event) => self.script.hear(now, event, acts),
                process::Output::Fact(fact) => out.push(Output::Fact(fact)),
            }
        }
        next
    }
}

/// Our own connections, used to report why the peer cannot be reached.
#[derive(Debug)]
struct Connections {
    to: SocketAddr,
    /// The requested connections, and whether each is established.
    open: BTreeMap<ConnId, bool>,
    /// The last report; a problem is reported once.
    said: Option<&'static str>,
}

impl Connections {
    fn new(to: SocketAddr) -> Self {
        Self { to, open: BTreeMap::new(), said: None }
    }

    fn command(&mut self, command: &net::Command) {
        match command {
            net::Command::Connect { conn, .. } => {
                self.open.insert(*conn, false);
            }
            net::Command::Close { conn } => {
                self.open.remove(conn);
            }
            net::Command::Write { .. } | net::Command::Cut { .. } => {}
        }
    }

    /// Returns a line if the peer cannot be reached or has gone.
    fn hear(&mut self, event: &net::Event) -> Option<Value> {
        let (event, why) = match event {
            net::Event::Connected { conn } => {
                self.open.insert(*conn, true);
                return None;
            }
            net::Event::Closed { conn } => {
                if self.open.remove(conn)? {
                    ("disconnected", "closed by the peer")
                } else {
                    ("not-connected", "nobody accepts connections there")
                }
            }
            net::Event::Received { .. } => {
                self.said = None;
                return None;
            }
            net::Event::Accepted { .. } | net::Event::Written { .. } => return None,
        };
        let again = self.said.replace(event) == Some(event);
        (!again).then(|| json!({ "event": event, "why": why, "to": self.to.to_string() }))
    }
}
