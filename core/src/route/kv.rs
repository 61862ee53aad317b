//! The provider `consul`: routes are keys `PREFIX/TABLE/DESTINATION`.
//!
//! The value of a key holds the next hop. If it was written under a group's lease, it also holds the lease's
//! key and term. A write is compared with the previous read, and carries the lease's session. So Consul
//! refuses a router that has lost the lease. The term refuses a router whose lease was revoked by a restored
//! snapshot.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::decide::Response;
use super::job::{Done, Fence, Job, Outcome};
use crate::consul::json::{self, KvEntry};
use crate::consul::op::{self, Op};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::store::txn;

/// The default prefix of a node's keys.
const PREFIX: &str = "routes";

/// The format version of a record.
const FORM: u32 = 1;

/// The maximum number of attempts of a write when other writers write first.
const TRIES: u32 = 4;

/// The value of a route's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record<'a> {
    v: u32,
    #[serde(borrow, rename = "nextHop")]
    next_hop: Cow<'a, str>,
    /// The key of the lease under which the record was written. The next field is its term.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    lease: Option<Cow<'a, str>>,
    #[serde(default)]
    term: u64,
}

/// The work of one event on one route.
#[derive(Debug)]
pub struct Work {
    key: String,
    next_hop: Box<str>,
    fence: Option<Fence>,
    response: Response,
    tries: u32,
    /// The written value, and its outcome and description for the result once the value has been read back.
    written: Option<(Vec<u8>, Outcome, String)>,
}

/// The next step of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads this target. The response is passed to [`Work::on_read`].
    Read(String),
    /// Sends this body as a transaction. The response is passed to [`Work::on_written`].
    Write(String),
    /// The work has ended.
    Over(Done),
}

/// The result of a read.
struct Found<'a> {
    value: &'a [u8],
    index: u64,
    record: Record<'a>,
}

impl Work {
    /// Creates the work of a job.
    ///
    /// # Errors
    ///
    /// The job lacks a required parameter.
    pub fn new(job: &Job) -> Result<Self, String> {
        let of = |name: &str| job.parameters.get(name).map(|value| &**value);
        let prefix = of("prefix").unwrap_or(PREFIX);
        let table = of("table").ok_or("no table")?;
        let route = of("route").ok_or("no route")?;
        Ok(Self {
            key: format!("{prefix}/{table}/{route}"),
            next_hop: of("nextHop").ok_or("no next hop")?.into(),
            fence: job.fence.clone(),
            response: job.response,
            tries: 0,
            written: None,
        })
    }

    /// Returns the first step.
    #[must_use]
    pub fn begin(&self) -> Step {
        Step::Read(url::read(&self.key))
    }

    /// Handles the response to a read of the key.
    ///
    /// # Errors
    ///
    /// The reason why the work cannot be done.
    pub fn on_read(&mut self, answer: &Answer) -> Result<Step, String> {
        let bytes = value(answer)?;
        let found = match &bytes {
            Some((value, index)) => Some(Found { value, index: *index, record: record(value)? }),
            None => None,
        };
        if let Some((written, outcome, detail)) = &self.written {
            return match &found {
                Some(found) if found.value == written => {
                    Ok(Step::Over(Done::new(*outcome, detail.clone())))
                }
                other => {
                    let leads = other.as_ref().map_or("nowhere", |found| &found.record.next_hop);
                    Err(format!("the route was written, and leads to {leads} when it is read back"))
                }
            };
        }
        if let Some(later) = found.as_ref().and_then(|found| self.is_later(&found.record)) {
            return Ok(Step::Over(later));
        }
        self.judge(found.as_ref())
    }

    /// Returns a failure if a later holder, or a holder of another lease, has written the route.
    fn is_later(&self, record: &Record<'_>) -> Option<Done> {
        let lease = record.lease.as_deref()?;
        let refused = |detail| Done::new(Outcome::Failed, detail);
        match &self.fence {
            Some(fence) if *fence.key == *lease => (record.term > fence.term).then(|| Done {
                term: Some(record.term),
                ..refused(format!(
                    "the route was written in term {} of {lease}, and this is term {}",
                    record.term, fence.term
                ))
            }),
            // A write-back changes nothing, so it is allowed.
            None if self.response == Response::WriteBack => None,
            Some(_) | None => Some(refused(format!(
                "the route is written under the lease {lease}, which is not this node's"
            ))),
        }
    }

