//! Who of several counters holds the lease: the key of a lock in Consul, and a session that keeps it.
//!
//! A session that is lost frees its lock only after the lock's delay. So whoever has read that it holds the lock
//! may believe so for that long, counted from the sending of the read. The term is the index at which the lock
//! was taken.

use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::base::time::Instant;
use hax_core::consul::port::{Answer, Call, Command, Method, Reply};
use hax_core::machine::Output;
use serde_json::{Value, json};

use super::bug::Bug;
use super::fact::Fact;

/// The key of the lock.
pub(super) const HOLDER: &str = "holder";
/// How long a lock stays with nobody when its session is lost.
const LOCK_DELAY: Duration = Duration::from_secs(5);
/// How much sooner than Consul a holder stops to believe in itself.
const MARGIN: Duration = Duration::from_millis(500);
/// How often it is looked who holds the lock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time limit of a call.
const WITHIN: Duration = Duration::from_secs(2);

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Session,
    Renew,
    Read,
    Acquire,
}

/// What one machine knows of the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    session: Option<String>,
    /// The call in flight, what it is for and when it was sent.
    asked: Option<(CallId, Ask, Instant)>,
    /// When to look again.
    look_at: Instant,
    /// Until when to believe, and since which term.
    held: Option<(Instant, u64)>,
    /// What was reported last.
    reported: bool,
}

impl Lease {
    /// The term since which this machine holds the lease, if it believes that it does now.
    pub(super) fn term(&self, now: Instant) -> Option<u64> {
        self.held.filter(|(until, _)| now < *until).map(|(_, term)| term)
    }

    /// When there is something to do next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let look = self.asked.is_none().then_some(self.look_at);
        let lapses = self.held.map(|(until, _)| until);
        look.into_iter().chain(lapses).min()
    }

    /// It gives the lease up: its session will end by itself.
    pub(super) fn leave(&mut self, now: Instant, out: &mut Vec<Output<Fact>>) {
        self.held = None;
        self.report(now, out);
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant, last: &mut u64, out: &mut Vec<Output<Fact>>) {
        if self.held.is_some_and(|(until, _)| until <= now) {
            self.held = None;
        }
        self.report(now, out);
        if self.asked.is_none() && self.look_at <= now {
            let ask = if self.session.is_some() { Ask::Renew } else { Ask::Session };
            self.ask(now, ask, last, out);
        }
    }

    /// Takes a reply; false if it is not the lease's.
    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        reply: &Reply,
        bug: Option<Bug>,
        last: &mut u64,
        out: &mut Vec<Output<Fact>>,
    ) -> bool {
        let Some((_, ask, sent)) = self.asked.take_if(|(call, ..)| *call == reply.id) else {
            return false;
        };
        self.look_at = now.after(LOOK_EVERY);
        match (ask, &reply.result) {
            (Ask::Session, Ok(Answer { status: 200, body, .. })) => {
                self.session = session_in(body);
            }
            (Ask::Renew, Ok(Answer { status: 404, .. })) => self.session = None,
            (Ask::Renew, Ok(Answer { status: 200, .. })) => self.ask(now, Ask::Read, last, out),
            // While the lock stays with nobody it is refused.
            (Ask::Acquire, Ok(Answer { status: 200, body, .. })) if body.starts_with(b"true") => {
                self.ask(now, Ask::Read, last, out);
            }
            (Ask::Read, Ok(Answer { status: 404, .. })) => self.ask(now, Ask::Acquire, last, out),
            (Ask::Read, Ok(Answer { status: 200, body, .. })) => match lock_in(body) {
                Some((holder, _)) if holder.is_empty() => self.ask(now, Ask::Acquire, last, out),
                Some((holder, term)) => self.read(sent, &holder, term, bug),
                None => {}
            },
            _ => {}
        }
        self.report(now, out);
        true
    }

    /// What a read says that was sent then.
    fn read(&mut self, sent: Instant, holder: &str, term: u64, bug: Option<Bug>) {
        let lasts = if bug == Some(Bug::LeaseKept) { 20 * LOCK_DELAY } else { LOCK_DELAY - MARGIN };
        let term = if bug == Some(Bug::TermLost) { 1 } else { term };
        if self.session.as_deref() == Some(holder) {
            self.held = Some((sent.after(lasts), term));
        } else if bug != Some(Bug::LeaseKept) {
            self.held = None;
        }
    }

    fn report(&mut self, now: Instant, out: &mut Vec<Output<Fact>>) {
        let holds = self.term(now).is_some();
        if std::mem::replace(&mut self.reported, holds) != holds {
            out.push(Output::Fact(if holds { Fact::Gained } else { Fact::Lost }));
        }
    }

    fn ask(&mut self, now: Instant, ask: Ask, last: &mut u64, out: &mut Vec<Output<Fact>>) {
        let session = self.session.as_deref().unwrap_or_default();
        let (method, target, body) = match ask {
            Ask::Session => {
                let delay = format!("{}s", LOCK_DELAY.as_secs());
                let body = json!({"Name": HOLDER, "LockDelay": delay, "TTL": "10s"});
                (Method::Put, "/v1/session/create".to_owned(), body.to_string())
            }
            Ask::Renew => (Method::Put, format!("/v1/session/renew/{session}"), String::new()),
            Ask::Read => (Method::Get, format!("/v1/kv/{HOLDER}?consistent"), String::new()),
            Ask::Acquire => {
                (Method::Put, format!("/v1/kv/{HOLDER}?acquire={session}"), "held".to_owned())
            }
        };
        *last += 1;
        let id = CallId(*last);
        self.asked = Some((id, ask, now));
        let body = Bytes::from(body);
        let call = Call { id, method, target, body, within: WITHIN, body_max: 64 * 1024 };
        out.push(Output::Consul(Command::Call(Box::new(call))));
    }
}

/// The session that was made.
fn session_in(body: &[u8]) -> Option<String> {
    let made: Value = serde_json::from_slice(body).ok()?;
    made["ID"].as_str().map(str::to_owned)
}

/// Who holds the lock, and since which index.
fn lock_in(body: &[u8]) -> Option<(String, u64)> {
    let entries: Vec<Value> = serde_json::from_slice(body).ok()?;
    let entry = entries.first()?;
    let holder = entry["Session"].as_str().unwrap_or_default().to_owned();
    Some((holder, entry["ModifyIndex"].as_u64()?))
}
