//! The provider `aws`: routes of a route table of EC2.
//!
//! A route is replaced (`ReplaceRoute`) and never created: the route table belongs to the operator. A node
//! without a route stands for all routes of the table that lead to an interface. Routes to gateways are left
//! as they are.

pub mod credentials;
pub mod sign;
mod table;
pub mod xml;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::super::decide::Response;
use super::super::job::{Done, Job, Outcome};
use super::super::parameters::split_cidr;
use super::http::{Ask, Method, Place, Reply};
use super::said::{bounded, describe};
use super::step::{Step, parameter};
use table::{Destination, Route, Target};

/// The version of the API.
const VERSION: &str = "2016-11-15";

const DESCRIBE: &str = "DescribeRouteTables";
const REPLACE: &str = "ReplaceRoute";

/// The maximum number of reads after a write. EC2 may show an old value for a moment.
const READS_MAX: u32 = 5;

/// The time before the second read after a write. Each further one takes twice as long.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// The maximum number of routes in the text of a result.
const NAMED_MAX: usize = 5;

/// Returns the URL of EC2 in a region.
#[must_use]
pub fn base(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://ec2.{region}.{domain}")
}

/// Returns whether the failure may pass: EC2 limits the rate of requests.
pub(super) fn may_pass(reply: &Reply) -> bool {
    let limits = ["RequestLimitExceeded", "Throttling", "ThrottlingException", "InternalError"];
    reply.status != 200 && code(reply).is_some_and(|code| limits.contains(&&*code))
}

/// Returns whether EC2 refused the credentials themselves.
pub(super) fn is_unknown(reply: &Reply) -> bool {
    let codes = [
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "UnrecognizedClientException",
    ];
    reply.status != 200 && code(reply).is_some_and(|code| codes.contains(&&*code))
}

fn code(reply: &Reply) -> Option<String> {
    table::error(core::str::from_utf8(&reply.body).ok()?).map(|(code, _)| code)
}

/// The work of one event.
#[derive(Debug)]
pub struct Work {
    table: Box<str>,
    /// The destination of the node's route. None means all routes to interfaces.
    route: Option<(Box<str>, (IpAddr, u8))>,
    own: Target,
    response: Response,
    phase: Phase,
}

/// A route that is to be written.
#[derive(Debug)]
struct Change {
    destination: Destination,
    before: Target,
    after: Target,
}

#[derive(Debug)]
enum Phase {
    Reading,
    /// The routes are written one after another, the first one at the moment.
    Writing(Writing),
    ReadingBack(Writing, u32),
}

#[derive(Debug, Default)]
struct Writing {
    waiting: VecDeque<Change>,
    written: Vec<Change>,
    /// The routes that could not be written, with the reasons.
    failed: Vec<String>,
    /// The number of routes to interfaces in the table.
    all: usize,
}

impl Work {
    /// Creates the work of a job.
    ///
    /// # Errors
    ///
    /// The job lacks a required parameter.
    pub fn new(job: &Job) -> Result<Self, String> {
        let route = match job.parameters.get("route") {
            Some(text) => {
                let cidr = split_cidr(text).ok_or("the route is no CIDR")?;
                Some((text.clone(), cidr))
            }
            None => None,
        };
        Ok(Self {
            table: parameter(job, "routeTableId", "-t")?.into(),
            route,
            own: Target::interface(parameter(job, "eniId", "-n")?),
            response: job.response,
            phase: Phase::Reading,
        })
    }

    fn read(&self) -> Ask {
        self.ask(DESCRIBE, &[("RouteTableId.1", &self.table)])
    }

    fn ask(&self, action: &'static str, fields: &[(&str, &str)]) -> Ask {
        let fixed = [("Action", action), ("Version", VERSION)];
        let fields: Vec<(&str, &str)> = fixed.iter().chain(fields).copied().collect();
        Ask::new(action, Place::Api, Method::Post, "/".into()).form(&fields)
    }

    fn write(&self, change: &Change) -> Step {
        let Target { field, id } = &change.after;
        let value = if *field == "LocalTarget" { "true" } else { id };
        let Destination { text, .. } = &change.destination;
        let place = (change.destination.field(), text.as_str());
        self.ask(REPLACE, &[("RouteTableId", &self.table), place, (field, value)]).into()
    }

    // ---- reading ----------------------------------------------------------------------------------

    fn on_read(&mut self, routes: Vec<Route>) -> Result<Step, String> {
        let Some((text, cidr)) = &self.route else { return self.judge_all(routes) };
        let found = routes.into_iter().find(|route| route.destination.is(*cidr));
        let Some(Route { destination, target }) = found else {
            return Err(format!(
                "the table {} has no route {text}; create it, as to {}",
                self.table, self.own.id
            ));
        };
        let before = target.ok_or("the route has a target that this hax does not know")?;
        let after = match self.response {
            Response::Nothing => return Err("there is nothing to be done".into()),
            Response::UpdateIfDifferent if before == self.own => {
                let detail = format!("the route leads to {} already", before.id);
                return Ok(Step::Over(Done::new(Outcome::Unchanged, detail)));
            }
            Response::Update | Response::UpdateIfDifferent => self.own.clone(),
            Response::WriteBack => before.clone(),
        };
        let waiting = [Change { destination, before, after }].into();
        Ok(self.go_on(Writing { waiting, all: 1, ..Writing::default() }))
    }

