//! One event handler process, from its start to its end.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::context::Cx;
use super::super::decide::Response;
use super::super::job::{Done, Fence, GRACE, Job, WITHIN};
use super::super::logins;
use super::super::node::{Index, Node};
use super::{EventManager, Work};
use crate::base::id::ExecId;
use crate::base::time::Instant;
use crate::exec::{Cause, Command, Event, Origin, Spawn, Status, Stream};

/// The maximum number of bytes of a handler's output.
const OUTPUT_MAX: usize = 16 << 10;

/// A running event handler. See the module.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) index: Index,
    pub(super) work: Work,
    pub(super) began: Instant,
    pub(super) fence: Option<Fence>,
    pub(super) group: Option<Box<str>>,
    /// The identity of the credentials, for the handler's token.
    pub(super) login: Option<Box<str>>,
    output: Vec<u8>,
    complaint: Vec<u8>,
    /// The reason why the server asked the handler to terminate, if it did.
    ended: Option<&'static str>,
}

/// An event whose handler may start now.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) index: Index,
    pub(super) work: Work,
    pub(super) node: &'a Node,
    pub(super) response: Response,
    /// The time limit of the handler.
    pub(super) within: Duration,
    pub(super) fence: Option<Fence>,
}

impl EventManager {
    /// Starts an event handler.
    pub(super) fn spawn(&mut self, cx: &mut Cx<'_>, start: Start<'_>) {
        let Start { index, work, node, response, within, fence } = start;
        let id = self.next_exec.mint();
        let mut job = Job::new(work.event, response, node, fence.clone());
        job.within_ms = Some(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        job.token = self.tokens.find(node, cx.now().wall);
        // The job contains only text, numbers and maps, so it can always be serialized.
        let job = serde_json::to_vec(&job).unwrap_or_default();
        let own = (WITHIN.into(), format!("{}", within.as_millis()).into());
        let env = logins::environment(&self.env, node).into_iter().chain([own]).collect();
        cx.emit(Command::Spawn(Box::new(Spawn {
            id,
            origin: Origin::Own,
            argv: [self.program.clone(), "event-handler".into()].into(),
            env,
            stdin: job.into(),
            deadline: within,
            grace: GRACE,
            output_max: OUTPUT_MAX,
            leaves_daemons: false,
        })));
        let began = cx.now().mono;
        let group = fence.as_ref().and_then(|_| node.group()).map(Into::into);
        let login = logins::identity(node.provider, &node.parameters);
        let (output, complaint, ended) = (Vec::new(), Vec::new(), None);
        let running = Running { index, work, began, fence, group, login, output, complaint, ended };
        self.running.insert(id, running);
    }

    /// Handles an event of the handler process. Returns the result once the process has ended.
    pub(super) fn heard(&mut self, event: Event) -> Option<(ExecId, Result<Done, String>)> {
        match event {
            Event::Started { .. } => None,
            Event::Output { id, stream, bytes } => {
                let running = self.running.get_mut(&id)?;
                match stream {
                    Stream::Stdout => running.output.extend_from_slice(&bytes),
                    Stream::Stderr => running.complaint.extend_from_slice(&bytes),
                }
                None
            }
            Event::Refused { id, why } => {
                Some((id, Err(format!("the event handler is not started: {why}"))))
            }
            Event::Exited { id, status, cause, .. } => {
                Some((id, self.running.get(&id)?.result(status, cause)))
            }
        }
    }
}

impl Running {
    /// Returns whether the handler writes under the lease of this group.
    pub(super) fn is_of(&self, group: &str) -> bool {
        self.group.as_deref() == Some(group)
    }

    /// Asks the handler to terminate.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, id: ExecId, why: &'static str) {
        if self.ended.replace(why).is_none() {
            cx.emit(Command::Kill { id });
        }
    }

    /// Returns the result of a handler that has ended.
    fn result(&self, status: Status, cause: Cause) -> Result<Done, String> {
        match cause {
            Cause::Deadline => return Err("the event handler took too long and was killed".into()),
            Cause::Killed => return Err(self.ended.unwrap_or("it was killed").into()),
            Cause::Itself => {}
        }
        let done: Done = match serde_json::from_slice(&self.output) {
            Ok(done) => done,
            Err(_) => {
                let said = String::from_utf8_lossy(&self.complaint);
                let said: String = said.trim().chars().take(200).collect();
                return Err(format!("the event handler ended with {status}: {said}"));
            }
        };
        match (done.outcome, status) {
            (super::Outcome::Failed, _) | (_, Status::Code(0)) => Ok(done),
            _ => Err(format!("the event handler ended with {status}: {}", done.detail)),
        }
    }
}
