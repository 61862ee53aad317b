//! Messages to an instance of this node (the RFC's section "Messages of a service").
//!
//! A type declares its messages, each with the program that delivers it. All types have two more: `check` looks whether
//! the instance is well, and `status` writes its state to the log at once. The request is answered with the program's
//! exit code and its output. A message that the type does not have is no failure of the instance.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::json;

use super::State;
use super::answer_now;
use super::context::Cx;
use super::instance::Stage;
use crate::base::id::{ExecId, HttpId};
use crate::exec::{Cause, Command, Event, Origin, Spawn, Status, Stream};
use crate::http::answer::Answer;
use crate::http::port::{Request, Trust};
use crate::http::router;
use crate::services::fact::Fact;
use crate::services::model::launch::Launch;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::scripted::{Action, CommandLine};
use crate::services::refusal::refuse;

/// The message that looks whether an instance is well.
const CHECK: &str = "check";
/// The message that writes the state to the log.
const STATUS: &str = "status";

/// The maximum number of messages under way.
const UNDER_WAY_MAX: usize = 16;
/// The maximum size of what a message carries.
const BODY_MAX: usize = 64 << 10;
/// The maximum of each of a program's two outputs.
const OUTPUT_MAX: usize = 64 << 10;
/// The time limit of a program.
const WITHIN: Duration = Duration::from_secs(30);
/// The time that a program has after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A message whose program runs.
#[derive(Debug)]
pub(super) struct Message {
    http: HttpId,
    /// What the program has written to its two outputs.
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// Returns the type and the message that a path is about.
pub(in crate::services) fn route(path: &str) -> Option<(&str, &str)> {
    let (kind, message) = path.strip_prefix("/v1/services/")?.split_once("/send/")?;
    (!message.contains('/')).then_some((kind, message))
}

impl State {
    pub(super) fn on_message(&mut self, cx: &mut Cx<'_>, request: &Request) {
        if let Err(answer) = self.deliver(cx, request) {
            answer_now(cx, request.id, answer);
        }
    }

