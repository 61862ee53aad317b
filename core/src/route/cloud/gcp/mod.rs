//! The provider `gcp`: routes of Google's Compute Engine.
//!
//! A route of Compute Engine cannot be changed. Both routers have a route of their own to the same
//! destination, and the one with the lower priority number is used. At a `peerFail` the secondary deletes the
//! peer's route, and each router inserts its own route again at a `revert`. A `verify` asks for the
//! permissions on the routes, and inserts and deletes a route that has no effect.

pub mod login;
mod route;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::Value;

use super::super::decide::Response;
use super::super::job::{Done, Job, Outcome};
use super::super::node::Mode;
use super::http::{Ask, Method, Place, Reply, encode};
use super::said::refusal;
use super::step::{Step, parameter};
use route::{Route, State};

/// The URL of the API, without a path.
pub const BASE: &str = "https://compute.googleapis.com";

const READ: &str = "reading the route";
const INSERT: &str = "inserting the route";
const DELETE: &str = "deleting the route";
const WAIT: &str = "the operation of Compute Engine";
const TEST: &str = "asking for the permissions";

/// The permissions on a route that an event needs.
const PERMISSIONS: [&str; 2] = ["compute.routes.delete", "compute.routes.get"];

/// The priority of the route of a `verify`: the lowest that there is.
const VERIFY_PRIORITY: u32 = 65_535;

/// The time before the next look at an operation. Google itself delays its reply until the end.
const PAUSE: Duration = Duration::from_millis(200);

/// The maximum length of a route's name.
const NAME_MAX: usize = 63;

/// Returns whether the failure may pass: Google limits the rate of requests by 403, too.
pub(super) fn may_pass(reply: &Reply) -> bool {
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let reason = value["error"]["errors"][0]["reason"].as_str();
    let codes = ["rateLimitExceeded", "userRateLimitExceeded", "resourceNotReady"];
    reply.status >= 400 && reason.is_some_and(|reason| codes.contains(&reason))
}

/// The work of one event.
#[derive(Debug)]
pub struct Work {
    project: Box<str>,
    own: Route,
    peer: Box<str>,
    response: Response,
    mode: Mode,
    random: u128,
    /// The number of writes. Each has an id, by which Google knows its repetition.
    writes: u128,
    phase: Phase,
}

/// A write, which is an operation that may end after its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    DeletePeer,
    InsertOwn,
    /// A route that an earlier `verify` left behind is deleted.
    ClearVerify,
    InsertVerify,
    DeleteVerify,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Reading,
    Writing(Write),
    /// The operation of a write runs.
    Waiting(Write),
    ReadingBack,
    /// The permissions on the peer's route are read, or those on the own one.
    Testing {
        is_peer: bool,
    },
    /// A `verify` reads the own route again.
    Confirming,
}

impl Work {
    /// Creates the work of a job. `random` is a number that no other handler has.
    ///
    /// # Errors
    ///
    /// The job lacks a required parameter.
    pub fn new(job: &Job, random: u128) -> Result<Self, String> {
        let project = parameter(job, "project", "-g")?;
        let network = parameter(job, "vpc", "-v")?;
        let priority = parameter(job, "hopPriority", "-o")?;
        let own = Route {
            name: parameter(job, "routeName", "-a")?.into(),
            dest_range: parameter(job, "route", "-r")?.into(),
            network: format!("projects/{project}/global/networks/{network}").into(),
            priority: priority.parse().map_err(|_| "the priority is no number")?,
            next_hop_ip: parameter(job, "nextHopIp", "-n")?.into(),
            description: None,
        };
        Ok(Self {
            project: project.into(),
            own,
            peer: parameter(job, "peerRouteName", "-b")?.into(),
            response: job.response,
            mode: job.mode,
            random,
            writes: 0,
            phase: Phase::Reading,
        })
    }

    // ---- requests ---------------------------------------------------------------------------------

    fn target(&self, below: &str) -> String {
        format!("/compute/v1/projects/{}/global/{below}", encode(&self.project))
    }

    fn read(&self, name: &str) -> Ask {
        let target = self.target(&format!("routes/{}", encode(name)));
        Ask::new(READ, Place::Api, Method::Get, target)
    }

    fn insert(&mut self, route: &Route) -> Ask {
        let target = format!("{}?requestId={}", self.target("routes"), self.id());
        Ask::new(INSERT, Place::Api, Method::Post, target).json(route.encode())
    }

