//! The server under test, and its plantable bugs.

use bytes::Bytes;
use hax_core::base::id::{ExecId, FifoId, FileId};
use hax_core::base::mutant::Mutant as Inside;
use hax_core::base::time::{Next, Now};
use hax_core::fifo::{Request, Response};
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use hax_core::route::fact::Fact;
use hax_core::route::request::{Answer, exit};
use hax_core::route::{Config, Server, stored};
use hax_core::{exec, file};
use serde_json::Value;

/// A bug in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A change is acknowledged while it is being written.
    AcknowledgedEarly,
    /// A change is treated as written although its write has failed.
    FailureIgnored,
    /// Now and then a change is not written.
    WriteSkipped,
    /// A damaged file is treated as a missing file.
    DamageForgiven,
    /// Two handlers process one event.
    HandlerTwice,
    /// A handler receives the job of the previous handler.
    JobStale,
    /// The result of a handler for one event is reported to the next client.
    ResultMixedUp,
    /// A failure is reported as a success.
    FailureHidden,
    /// Two answers are sent to each other's clients.
    AnswersSwapped,
    /// Now and then an answer is not sent.
    AnswerLost,
    /// Now and then an answer is sent twice.
    AnswerTwice,
    /// A stop deletes all state.
    StopErases,
    /// A deletion of all state does not delete it.
    EraseKeeps,
    /// After its exit the server requests more.
    SpeaksAfterExit,
    /// A planted bug in the core.
    Inside(Inside),
}

impl Bug {
    /// The bugs between the server and its host.
    const OUTSIDE: [Self; 14] = [
        Self::AcknowledgedEarly,
        Self::FailureIgnored,
        Self::WriteSkipped,
        Self::DamageForgiven,
        Self::HandlerTwice,
        Self::JobStale,
        Self::ResultMixedUp,
        Self::FailureHidden,
        Self::AnswersSwapped,
        Self::AnswerLost,
        Self::AnswerTwice,
        Self::StopErases,
        Self::EraseKeeps,
        Self::SpeaksAfterExit,
    ];

    /// Returns all bugs. Those in the core need the feature `mutants`.
    pub fn all() -> impl Iterator<Item = Self> {
        let inside = if cfg!(feature = "mutants") { Inside::OF_GROUPS } else { &[] };
        Self::OUTSIDE.into_iter().chain(inside.iter().copied().map(Self::Inside))
    }
}

/// Plants a bug in the core, or removes it.
pub(super) fn plant(bug: Option<Bug>) {
    #[cfg(feature = "mutants")]
    hax_core::base::mutant::plant(match bug {
        Some(Bug::Inside(inside)) => Some(inside),
        _ => None,
    });
    #[cfg(not(feature = "mutants"))]
    let _ = bug;
}

/// The first identifier of a bug's own commands.
const OWN: u64 = 1 << 40;

/// The server. A planted bug sits between the server and its host.
#[derive(Debug)]
pub struct Subject {
    server: Server,
    bug: Option<Bug>,
    /// The number of the bug's opportunities so far.
    turns: u64,
    /// The clients with a premature answer.
    answered: Vec<FifoId>,
    /// The write commands.
    writes: Vec<FileId>,
    /// The last text of an answer to an event, and the last job.
    last_text: Option<String>,
    last_job: Option<Bytes>,
}

impl Subject {
    /// Creates a server before its read of the file.
    #[must_use]
    pub fn new(config: Config, bug: Option<Bug>) -> Self {
        Self {
            server: Server::new(config),
            bug,
            turns: 0,
            answered: Vec::new(),
            writes: Vec::new(),
            last_text: None,
            last_job: None,
        }
    }

    fn is_turn(&mut self, every: u64) -> bool {
        self.turns += 1;
        self.turns.is_multiple_of(every)
    }

    /// Replaces an input of the server. Returns none if the input is to be dropped.
    fn takes(&self, bug: Bug, input: Input) -> Option<Input> {
        Some(match (bug, input) {
            (Bug::FailureIgnored, Input::File(file::Event::Failed { id, .. }))
                if self.writes.contains(&id) =>
            {
                Input::File(file::Event::Done { id })
            }
            (Bug::DamageForgiven, Input::File(file::Event::Content { id, content }))
                if stored::read(&content).is_err() =>
            {
                Input::File(file::Event::Missing { id })
            }
            (Bug::StopErases, Input::Stop) => {
                let body = r#"{"request": "stop"}"#.into();
                Input::Fifo(Request { id: FifoId(OWN), body })
            }
            (
                Bug::HandlerTwice,
                Input::Exec(
                    exec::Event::Started { id }
                    | exec::Event::Refused { id, .. }
                    | exec::Event::Output { id, .. }
                    | exec::Event::Exited { id, .. },
                ),
            ) if id.0 >= OWN => return None,
            (_, input) => input,
        })
    }