    /// Starts the program that delivers a message.
    fn deliver(&mut self, cx: &mut Cx<'_>, request: &Request) -> Result<(), Answer> {
        let path = router::path(&request.target);
        let (kind, message) = route(path).ok_or_else(|| Answer::not_found(path))?;
        if &*request.method != "POST" {
            return Err(Answer::not_allowed("POST"));
        }
        if self.phase != super::Phase::Serving {
            return Err(Answer::stopping());
        }
        if request.trust < Trust::Authorized {
            let why =
                "a message needs the token (--http-token-file) or the local socket (--http-socket)";
            return Err(refuse(403, why));
        }
        if request.body.len() > BODY_MAX {
            return Err(refuse(413, "a message carries 64 KiB at most"));
        }
        if self.messages.len() >= UNDER_WAY_MAX {
            return Err(refuse(503, "too many messages are under way; try again later"));
        }
        let own = &self.config.node;
        if let Some(node) = router::query(&request.target, "node")
            && NodeName::new(node).as_ref() != Some(own)
        {
            let why = format!("this is {own}: send it to the hax of {node} (--http)");
            return Err(refuse(409, &why));
        }
        let kind = TypeName::new(kind)
            .filter(|kind| self.instances.contains_key(kind))
            .ok_or_else(|| refuse(404, "there is no such type on this node"))?;
        let row = &self.instances[&kind];
        let runs = |stage| matches!(stage, Stage::Warming | Stage::Up);
        let live = row.live.as_ref().filter(|live| runs(live.stage));
        let live = live.ok_or_else(|| refuse(409, &format!("{kind} does not run on {own}")))?;
        if message == STATUS {
            let (state, pid) = (row.seen.state.name(), row.seen.pid.unwrap_or(0));
            let why = row.seen.reason.as_ref().map_or("", |reason| &reason.text);
            let answer = json!({ "exit": 0, "state": state, "pid": row.seen.pid, "reason": why });
            let (instance, why) = (live.id.clone(), why.into());
            cx.emit(Fact::StatusOf { instance, state, pid, why });
            return Err(Answer::new(200, format!("{answer}")));
        }
        let launch = live.launch.as_ref();
        let launch =
            launch.ok_or_else(|| refuse(409, "with what configuration it runs is not known"))?;
        let Some(line) = self.command(launch, &kind, message)? else {
            return Err(Answer::new(200, r#"{"exit":0,"output":"","errors":"it has no check"}"#));
        };
        let (argv, origin, mut env) = (line.argv, line.origin, Vec::from(line.env));
        env.push(("HAX_INSTANCE".into(), live.id.as_str().into()));
        env.push(("HAX_MESSAGE".into(), message.into()));
        env.extend(row.seen.pid.map(|pid| ("MAINPID".into(), format!("{pid}").into())));
        let message_name: Box<str> = message.into();
        let (instance, message) = (live.id.clone(), message_name.clone());
        let id = self.next_helper.mint();
        let (output, errors) = (Vec::new(), Vec::new());
        self.messages.insert(id, Message { http: request.id, output, errors });
        cx.emit(Fact::Sends { instance, message });
        let (env, stdin) = (env.into(), request.body.clone());
        let check = launch.check.as_ref().filter(|_| &*message_name == CHECK);
        let within = check.map_or(WITHIN, |check| Duration::from_millis(check.timeout_ms));
        let (deadline, grace, output_max) = (within, GRACE, OUTPUT_MAX);
        let leaves_daemons = false;
        let spawn =
            Spawn { id, origin, argv, env, stdin, deadline, grace, output_max, leaves_daemons };
        cx.emit(Command::Spawn(Box::new(spawn)));
        Ok(())
    }

    /// Returns the program of a message; none if there is nothing to run.
    fn command(
        &self,
        launch: &Launch,
        kind: &TypeName,
        message: &str,
    ) -> Result<Option<CommandLine>, Answer> {
        let bare = |(argv, origin)| CommandLine { argv, env: [].into(), origin };
        if let Some(argv) = launch.messages.get(message) {
            return Ok(Some(bare((argv.clone(), Origin::Configured))));
        }
        if message != CHECK {
            let own: Vec<&str> = launch.messages.keys().map(|name| &**name).collect();
            let own = [&*own, &[CHECK, STATUS]].concat().join(", ");
            let why = format!("{kind} does not support this message; it has {own}");
            return Err(refuse(404, &why));
        }
        if let Some(of) = &launch.scripted {
            return Ok(Some(of.script.command(Action::Monitor, kind.as_str(), of.timeout_ms)));
        }
        let check = launch.check.as_ref();
        Ok(check.map(|check| bare(check.probe.helper(&self.config.program))))
    }

    /// Takes an event of a message's program. Returns another one.
    pub(super) fn take_message(&mut self, cx: &mut Cx<'_>, event: Event) -> Option<Event> {
        let id = event.id();
        let Some(message) = self.messages.get_mut(&id) else { return Some(event) };
        match event {
            Event::Started { .. } => {}
            Event::Output { stream: Stream::Stdout, bytes, .. } => message.output.extend(&bytes),
            Event::Output { stream: Stream::Stderr, bytes, .. } => message.errors.extend(&bytes),
            Event::Refused { why, .. } => {
                let why = format!("the program was not started: {why}");
                self.answer_message(cx, id, |_| refuse(409, &why));
            }
            Event::Exited { status, cause, .. } => self.answer_message(cx, id, |message| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (exit, signal) = match (status, cause) {
                    (_, Cause::Deadline) => (None, Some("no result in time".into())),
                    (Status::Code(code), _) => (Some(code), None),
                    (status, _) => (None, Some(format!("{status}"))),
                };
                let (output, errors) = (text(&message.output), text(&message.errors));
                let body =
                    json!({ "exit": exit, "end": signal, "output": output, "errors": errors });
                Answer::new(200, format!("{body}"))
            }),
        }
        None
    }

    fn answer_message(
        &mut self,
        cx: &mut Cx<'_>,
        id: ExecId,
        answer: impl FnOnce(&Message) -> Answer,
    ) {
        if let Some(message) = self.messages.remove(&id) {
            cx.http(message.http, answer(&message));
        }
    }

    /// Answers all messages under way: hax stops, and its programs with it.
    pub(super) fn refuse_messages(&mut self, cx: &mut Cx<'_>) {
        for message in core::mem::take(&mut self.messages).into_values() {
            cx.http(message.http, Answer::stopping());
        }
    }
}