    fn delete(&mut self, name: &str) -> Ask {
        let id = self.id();
        let target = format!("{}?requestId={id}", self.target(&format!("routes/{}", encode(name))));
        Ask::new(DELETE, Place::Api, Method::Delete, target)
    }

    /// Returns the id of the next write, as a UUID of version 4.
    fn id(&mut self) -> String {
        self.writes += 1;
        let hex = format!("{:032x}", self.random.wrapping_add(self.writes));
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!(
            "{}-{}-4{}-8{}-{}",
            part(0, 8),
            part(8, 12),
            part(13, 16),
            part(17, 20),
            part(20, 32)
        )
    }

    fn test(&mut self, is_peer: bool) -> Step {
        self.phase = Phase::Testing { is_peer };
        let name = if is_peer { &self.peer } else { &self.own.name };
        let target = self.target(&format!("routes/{}/testIamPermissions", encode(name)));
        let permissions = serde_json::json!({ "permissions": PERMISSIONS });
        let body = format!("{permissions}");
        Ask::new(TEST, Place::Api, Method::Post, target).json(body).into()
    }

    /// Returns the route of a `verify`. It has the lowest priority, so it carries no traffic while there is
    /// another route.
    fn throw_away(&self) -> Route {
        let name: String = format!("hax-verify-{}", self.own.name).chars().take(NAME_MAX).collect();
        Route {
            name: name.trim_end_matches('-').into(),
            priority: VERIFY_PRIORITY,
            description: Some("made and deleted by hax: a verify of its route".into()),
            ..self.own.clone()
        }
    }

    // ---- peerFail and revert ----------------------------------------------------------------------

    /// Returns the name of the route that the response is about.
    fn subject(&self) -> Box<str> {
        match self.response {
            Response::Update => self.peer.clone(),
            Response::UpdateIfDifferent | Response::WriteBack | Response::Nothing => {
                self.own.name.clone()
            }
        }
    }

    fn on_read(&mut self, found: Option<&Route>) -> Result<Step, String> {
        let (own, peer) = (&self.own.name, &self.peer);
        match (self.response, found) {
            (Response::Nothing, _) => Err("there is nothing to be done".into()),
            (Response::Update, None) => {
                let detail = format!("the peer's route {peer} is not there");
                Ok(Step::Over(Done::new(Outcome::Unchanged, detail)))
            }
            (Response::Update, Some(_)) => Ok(self.write(Write::DeletePeer)),
            (Response::UpdateIfDifferent, None) => Ok(self.write(Write::InsertOwn)),
            (Response::UpdateIfDifferent, Some(found)) => match found.difference(&self.own) {
                None => {
                    let detail = format!("the route {own} is there already");
                    Ok(Step::Over(Done::new(Outcome::Unchanged, detail)))
                }
                Some(difference) => Err(format!(
                    "the route {own} is another one: {difference}; a route of Compute Engine cannot \
                     be changed: delete it, or correct the node by set_params"
                )),
            },
            (Response::WriteBack, found) => {
                if let Some(difference) = found.and_then(|found| found.difference(&self.own)) {
                    return Err(format!("the route {own} is another one: {difference}"));
                }
                // The routes on which an event may act: the secondary deletes the peer's one.
                Ok(self.test(true))
            }
        }
    }

    fn on_read_back(&self, found: Option<&Route>) -> Result<Step, String> {
        let done = |detail| Ok(Step::Over(Done::new(Outcome::Updated, detail)));
        match (self.response, found) {
            (Response::Update, None) => done(format!("the peer's route {} was deleted", self.peer)),
            (Response::Update, Some(_)) => Err(format!(
                "the route {} was deleted, and is there when it is read back",
                self.peer
            )),
            (_, Some(found)) => match found.difference(&self.own) {
                None => done(format!("the route {} was inserted", self.own.name)),
                Some(difference) => Err(format!(
                    "the route {} was inserted, and {difference} when it is read back",
                    self.own.name
                )),
            },
            (_, None) => Err(format!(
                "the route {} was inserted, and is not there when it is read back",
                self.own.name
            )),
        }
    }

    // ---- verify -----------------------------------------------------------------------------------