    fn judge(&mut self, found: Option<&Found<'_>>) -> Result<Step, String> {
        let led = found.map_or("nowhere", |found| &found.record.next_hop);
        let hop = &self.next_hop;
        let term = self.fence.as_ref().map_or(0, |fence| fence.term);
        let is_so =
            found.is_some_and(|found| *found.record.next_hop == **hop && found.record.term == term);
        let (value, outcome, detail) = match (self.response, found) {
            (Response::Nothing, _) => return Err("there is nothing to be done".into()),
            (Response::WriteBack, None) => return Err(format!("there is no route {}", self.key)),
            (Response::WriteBack, Some(found)) => {
                let detail = format!("the route leads to {led} and can be updated");
                (found.value.to_vec(), Outcome::WrittenBack, detail)
            }
            (Response::UpdateIfDifferent, _) if is_so => {
                let detail = format!("the route leads to {hop} already");
                return Ok(Step::Over(Done::new(Outcome::Unchanged, detail)));
            }
            (Response::Update | Response::UpdateIfDifferent, _) => {
                let lease = self.fence.as_ref().map(|fence| Cow::Borrowed(&*fence.key));
                let record = Record { v: FORM, next_hop: Cow::Borrowed(hop), lease, term };
                // The record contains only text and numbers, so it can always be serialized.
                let value = serde_json::to_vec(&record).unwrap_or_default();
                let detail = format!("the route led to {led} and leads to {hop} now");
                let outcome = if *led == **hop { Outcome::Unchanged } else { Outcome::Updated };
                (value, outcome, detail)
            }
        };
        let fence = self.fence.as_ref();
        let guard = fence.map(|fence| Op::check_session(&fence.key, &fence.session));
        let write = Op::cas(&self.key, &value, found.map_or(0, |found| found.index));
        let ops: Vec<Op> = guard.into_iter().chain([write]).collect();
        self.written = Some((value, outcome, detail));
        Ok(Step::Write(op::body(&ops)))
    }

    /// Handles the response to the transaction.
    ///
    /// # Errors
    ///
    /// The reason why the route is not written.
    pub fn on_written(&mut self, answer: &Answer) -> Result<Step, String> {
        if answer.is_refusal() {
            return Err(format!("writing the route: status {}: {}", answer.status, said(answer)));
        }
        match txn::Outcome::of(Some(answer)) {
            txn::Outcome::Applied(_) => Ok(self.begin()),
            txn::Outcome::Conflict(places) if self.fence.is_some() && places.contains(&0) => {
                Err("the lease was lost meanwhile, and nothing is written".into())
            }
            txn::Outcome::Conflict(_) => {
                self.tries += 1;
                if self.tries == TRIES {
                    return Err("the route changes faster than it can be written".into());
                }
                self.written = None;
                Ok(self.begin())
            }
            txn::Outcome::Denied(why) => Err(format!("writing the route: {why}")),
            txn::Outcome::Unknown(why) => {
                let why = why.unwrap_or_else(|| "no answer".into());
                Err(format!("writing the route: status {}: {why}", answer.status))
            }
        }
    }
}

/// Returns the value of a key and its index.
fn value(answer: &Answer) -> Result<Option<(Vec<u8>, u64)>, String> {
    match answer.status {
        404 => Ok(None),
        200 => {
            let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body)?;
            let bytes = entry.bytes().ok_or("the key's value is no base64")?;
            Ok(Some((bytes, entry.modify_index)))
        }
        status => Err(format!("reading the route: status {status}: {}", said(answer))),
    }
}

/// Returns the text of Consul's error response.
fn said(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).trim().into()
}

