//! The event handlers of members of groups. They read and write the route tables of the world, as the real
//! ones do.

use std::time::Duration;

use bytes::Bytes;
use hax_core::consul::port::Answer;
use hax_core::exec::Stream;
use hax_core::route::decide::Response;
use hax_core::route::job::{Done, Job, Outcome};
use hax_core::route::kv::{Step as KvStep, Work};

use super::groups::{Groups, group_of};
use super::provider::{Kind, index_of, of_index};
use crate::exec::{Program, Step};

/// The maximum number of steps of a handler of the provider `consul`.
const KV_STEPS: u32 = 12;

/// The maximum time for which a write is in transit, in ms. A new holder's last read-back comes that much
/// after the end of the last holder.
const FLIGHT_MAX: u64 = 4_500;

/// A handler of a member.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) n: u64,
    pub(super) index: u16,
    pub(super) group: usize,
    pub(super) job: Job,
    /// The work in Consul, and its next step.
    kv: Option<(Work, KvStep)>,
    /// The found next hop.
    found: Option<String>,
    outcome: Outcome,
    /// The time of the handler's start, in µs.
    pub(super) asked_at: u64,
    pub(super) started_at: Option<u64>,
    /// The time for which its write is in transit, in ms.
    pub(super) flight: u64,
    pub(super) is_quick: bool,
}

/// The result of a step in Consul.
#[derive(Debug)]
pub(super) enum Next {
    /// A request: its method, target and body.
    Ask(&'static str, String, String),
    Over(Done),
}

impl Worker {
    /// Returns the handler of a job, and its behavior, if the job is a member's.
    pub(super) fn new(
        (n, now): (u64, u64),
        stdin: &[u8],
        groups: &Groups,
        mut choose: impl FnMut(u64) -> u64,
    ) -> Option<(Self, Program)> {
        let job: Job = serde_json::from_slice(stdin).ok()?;
        let parameter = |name: &str| job.parameters.get(name).map(ToString::to_string);
        let index = index_of(job.provider.name(), parameter)?;
        let group = group_of(index)?;
        let fate = choose(4);
        let wait = if matches!(fate, 1 | 3) { choose(groups.hold * 1_000) } else { 0 };
        let flight = if matches!(fate, 2 | 3) { choose(FLIGHT_MAX) } else { 0 };
        let kv = match of_index(index) {
            Kind::Consul => Some(Work::new(&job).ok()?),
            Kind::Linux | Kind::Aws | Kind::Azure | Kind::Gcp => None,
        };
        let acts = if kv.is_some() { KV_STEPS } else { 3 };
        let kv = kv.map(|work| {
            let first = work.begin();
            (work, first)
        });
        let unfinished = said(&Done::new(Outcome::Failed, format!("work {n} was not finished")));
        let mut program = Program::doing(
            (0..acts).map(Step::Act).chain([Step::Write(Stream::Stdout, unfinished)]),
        );
        program.steps[1].0 += Duration::from_millis(wait);
        if kv.is_none() {
            program.steps[2].0 += Duration::from_millis(flight);
        }
        let worker = Self {
            n,
            index,
            group,
            job,
            kv,
            found: None,
            outcome: Outcome::Failed,
            asked_at: now,
            started_at: None,
            flight,
            is_quick: fate == 0,
        };
        Some((worker, program))
    }

    /// Returns the term under which it writes, if it has a lease.
    pub(super) fn term(&self) -> Option<u64> {
        self.job.fence.as_ref().map(|fence| fence.term)
    }

    fn hop(&self) -> String {
        self.job.parameters.get("nextHop").map(ToString::to_string).unwrap_or_default()
    }

    // ---- the plain table --------------------------------------------------------------------------

    /// Reads the plain table.
    pub(super) fn reads(&mut self, found: Option<&String>) {
        self.found = found.cloned();
    }

    /// Returns the next hop to write to the plain table, if it is to be written.
    pub(super) fn writes(&mut self) -> Option<String> {
        let hop = self.hop();
        match (self.job.response, &self.found) {
            (Response::UpdateIfDifferent, Some(found)) if *found == hop => {
                self.outcome = Outcome::Unchanged;
                None
            }
            (Response::WriteBack, Some(found)) => {
                self.outcome = Outcome::WrittenBack;
                Some(found.clone())
            }
            (Response::WriteBack, None) | (Response::Nothing, _) => None,
            (Response::Update | Response::UpdateIfDifferent, _) => {
                self.outcome = Outcome::Updated;
                Some(hop)
            }
        }
    }

    /// Reads the plain table back. Returns the text of the handler.
    pub(super) fn reads_back(&self, leads: Option<&String>) -> Bytes {
        let wanted = match self.outcome {
            Outcome::WrittenBack => self.found.clone(),
            Outcome::Updated | Outcome::Unchanged | Outcome::Failed => Some(self.hop()),
        };
        let outcome = if leads == wanted.as_ref() { self.outcome } else { Outcome::Failed };
        said(&Done::new(outcome, format!("work {}: {:?} led, {leads:?} leads", self.n, self.found)))
    }

    // ---- Consul -----------------------------------------------------------------------------------

    /// Returns the next step in Consul, until the work has ended.
    pub(super) fn next(&mut self) -> Option<Next> {
        let (_, step) = self.kv.as_ref()?;
        Some(match step.clone() {
            KvStep::Read(target) => Next::Ask("GET", target, String::new()),
            KvStep::Write(body) => Next::Ask("PUT", "/v1/txn".into(), body),
            KvStep::Over(done) => {
                self.kv = None;
                Next::Over(done)
            }
        })
    }

    /// Handles the response to a request to Consul.
    pub(super) fn hears(&mut self, answer: Option<&Answer>) {
        let Some((work, step)) = &mut self.kv else { return };
        let next = match (answer, &*step) {
            (None, _) => Err("no answer".to_owned()),
            (Some(answer), KvStep::Write(_)) => work.on_written(answer),
            (Some(answer), KvStep::Read(_) | KvStep::Over(_)) => work.on_read(answer),
        };
        *step = next.unwrap_or_else(|why| KvStep::Over(Done::new(Outcome::Failed, why)));
    }

    /// Returns the text of the handler with this result.
    pub(super) fn says(&self, done: Done) -> Bytes {
        let detail = format!("work {}: {}", self.n, done.detail);
        said(&Done { detail, ..done })
    }
}

/// Returns a result as a handler prints it.
fn said(done: &Done) -> Bytes {
    let mut line = serde_json::to_vec(done).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