    fn on_tested(&mut self, is_peer: bool, reply: &Reply) -> Result<Step, String> {
        // Permissions of a route that is not there cannot be asked for.
        if reply.status == 404 && is_peer {
            return Ok(self.test(false));
        }
        if reply.status != 404 {
            if reply.status != 200 {
                return Err(refusal(TEST, reply));
            }
            let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let has = |name: &&str| {
                value["permissions"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
            };
            let lacks: Vec<&str> = PERMISSIONS.into_iter().filter(|name| !has(name)).collect();
            if !lacks.is_empty() {
                let which = if is_peer { &self.peer } else { &self.own.name };
                return Err(format!("{} is not permitted on the route {which}", lacks.join(", ")));
            }
        }
        Ok(self.write(Write::InsertVerify))
    }

    // ---- operations -------------------------------------------------------------------------------

    fn write(&mut self, write: Write) -> Step {
        self.phase = Phase::Writing(write);
        let (own, peer, throw_away) = (self.own.clone(), self.peer.clone(), self.throw_away());
        match write {
            Write::DeletePeer => self.delete(&peer).into(),
            Write::InsertOwn => self.insert(&own).into(),
            Write::InsertVerify => self.insert(&throw_away).into(),
            Write::ClearVerify | Write::DeleteVerify => self.delete(&throw_away.name).into(),
        }
    }

    fn on_written(&mut self, write: Write, reply: &Reply) -> Result<Step, String> {
        match (write, reply.status) {
            // A repeated request finds what the first one has done.
            (Write::DeletePeer | Write::ClearVerify | Write::DeleteVerify, 404)
            | (Write::InsertOwn, 409) => Ok(self.on_done(write)),
            // A verify before this one was killed.
            (Write::InsertVerify, 409) => Ok(self.write(Write::ClearVerify)),
            (Write::InsertOwn | Write::InsertVerify, _) => self.on_operation(write, INSERT, reply),
            (Write::DeletePeer | Write::ClearVerify | Write::DeleteVerify, _) => {
                self.on_operation(write, DELETE, reply)
            }
        }
    }

    fn on_operation(
        &mut self,
        write: Write,
        what: &'static str,
        reply: &Reply,
    ) -> Result<Step, String> {
        match route::operation(what, reply)? {
            State::Running(name) => Ok(self.wait(write, &name)),
            State::Done => Ok(self.on_done(write)),
        }
    }

    fn wait(&mut self, write: Write, name: &str) -> Step {
        self.phase = Phase::Waiting(write);
        let target = self.target(&format!("operations/{}/wait", encode(name)));
        let ask = Ask::new(WAIT, Place::Api, Method::Post, target);
        Ask { waits: true, after: PAUSE, ..ask }.into()
    }

    fn on_done(&mut self, write: Write) -> Step {
        let (phase, name) = match write {
            Write::ClearVerify => return self.write(Write::InsertVerify),
            Write::InsertVerify => return self.write(Write::DeleteVerify),
            Write::DeleteVerify => (Phase::Confirming, self.own.name.clone()),
            Write::DeletePeer | Write::InsertOwn => (Phase::ReadingBack, self.subject()),
        };
        self.phase = phase;
        self.read(&name).into()
    }

    fn on_confirmed(&self, found: Option<&Route>) -> Done {
        let state = if found.is_some() { "is there" } else { "is not there" };
        let (own, mode) = (&self.own.name, self.mode.name());
        let detail = format!(
            "the route {own} of this {mode} {state}, and routes can be inserted and deleted"
        );
        Done::new(Outcome::WrittenBack, detail)
    }
}

impl super::step::Work for Work {
    fn begin(&mut self) -> Step {
        self.phase = Phase::Reading;
        let name = self.subject();
        self.read(&name).into()
    }

    fn on_reply(&mut self, reply: &Reply) -> Result<Step, String> {
        match self.phase {
            Phase::Reading => self.on_read(Route::read(READ, reply)?.as_ref()),
            Phase::ReadingBack => self.on_read_back(Route::read(READ, reply)?.as_ref()),
            Phase::Confirming => {
                let found = Route::read(READ, reply)?;
                Ok(Step::Over(self.on_confirmed(found.as_ref())))
            }
            Phase::Testing { is_peer } => self.on_tested(is_peer, reply),
            Phase::Writing(write) => self.on_written(write, reply),
            Phase::Waiting(write) => self.on_operation(write, WAIT, reply),
        }
    }
}

#[cfg(test)]
mod tests;