    /// Replaces the outputs to the host.
    fn gives(
        &mut self,
        bug: Bug,
        asked: Option<FifoId>,
        given: Vec<Output<Fact>>,
    ) -> Vec<Output<Fact>> {
        let is_answered = |id: FifoId| {
            given.iter().any(|output| matches!(output, Output::Fifo(to) if to.id == id))
        };
        let early = asked.filter(|id| !is_answered(*id) && bug == Bug::AcknowledgedEarly);
        let mut out = Vec::new();
        for output in given {
            match output {
                Output::Fifo(response) => out.extend(self.answers(bug, response)),
                Output::Exec(exec::Command::Spawn(spawn)) => out.extend(self.spawns(bug, *spawn)),
                other => out.push(other),
            }
        }
        if let Some(id) = early
            && out.iter().any(|output| matches!(output, Output::File(file::Command::Write(_))))
        {
            self.answered.push(id);
            let body = Answer::ok("node 0: done").encode().into_bytes().into();
            out.push(Response { id, body }.into());
        }
        let answers: Vec<usize> =
            (0..out.len()).filter(|at| matches!(out[*at], Output::Fifo(_))).collect();
        if let (Bug::AnswersSwapped, [first, second, ..]) = (bug, &answers[..])
            && let [Output::Fifo(a), Output::Fifo(b)] = [&out[*first], &out[*second]]
        {
            let swapped = [(a.id, b.body.clone()), (b.id, a.body.clone())];
            let [one, two] = swapped.map(|(id, body)| Output::from(Response { id, body }));
            (out[*first], out[*second]) = (one, two);
        }
        out
    }

    fn answers(&mut self, bug: Bug, mut response: Response) -> Vec<Output<Fact>> {
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = answer["text"].as_str().unwrap_or_default().to_owned();
        let code = answer["exit"].as_u64().and_then(|code| u8::try_from(code).ok());
        let is_of_event = text.contains("work ");
        match bug {
            Bug::AcknowledgedEarly if self.answered.contains(&response.id) => return Vec::new(),
            Bug::StopErases if response.id.0 == OWN => return Vec::new(),
            Bug::AnswerLost if self.is_turn(7) => return Vec::new(),
            Bug::AnswerTwice if self.is_turn(7) => {
                return vec![response.clone().into(), response.into()];
            }
            Bug::FailureHidden if code == Some(exit::EVENT) => {
                response.body = Answer::ok(text).encode().into_bytes().into();
            }
            Bug::ResultMixedUp if is_of_event => {
                if let Some(last) = self.last_text.replace(text) {
                    let exit = code.unwrap_or(exit::OK);
                    response.body = Answer { exit, text: last }.encode().into_bytes().into();
                }
            }
            Bug::AcknowledgedEarly
            | Bug::FailureIgnored
            | Bug::WriteSkipped
            | Bug::DamageForgiven
            | Bug::HandlerTwice
            | Bug::JobStale
            | Bug::ResultMixedUp
            | Bug::FailureHidden
            | Bug::AnswersSwapped
            | Bug::AnswerLost
            | Bug::AnswerTwice
            | Bug::StopErases
            | Bug::EraseKeeps
            | Bug::SpeaksAfterExit
            | Bug::Inside(_) => {}
        }
        vec![response.into()]
    }

    fn spawns(&mut self, bug: Bug, mut spawn: exec::Spawn) -> Vec<Output<Fact>> {
        if bug == Bug::JobStale {
            let last = self.last_job.replace(spawn.stdin.clone());
            spawn.stdin = last.unwrap_or_else(|| spawn.stdin.clone());
        }
        let second = exec::Spawn { id: ExecId(spawn.id.0 + OWN), ..spawn.clone() };
        let twice = (bug == Bug::HandlerTwice).then_some(second);
        let all = std::iter::once(spawn).chain(twice);
        all.map(|spawn| Output::Exec(exec::Command::Spawn(Box::new(spawn)))).collect()
    }

    /// Removes the file command to be skipped. Returns it, if there is one.
    fn skipped(&mut self, bug: Bug, out: &mut Vec<Output<Fact>>) -> Option<FileId> {
        let is_its = |output: &Output<Fact>| match output {
            Output::File(file::Command::Write(_)) => bug == Bug::WriteSkipped,
            Output::File(file::Command::Remove { .. }) => bug == Bug::EraseKeeps,
            _ => false,
        };
        let at = out.iter().position(is_its)?;
        if bug == Bug::WriteSkipped && !self.is_turn(4) {
            return None;
        }
        match out.remove(at) {
            Output::File(command) => Some(command.id()),
            _ => None,
        }
    }
}

impl Machine for Subject {
    type Fact = Fact;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Fact>>) -> Next {
        let Some(bug) = self.bug else { return self.server.handle(now, input, out) };
        let asked = if let Input::Fifo(request) = &input { Some(request.id) } else { None };
        let Some(input) = self.takes(bug, input) else {
            return self.server.handle(now, Input::Tick, out);
        };
        let mut given = Vec::new();
        let mut next = self.server.handle(now, input, &mut given);
        while next != Next::Exit
            && let Some(id) = self.skipped(bug, &mut given)
        {
            next = self.server.handle(now, Input::File(file::Event::Done { id }), &mut given);
        }
        for output in &given {
            if let Output::File(file::Command::Write(write)) = output {
                self.writes.push(write.id);
            }
        }
        out.extend(self.gives(bug, asked, given));
        next
    }

    fn blocking_queries(&self) -> usize {
        self.server.blocking_queries()
    }

    fn status(&self) -> Status {
        self.server.status()
    }

    fn exit(&self) -> ExitReason {
        self.server.exit()
    }
}