    fn judge_all(&mut self, routes: Vec<Route>) -> Result<Step, String> {
        let mut writing = Writing::default();
        for Route { destination, target } in routes {
            let Some(before) = target.filter(Target::is_interface) else { continue };
            writing.all += 1;
            let after = match self.response {
                Response::Nothing => return Err("there is nothing to be done".into()),
                Response::WriteBack => before.clone(),
                Response::UpdateIfDifferent if before == self.own => continue,
                Response::Update | Response::UpdateIfDifferent => self.own.clone(),
            };
            writing.waiting.push_back(Change { destination, before, after });
        }
        if writing.all == 0 {
            return Err(format!("the table {} has no route to an interface", self.table));
        }
        if writing.waiting.is_empty() {
            let (all, own) = (writing.all, &self.own.id);
            let detail = format!("all {all} routes to interfaces lead to {own} already");
            return Ok(Step::Over(Done::new(Outcome::Unchanged, detail)));
        }
        Ok(self.go_on(writing))
    }

    // ---- writing ----------------------------------------------------------------------------------

    fn go_on(&mut self, writing: Writing) -> Step {
        if let Some(next) = writing.waiting.front() {
            let step = self.write(next);
            self.phase = Phase::Writing(writing);
            return step;
        }
        self.phase = Phase::ReadingBack(writing, 1);
        self.read().into()
    }

    fn on_written(&mut self, mut writing: Writing, reply: &Reply) -> Result<Step, String> {
        let Some(change) = writing.waiting.pop_front() else { return Err("no write".into()) };
        if reply.status == 200 {
            writing.written.push(change);
            return Ok(self.go_on(writing));
        }
        let why = refusal(REPLACE, reply);
        if self.route.is_some() {
            return Err(why);
        }
        // Without permission none of the routes can be written.
        if matches!(reply.status, 401 | 403) {
            return Err(format!("{why} ({})", change.destination.text));
        }
        writing.failed.push(format!("{}: {why}", change.destination.text));
        Ok(self.go_on(writing))
    }

    // ---- reading back -----------------------------------------------------------------------------

    fn on_read_back(
        &mut self,
        mut writing: Writing,
        reads: u32,
        routes: &[Route],
    ) -> Result<Step, String> {
        let leads = |change: &Change| {
            let found = routes.iter().find(|route| route.destination == change.destination);
            found.map(|route| route.target.as_ref())
        };
        let is_so = |change: &&Change| leads(change).flatten() == Some(&change.after);
        let Some(other) = writing.written.iter().find(|change| !is_so(change)) else {
            return self.result(&writing).map(Step::Over);
        };
        if reads < READS_MAX {
            let pause = READ_AGAIN * 2_u32.pow(reads - 1);
            self.phase = Phase::ReadingBack(writing, reads + 1);
            return Ok(self.read().after(pause).into());
        }
        let leads = match leads(other) {
            Some(Some(target)) => target.id.clone(),
            Some(None) => "an unknown target".into(),
            None => "nowhere".into(),
        };
        let which = self.route.as_ref().map_or(&*other.destination.text, |(text, _)| text);
        writing.failed.insert(
            0,
            format!("the route {which} was written, and leads to {leads} when it is read back"),
        );
        Err(listed(&writing.failed))
    }

    fn result(&self, writing: &Writing) -> Result<Done, String> {
        let Writing { written, failed, all, .. } = writing;
        if !failed.is_empty() {
            let (some, text) = (failed.len(), listed(failed));
            return Err(format!("{some} of {all} routes could not be written: {text}"));
        }
        let is_back = self.response == Response::WriteBack;
        let own = &self.own.id;
        let is_moved = written.iter().any(|change| change.before != change.after);
        let outcome = match (is_back, is_moved) {
            (true, _) => Outcome::WrittenBack,
            (false, true) => Outcome::Updated,
            (false, false) => Outcome::Unchanged,
        };
        let detail = match (&self.route, &**written, is_back) {
            (Some(_), [change], true) => {
                format!("the route leads to {} and can be updated", change.before.id)
            }
            (Some(_), [change], false) => {
                format!("the route led to {} and leads to {own} now", change.before.id)
            }
            (_, written, true) => {
                format!("{} routes to interfaces can be updated", written.len())
            }
            (_, written, false) => {
                let moved = written.len();
                format!("{moved} of {all} routes to interfaces led elsewhere and lead to {own} now")
            }
        };
        Ok(Done::new(outcome, detail))
    }
}

impl super::step::Work for Work {
    fn begin(&mut self) -> Step {
        self.phase = Phase::Reading;
        self.read().into()
    }

    fn on_reply(&mut self, reply: &Reply) -> Result<Step, String> {
        let phase = core::mem::replace(&mut self.phase, Phase::Reading);
        if let Phase::Writing(writing) = phase {
            return self.on_written(writing, reply);
        }
        if reply.status != 200 {
            return Err(refusal(DESCRIBE, reply));
        }
        let routes = table::read(&self.table, DESCRIBE, reply)?;
        match phase {
            Phase::Reading => self.on_read(routes),
            Phase::ReadingBack(writing, reads) => self.on_read_back(writing, reads, &routes),
            Phase::Writing(_) => Err("no read".into()),
        }
    }
}

/// Returns the text of some failures.
fn listed(failures: &[String]) -> String {
    let mut text = failures.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if failures.len() > NAMED_MAX {
        text.push_str(&format!("; and {} more", failures.len() - NAMED_MAX));
    }
    text
}

/// Returns the description of EC2's error.
fn refusal(what: &str, reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let said: Cow<'_, str> = match table::error(&text) {
        Some((code, message)) if code == "SignatureDoesNotMatch" => {
            // The rest of this message repeats the whole request.
            let first = message.split('.').next().unwrap_or_default().to_string();
            format!("{code}: {first} (is the secret right, and this machine's clock?)").into()
        }
        Some((code, message)) => format!("{code}: {message}").into(),
        None => text,
    };
    describe(what, reply.status, &bounded(&said))
}

#[cfg(test)]
mod tests;