fn record(value: &[u8]) -> Result<Record<'_>, String> {
    let record: Record<'_> =
        serde_json::from_slice(value).map_err(|_| "the key holds something else than a route")?;
    if record.v > FORM {
        return Err(format!("the route is of form {}, and this hax knows form {FORM}", record.v));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::super::decide::Event;
    use super::super::node::Mode;
    use super::super::provider::Provider;
    use super::*;

    fn fence(term: u64) -> Fence {
        Fence { key: "ha/route/edge".into(), session: "s".into(), term }
    }

    fn work(response: Response, fence: Option<Fence>) -> Work {
        let parameters = [("table", "t"), ("route", "192.0.2.0/24"), ("nextHop", "10.0.0.2")];
        let parameters: BTreeMap<Box<str>, Box<str>> =
            parameters.map(|(name, value)| (name.into(), value.into())).into();
        let (event, provider, mode) = (Event::PeerFail, Provider::Consul, Mode::Secondary);
        let (within_ms, token) = (None, None);
        Work::new(&Job { event, response, provider, mode, parameters, fence, within_ms, token })
            .unwrap()
    }

    fn holds(value: &str) -> Answer {
        let value = json::base64(value.as_bytes());
        let body = format!(r#"[{{"Key":"k","Value":"{value}","ModifyIndex":7,"Flags":0}}]"#);
        Answer { status: 200, index: 7, body: body.into_bytes().into() }
    }

    fn read(work: &mut Work, value: &str) -> Result<Step, String> {
        work.on_read(&holds(value))
    }

    #[test]
    fn r20_an_update_is_one_read_one_write_and_a_read_back() {
        let mut work = work(Response::UpdateIfDifferent, None);
        assert_eq!(work.begin(), Step::Read("/v1/kv/routes/t/192.0.2.0/24?consistent".into()));
        let Ok(Step::Write(body)) = read(&mut work, r#"{"v":1,"nextHop":"10.0.0.1"}"#) else {
            panic!("it writes")
        };
        assert!(body.contains(r#""Verb":"cas""#) && body.contains(r#""Index":7"#), "{body}");
        let applied = Answer { status: 200, index: 0, body: r#"{"Results":[]}"#.into() };
        assert_eq!(work.on_written(&applied), Ok(work.begin()));
        let Ok(Step::Over(done)) = read(&mut work, r#"{"v":1,"nextHop":"10.0.0.2","term":0}"#)
        else {
            panic!("it is over")
        };
        assert_eq!(done.outcome, Outcome::Updated);
    }

    #[test]
    fn r20_a_route_that_leads_here_is_not_written() {
        let mut work = work(Response::UpdateIfDifferent, None);
        let step = read(&mut work, r#"{"v":1,"nextHop":"10.0.0.2"}"#);
        assert!(matches!(step, Ok(Step::Over(done)) if done.outcome == Outcome::Unchanged));
    }

    #[test]
    fn r15_what_is_written_back_is_what_was_found_to_the_byte() {
        let odd = r#" {"nextHop":"10.0.0.1", "v":1} "#;
        let mut work = work(Response::WriteBack, None);
        let Ok(Step::Write(body)) = read(&mut work, odd) else { panic!("it writes") };
        assert!(body.contains(&json::base64(odd.as_bytes())), "{body}");
        let missing = Answer { status: 404, index: 7, body: "".into() };
        assert!(self::work(Response::WriteBack, None).on_read(&missing).is_err());
    }

    #[test]
    fn an_older_term_is_refused_and_a_newer_one_is_written_over() {
        let record = r#"{"v":1,"nextHop":"10.0.0.1","lease":"ha/route/edge","term":7}"#;
        let mut older = work(Response::UpdateIfDifferent, Some(fence(6)));
        let Ok(Step::Over(done)) = read(&mut older, record) else { panic!("it is over") };
        assert_eq!((done.outcome, done.term), (Outcome::Failed, Some(7)));
        let mut newer = work(Response::UpdateIfDifferent, Some(fence(8)));
        let Ok(Step::Write(body)) = read(&mut newer, record) else { panic!("it writes") };
        let guard = body.find("check-session").expect("it is guarded");
        assert!(guard < body.find("cas").unwrap());
    }

    #[test]
    fn the_term_is_written_where_the_route_leads_here_already() {
        let record = r#"{"v":1,"nextHop":"10.0.0.2","lease":"ha/route/edge","term":7}"#;
        let mut newer = work(Response::UpdateIfDifferent, Some(fence(8)));
        assert!(matches!(read(&mut newer, record), Ok(Step::Write(_))));
    }

    #[test]
    fn who_has_no_lease_does_not_write_what_is_under_one() {
        let record = r#"{"v":1,"nextHop":"10.0.0.1","lease":"ha/route/edge","term":7}"#;
        let mut other = fence(9);
        other.key = "ha/route/other".into();
        for fence in [None, Some(other)] {
            let mut work = work(Response::UpdateIfDifferent, fence);
            let Ok(Step::Over(done)) = read(&mut work, record) else { panic!("it is over") };
            assert_eq!((done.outcome, done.term), (Outcome::Failed, None));
        }
        let mut verify = work(Response::WriteBack, None);
        assert!(matches!(read(&mut verify, record), Ok(Step::Write(_))), "unless it only looks");
    }

    #[test]
    fn a_conflict_is_tried_again_and_not_for_ever() {
        let conflict = |place: usize| Answer {
            status: 409,
            index: 0,
            body: format!(r#"{{"Errors":[{{"OpIndex":{place},"What":"stale"}}]}}"#)
                .into_bytes()
                .into(),
        };
        let mut work = work(Response::Update, Some(fence(8)));
        for nth in 1..=TRIES {
            assert!(matches!(read(&mut work, r#"{"v":1,"nextHop":"x"}"#), Ok(Step::Write(_))));
            let step = work.on_written(&conflict(1));
            assert_eq!(step.is_err(), nth == TRIES, "{step:?}");
        }
        let mut work = self::work(Response::Update, Some(fence(8)));
        let _ = read(&mut work, r#"{"v":1,"nextHop":"x"}"#);
        let why = work.on_written(&conflict(0)).unwrap_err();
        assert!(why.contains("lease was lost"), "{why}");
    }

    #[test]
    fn r15_a_write_that_consul_denies_is_told_in_its_words() {
        let mut work = work(Response::WriteBack, None);
        let _ = read(&mut work, r#"{"v":1,"nextHop":"x"}"#);
        let denied = Answer { status: 403, index: 0, body: "Permission denied\n".into() };
        let why = work.on_written(&denied).unwrap_err();
        assert_eq!(why, "writing the route: status 403: Permission denied");
    }

    #[test]
    fn what_is_no_route_is_left_as_it_is() {
        for value in ["", "10.0.0.1", "{}", r#"{"v":2,"nextHop":"x"}"#, "[1]"] {
            assert!(read(&mut work(Response::Update, None), value).is_err(), "{value}");
        }
    }
}
