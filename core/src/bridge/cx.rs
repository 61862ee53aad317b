//! What a handler may do during one call of `handle`.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::continuation::{Continuation, SpielContinuation, Timer};
use super::io::Output;
use super::refusals::Refusals;
use crate::base::config::Config;
use crate::base::fact::Fact;
use crate::base::id::{CallId, HttpId, LinkId, MsgId, SendId, SpielId};
use crate::base::retry::Jitter;
use crate::base::time::Now;
use crate::base::timers::Timers;
use crate::consul::port::{Answer, Call, Command, Method, Reply};
use crate::consul::replica::{Moment, Table};
use crate::ha::message::{Body, Message};
use crate::ha::{motr, spiel};
use crate::http;

/// What outlives a call.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) timers: Timers<Timer>,
    pub(crate) jitter: Jitter,
    pub(crate) calls: BTreeMap<CallId, Continuation>,
    pub(crate) asked: BTreeMap<SpielId, SpielContinuation>,
    pub(crate) next_call: CallId,
    pub(crate) next_spiel: SpielId,
    pub(crate) next_send: SendId,
    pub(crate) moment: Moment,
    /// Messages of processes that are not acknowledged.
    pub(crate) open: BTreeSet<(LinkId, MsgId)>,
    /// Why Consul did not answer last, until it does.
    pub(crate) trouble: Option<Box<str>>,
    /// Keys that are not of the expected form, as they were when that was said.
    pub(crate) odd: BTreeMap<Box<str>, u64>,
    pub(crate) refusals: Refusals,
    /// The newest index of an entry of each table of keys that we wrote, or read by itself.
    pub(crate) written: [u64; Table::KV.len()],
}

/// So many keys that are not of the expected form are remembered.
const ODD_MAX: usize = 256;

/// What a handler may do.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) out: &'a mut Vec<Output>,
    pub(crate) shared: &'a mut Shared,
}

impl Cx<'_> {
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.out.push(Output::Fact(fact));
    }

    /// A key of Consul, as it was written at `index`, is not of the expected form. Said once: tables are
    /// read again and again.
    pub(crate) fn pass_over(&mut self, key: &str, index: u64) {
        if self.shared.odd.get(key) == Some(&index) {
            return;
        }
        if self.shared.odd.len() >= ODD_MAX {
            self.shared.odd.clear();
        }
        self.shared.odd.insert(key.into(), index);
        self.fact(Fact::EntrySkipped { key: key.into() });
    }

    /// Consul has an entry of this index in a table: no consistent reading that is sent from now on is of an
    /// earlier index, unless Consul's history has begun anew.
    pub(crate) fn has_written(&mut self, table: Table, index: u64) {
        if let Some(newest) = self.shared.written.get_mut(table as usize) {
            *newest = index.max(*newest);
        }
    }

    /// The newest index of such an entry; 0 if there is none.
    pub(crate) fn newest_written(&self, table: Table) -> u64 {
        self.shared.written.get(table as usize).copied().unwrap_or(0)
    }

    /// Consul's indexes of a table have begun anew.
    pub(crate) fn forget_written(&mut self, table: Table) {
        self.shared.written.get_mut(table as usize).into_iter().for_each(|newest| *newest = 0);
    }

    pub(crate) fn motr(&mut self, command: motr::Command) {
        self.out.push(Output::Motr(command));
    }

    pub(crate) fn ack(&mut self, link: LinkId, msg: MsgId) {
        self.shared.open.remove(&(link, msg));
        self.motr(motr::Command::Ack { link, msg });
    }

    /// Whether a process has said something before this message that is not acknowledged: it does not
    /// learn that this one is, either.
    pub(crate) fn is_behind(&self, (link, msg): (LinkId, MsgId)) -> bool {
        self.shared.open.range((link, MsgId(0))..(link, msg)).next().is_some()
    }

    /// Nothing of a link is acknowledged any more.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        self.shared.open.retain(|(of, _)| *of != link);
    }

    pub(crate) fn arm(&mut self, timer: Timer, after: Duration) {
        self.shared.timers.arm(timer, self.now.mono.after(after));
    }

    /// Sends one message over these links.
    pub(crate) fn send(&mut self, to: Vec<LinkId>, body: Body) -> SendId {
        let send = self.shared.next_send.mint();
        let message = Arc::new(Message::new(self.now.wall, body));
        self.motr(motr::Command::Send { send, to: to.into(), message });
        send
    }

    /// Reads with the usual time limit.
    pub(crate) fn get(&mut self, job: Continuation, target: String) -> CallId {
        let within = self.config().time.call;
        self.call(job, Method::Get, target, Bytes::new(), within)
    }

    pub(crate) fn call(
        &mut self,
        job: Continuation,
        method: Method,
        target: String,
        body: Bytes,
        within: Duration,
    ) -> CallId {
        let id = self.shared.next_call.mint();
        self.shared.calls.insert(id, job);
        let body_max = self.config().limit.answer_bytes;
        let call = Call { id, method, target, body, within, body_max };
        self.out.push(Output::Consul(Command::Call(Box::new(call))));
        id
    }

    pub(crate) fn cancel(&mut self, call: CallId) {
        if self.shared.calls.remove(&call).is_some() {
            self.out.push(Output::Consul(Command::Cancel(call)));
        }
    }

    /// The answer, or nothing and a fact where Consul gave none or is not well.
    pub(crate) fn answer<'a>(&mut self, job: Continuation, reply: &'a Reply) -> Option<&'a Answer> {
        let (call, what) = (reply.id, job.name());
        let why: Box<str> = match &reply.result {
            Err(unanswered) => unanswered.why().into(),
            Ok(answer) if matches!(answer.status, 200 | 404 | 409) => {
                self.shared.trouble = None;
                self.shared.refusals.granted(job);
                return Some(answer);
            }
            Ok(answer) => {
                let text = &answer.body[..answer.body.len().min(200)];
                let text = String::from_utf8_lossy(text);
                alloc::format!("status {}: {}", answer.status, text.trim()).into()
            }
        };
        if reply.result.as_ref().is_ok_and(Answer::is_refusal) {
            // Whoever asks for us says which token it was.
            self.shared.refusals.refused(self.now.mono, job, &why);
            self.fact(Fact::ConsulRefuses { call, what, why });
            return None;
        }
        // The same trouble is said once.
        let said = self.shared.trouble.as_ref() == Some(&why);
        self.shared.trouble = Some(why.clone());
        self.fact(match said {
            false => Fact::ConsulFailed { call, what, why },
            true => Fact::ConsulFailsStill { call, what, why },
        });
        None
    }

    /// Gives up all calls for jobs like these.
    pub(crate) fn cancel_where(&mut self, like: impl Fn(Continuation) -> bool) {
        let jobs = self.shared.calls.iter().filter(|(_, job)| like(**job));
        let calls: Vec<CallId> = jobs.map(|(call, _)| *call).collect();
        calls.into_iter().for_each(|call| self.cancel(call));
    }

    /// Asks Motr's library.
    pub(crate) fn ask(&mut self, asked: SpielContinuation, op: spiel::Op) {
        let id = self.shared.next_spiel.mint();
        self.shared.asked.insert(id, asked);
        self.out.push(Output::Spiel(spiel::Call { id, op }));
    }

    pub(crate) fn http(&mut self, id: HttpId, answer: http::answer::Answer) {
        self.out.push(Output::Http(Box::new(answer.response(id))));
    }
}
