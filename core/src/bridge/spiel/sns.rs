//! Repair and rebalance of pools: the routes under `/api/v1/sns/` and the commands of the broadcast queue
//! (`hax.md` 1.17, D16, D17).
//!
//! A pool has one operation in progress, from the call until the library's reply, however long that takes.
//! Besides it a pool has at most one status query per kind, shared by all requests that arrive meanwhile.
//! HTTP requests wait for the outcome within a time limit.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::HttpId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{OperationKey, SpielContinuation, Timer};
use crate::consul::json;
use crate::ha::fact::Fact;
use crate::ha::spiel;
use crate::ha::spiel::{Op, SnsOp};
use crate::http::answer::Answer;
use crate::http::port::Request;

/// An operation in progress.
#[derive(Debug)]
struct Running {
    op: SnsOp,
    since: Instant,
    /// The HTTP requests waiting for the outcome, and their deadlines.
    waiting: Vec<(HttpId, Instant)>,
}

#[derive(Debug, Default)]
pub(crate) struct Operations(BTreeMap<OperationKey, Running>);

/// The reason why an operation is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoLibrary,
    NotUp(Option<Errno>),
    NoPool,
    UnderWay { op: SnsOp, us: u64 },
    Full,
}

impl Operations {
    /// Starts an operation on a pool, or joins the same status query in progress.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Cx<'_>,
        pool: Fid,
        op: SnsOp,
        waits: Option<HttpId>,
    ) -> Result<(), Refusal> {
        let now = cx.now().mono;
        let slot = OperationKey { pool, status: op.is_status().then_some(op.sns) };
        let until = now.after(cx.config().time.sns);
        let waits = waits.map(|http| (http, until));
        let full = self.0.len() >= cx.config().limit.operations;
        match self.0.get_mut(&slot) {
            Some(running) if op.is_status() => running.waiting.extend(waits),
            Some(Running { op, since, .. }) if !mutant(Mutant::OperationsTogether) => {
                return Err(Refusal::UnderWay { op: *op, us: now.micros_since(*since) });
            }
            None if full => return Err(Refusal::Full),
            _ => {
                let waiting = waits.into_iter().collect();
                self.0.insert(slot, Running { op, since: now, waiting });
                if !op.is_status() {
                    cx.fact(Fact::SnsBegun { pool, op: op.name() });
                }
                cx.ask(SpielContinuation::Sns(slot), Op::Sns { pool, op });
            }
        }
        if waits.is_some() {
            cx.arm_no_later(Timer::Sns, until);
        }
        Ok(())
    }

    /// Handles the library's reply.
    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        slot: OperationKey,
        result: Result<spiel::Answer, Errno>,
    ) {
        let Some(Running { op, since, waiting }) = self.0.remove(&slot) else { return };
        let (pool, us, name) = (slot.pool, cx.now().mono.micros_since(since), op.name());
        let answer = match result {
            Ok(spiel::Answer::Statuses(statuses)) => Answer::new(200, listed(&statuses)),
            Ok(_) => {
                cx.fact(Fact::SnsEnded { pool, op: name, us });
                Answer::done()
            }
            Err(errno) => {
                cx.fact(Fact::SnsRefused { pool, op: name, errno });
                refused(pool, op, errno)
            }
        };
        waiting.into_iter().for_each(|(http, _)| cx.http(http, answer.clone()));
    }

    /// Answers the requests with a passed deadline. Their operations stay in progress.
    pub(crate) fn on_overdue(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now().mono;
        for (OperationKey { pool, .. }, Running { op, since, waiting }) in &mut self.0 {
            let (pool, op) = (*pool, op.name());
            let late = waiting.extract_if(.., |(_, until)| *until <= now).collect::<Vec<_>>();
            if !late.is_empty() {
                let seconds = now.since(*since).as_secs();
                cx.fact(Fact::SnsLate { pool, op, seconds });
            }
            let why = "The library has not answered; it goes on, and is under way until it does";
            let answer = Answer::refuse(504, "HTTPGatewayTimeout", &format!("{op} of {pool}"), why);
            late.into_iter().for_each(|(http, _)| cx.http(http, answer.clone()));
            if let Some(next) = waiting.iter().map(|(_, until)| *until).min() {
                cx.arm_no_later(Timer::Sns, next);
            }
        }
    }

    /// Returns the operations in progress, for `/status`.
    pub(crate) fn report(&self, now: Instant) -> Vec<Value> {
        let report = |(slot, running): (&OperationKey, &Running)| {
            json!({
                "pool": slot.pool.to_string(), "operation": running.op.name(),
                "for_ms": now.micros_since(running.since) / 1_000,
                "waiting": running.waiting.len(),
            })
        };
        self.0.iter().map(report).collect()
    }

    /// Answers all waiting requests because of a stop.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        let waiting = self.0.values_mut().flat_map(|running| core::mem::take(&mut running.waiting));
        waiting.for_each(|(http, _)| cx.http(http, Answer::stopping()));
        cx.disarm(Timer::Sns);
    }
}

