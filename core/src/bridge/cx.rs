//! What a handler may do during one call of `handle`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::io::Output;
use crate::base::config::Config;
use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::id::{CallId, HttpId, LinkId, MsgId, SendId};
use crate::base::retry::Jitter;
use crate::base::time::Now;
use crate::base::timers::Timers;
use crate::consul::port::{Call, Command, Method};
use crate::consul::replica::{Moment, Table};
use crate::ha::message::{Body, Message};
use crate::ha::motr;
use crate::http;

/// What a call to Consul is for: the continuation, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// A part of an entrypoint round.
    Round(RoundPart),
    /// A blocking query.
    Watch(Table),
    /// A proof of freshness.
    Probe(Table),
    /// A read at once.
    Read(Table),
    /// A transaction of process events.
    Transaction,
    /// A key that met another writer.
    Reread(Fid),
}

/// The reads of an entrypoint round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundPart {
    Leader,
    Session,
    Confds,
    Node,
}

/// The bridge's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The round takes too long.
    Round,
    /// EAGAINs may leave.
    Again,
    /// A watch may be sent again.
    Watch(Table),
    /// A probe or read that failed may be sent again.
    Prove(Table),
    /// Lanes whose transaction failed may try again.
    Lanes,
    /// What is owed to a link that is down is given up.
    Grace(LinkId),
    /// The next slice of an answer.
    Slice,
    /// The stop has taken too long.
    Drain,
}

impl Timer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Again => "again",
            Self::Watch(_) => "watch",
            Self::Prove(_) => "prove",
            Self::Lanes => "lanes",
            Self::Grace(_) => "grace",
            Self::Slice => "slice",
            Self::Drain => "drain",
        }
    }
}

/// What outlives a call.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) timers: Timers<Timer>,
    pub(crate) jitter: Jitter,
    pub(crate) jobs: BTreeMap<CallId, Job>,
    pub(crate) next_call: CallId,
    pub(crate) next_send: SendId,
    pub(crate) moment: Moment,
}

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

    pub(crate) fn motr(&mut self, command: motr::Command) {
        self.out.push(Output::Motr(command));
    }

    pub(crate) fn ack(&mut self, link: LinkId, msg: MsgId) {
        self.motr(motr::Command::Ack { link, msg });
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
    pub(crate) fn get(&mut self, job: Job, target: String) -> CallId {
        let within = self.config().time.call;
        self.call(job, Method::Get, target, Bytes::new(), within)
    }

    pub(crate) fn call(
        &mut self,
        job: Job,
        method: Method,
        target: String,
        body: Bytes,
        within: Duration,
    ) -> CallId {
        let id = self.shared.next_call.mint();
        self.shared.jobs.insert(id, job);
        let body_max = self.config().limit.answer_bytes;
        let call = Call { id, method, target, body, within, body_max };
        self.out.push(Output::Consul(Command::Call(Box::new(call))));
        id
    }

    pub(crate) fn cancel(&mut self, call: CallId) {
        if self.shared.jobs.remove(&call).is_some() {
            self.out.push(Output::Consul(Command::Cancel(call)));
        }
    }

    pub(crate) fn http(&mut self, id: HttpId, answer: http::answer::Answer) {
        self.out.push(Output::Http(Box::new(answer.response(id))));
    }
}