impl Refusal {
    /// Returns the reason for the log, for operations without a requester.
    pub(crate) fn why(&self) -> &'static str {
        match self {
            Self::NoLibrary => "repair and rebalance need libmotr",
            Self::NotUp(_) => "Motr's library has not read the configuration yet",
            Self::NoPool => "there is no such pool",
            Self::UnderWay { .. } => "another operation on this pool is under way",
            Self::Full => "too many operations are under way",
        }
    }

    fn answer(&self, pool: Fid) -> Answer {
        let (status, kind) = match self {
            Self::NoLibrary => (501, "HTTPNotImplemented"),
            Self::NotUp(_) | Self::Full => (503, "HTTPServiceUnavailable"),
            Self::NoPool => (404, "HTTPNotFound"),
            Self::UnderWay { .. } => (409, "HTTPConflict"),
        };
        let message = match self {
            Self::UnderWay { op, us } => {
                format!("{} of {pool} has been under way for {} s", op.name(), us / 1_000_000)
            }
            Self::NotUp(Some(errno)) => errno.to_string(),
            Self::NoLibrary | Self::NotUp(None) | Self::Full | Self::NoPool => pool.to_string(),
        };
        Answer::refuse(status, kind, &message, self.why())
    }
}

/// Returns the response for a temporary or permanent error of the library.
fn refused(pool: Fid, op: SnsOp, errno: Errno) -> Answer {
    let (status, kind) = match errno {
        Errno::EAGAIN | Errno::EBUSY | Errno::ETIMEDOUT => (503, "HTTPServiceUnavailable"),
        _ => (502, "HTTPBadGateway"),
    };
    let why = format!("Motr's library refuses {} of {pool}", op.name());
    Answer::refuse(status, kind, &errno.to_string(), &why)
}

fn listed(statuses: &[spiel::Status]) -> String {
    let status = |status: &spiel::Status| {
        let spiel::Status { fid, state, progress } = status;
        json!({"fid": fid.to_string(), "state": state, "progress": progress})
    };
    Value::Array(statuses.iter().map(status).collect()).to_string()
}

// ---- the routes -------------------------------------------------------------------------------------

/// A route under `/api/v1/sns/`.
pub(crate) enum Route {
    /// An operation: with GET if it is a status query, otherwise with POST.
    Operation(SnsOp),
    /// A request without an effect: the old daemon accepted and then only logged it.
    Unsupported,
}

impl Route {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "disk-attach" | "disk-detach" => Some(Self::Unsupported),
            _ => SnsOp::named(name).map(Self::Operation),
        }
    }

    pub(crate) fn is_get(&self) -> bool {
        matches!(self, Self::Operation(op) if op.is_status())
    }
}

/// Handles a request for an operation. Returns an error for an invalid request; otherwise the request is
/// answered here or by the outcome of the operation.
pub(crate) fn on_request(
    state: &mut State,
    cx: &mut Cx<'_>,
    request: &Request,
    route: &Route,
) -> Result<Option<Answer>, Box<str>> {
    #[derive(Deserialize)]
    struct Wanted {
        fid: String,
    }
    let Route::Operation(op) = route else {
        let why = "Attaching and detaching disks is not supported; the old daemon only logged it";
        return Ok(Some(Answer::refuse(501, "HTTPNotImplemented", &request.target, why)));
    };
    if state.spiel.is_off() {
        let why = Refusal::NoLibrary.why();
        return Ok(Some(Answer::refuse(501, "HTTPNotImplemented", &request.target, why)));
    }
    let pool = if route.is_get() {
        parameter(&request.target, "pool_fid").ok_or("the query has no pool_fid")?
    } else {
        json::parse::<Wanted>(&request.body)?.fid
    };
    let pool: Fid = pool.parse().map_err(|why| format!("{why}"))?;
    if !state.ready {
        return Ok(Some(Answer::not_ready()));
    }
    let begun = state.spiel.operate(cx, &state.cluster, pool, *op, Some(request.id));
    Ok(begun.err().map(|refusal| refusal.answer(pool)))
}

/// Returns a decoded parameter of a query.
fn parameter(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |code: &&[u8]| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit);
        let code = after.get(..2).filter(hex);
        let code = code.and_then(|code| core::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        for (target, value) in [
            ("/x?pool_fid=0x1:0x2", Some("0x1:0x2")),
            ("/x?a=b&pool_fid=0x1%3A0x2", Some("0x1:0x2")),
            ("/x?pool_fid=%3a%", Some(":%")),
            ("/x?pool_fid=%zz", Some("%zz")),
            ("/x?pool_fids=1", None),
            ("/x?pool_fid=%ff", None),
            ("/x", None),
        ] {
            assert_eq!(parameter(target, "pool_fid").as_deref(), value, "{target}");
        }
    }
}
