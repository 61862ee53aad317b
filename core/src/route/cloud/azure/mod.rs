//! The provider `azure`: routes of a route table of Azure's Resource Manager.
//!
//! A route is replaced and never created: the route table belongs to the operator. A node without a route
//! stands for all routes of the table to routers (`VirtualAppliance`) whose addresses are of its family. They
//! are written as one table. Each
//! write is compared with the previous read by the entity tag. A whole table also has the lease and its term
//! as tags, so a router that has lost the lease is refused.

pub mod login;
mod operation;
mod table;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use serde_json::Value;

use super::super::decide::Response;
use super::super::job::{Done, Fence, Job, Outcome};
use super::super::parameters::split_cidr;
use super::http::{Ask, Method, Place, Reply, encode};
use super::said::{bounded, refusal, said};
use super::step::{Step, TRIES, parameter};
use operation::Operation;
use table::{State, Table};

/// The version of the API.
const VERSION: &str = "2024-05-01";

/// The version of the API that describes this machine.
const INSTANCE_VERSION: &str = "2021-02-01";

/// The maximum length of a route's name: more than Azure permits.
const NAME_MAX: usize = 256;

const READ: &str = "reading the route table";
const WRITE: &str = "writing the route";
const INSTANCE: &str = "the description of this machine";

/// The time before the next read of a table that is being written.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns whether the failure may pass: another operation works on the table.
pub(super) fn may_pass(reply: &Reply) -> bool {
    let codes = ["AnotherOperationInProgress", "RetryableError", "OperationNotAllowed:"];
    reply.status == 409 && codes.iter().any(|code| said(reply).starts_with(code))
}

/// The work of one event.
#[derive(Debug)]
pub struct Work {
    base: Box<str>,
    subscription: Option<Box<str>>,
    group: Option<Box<str>>,
    table: Box<str>,
    /// The destination of the node's route. None means all routes to routers.
    route: Option<(Box<str>, (IpAddr, u8))>,
    own: IpAddr,
    fence: Option<Fence>,
    response: Response,
    tries: u32,
    phase: Phase,
}

/// What is written, and what has to be read back.
#[derive(Clone, Debug)]
struct Written {
    /// The written routes by name, with their next hops afterwards.
    routes: Vec<(Box<str>, Box<str>)>,
    outcome: Outcome,
    detail: String,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The subscription and the resource group of this machine are read.
    Locating,
    Reading,
    Writing(Written),
    Waiting(Written, Operation),
    ReadingBack(Written),
}

impl Work {
    /// Creates the work of a job. `base` is the URL of the API, without a path.
    ///
    /// # Errors
    ///
    /// The job lacks a required parameter.
    pub fn new(job: &Job, base: &str) -> Result<Self, String> {
        let optional = |name: &str| job.parameters.get(name).cloned();
        let route = match optional("route") {
            Some(text) => {
                let cidr = split_cidr(&text).ok_or("the route is no CIDR")?;
                Some((text, cidr))
            }
            None => None,
        };
        let own = parameter(job, "nextHop", "-n")?;
        Ok(Self {
            base: base.into(),
            subscription: optional("subscriptionId"),
            group: optional("resourceGroup"),
            table: parameter(job, "routeTableName", "-t")?.into(),
            route,
            own: own.parse().map_err(|_| "the next hop is no address")?,
            fence: job.fence.clone(),
            response: job.response,
            tries: 0,
            phase: Phase::Locating,
        })
    }

    /// Returns the path of the route table, with a segment below it.
    fn target(&self, below: &str) -> String {
        let of = |text: &Option<Box<str>>| encode(text.as_deref().unwrap_or_default());
        let (subscription, group) = (of(&self.subscription), of(&self.group));
        let table = encode(&self.table);
        format!(
            "/subscriptions/{subscription}/resourceGroups/{group}\
             /providers/Microsoft.Network/routeTables/{table}{below}?api-version={VERSION}"
        )
    }

    fn read(&self) -> Ask {
        Ask::new(READ, Place::Api, Method::Get, self.target(""))
    }

    fn read_anew(&mut self, after: Duration) -> Step {
        self.phase = Phase::Reading;
        self.read().after(after).into()
    }

    // ---- reading ----------------------------------------------------------------------------------

    fn on_located(&mut self, reply: &Reply) -> Result<Step, String> {
        if reply.status != 200 {
            return Err(refusal(INSTANCE, reply));
        }
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let of = |name: &str| value[name].as_str().map(Into::into);
        let lacks = |flag| format!("{INSTANCE} is incomplete: see set_params {flag}");
        if self.subscription.is_none() {
            self.subscription = Some(of("subscriptionId").ok_or_else(|| lacks("-s"))?);
        }
        if self.group.is_none() {
            self.group = Some(of("resourceGroupName").ok_or_else(|| lacks("-g"))?);
        }
        Ok(self.read_anew(Duration::ZERO))
    }

    fn on_read(&mut self, table: &Table) -> Result<Step, String> {
        if table.state() == State::Running {
            return Ok(self.read_anew(PAUSE));
        }
        match self.route.clone() {
            Some((text, cidr)) => self.judge_one(table, &text, cidr),
            None => match self.is_later(table) {
                Some(later) => Ok(Step::Over(later)),
                None => self.judge_all(table),
            },
        }
    }

    fn judge_one(&mut self, table: &Table, text: &str, cidr: (IpAddr, u8)) -> Result<Step, String> {
        let (name, own) = (&self.table, self.own);
        let Some(route) = table.find(cidr) else {
            return Err(format!("the table {name} has no route {text}; create it, as to {own}"));
        };
        if !route.is_appliance() {
            let kind = bounded(route.kind());
            return Err(format!("the route {text} is of the type {kind}, not VirtualAppliance"));
        }
        if route.name().is_empty() || route.name().len() > NAME_MAX {
            return Err(format!("the route {text} has no name of 1 to {NAME_MAX} characters"));
        }
        let led = bounded(&route.hop());
        let (hop, outcome, detail) = match self.response {
            Response::Nothing => return Err("there is nothing to be done".into()),
            Response::WriteBack => {
                let detail = format!("the route leads to {led} and can be updated");
                (route.hop(), Outcome::WrittenBack, detail)
            }
            // A table whose last write failed may show what is not in effect.
            Response::UpdateIfDifferent if route.is_by(own) && table.state() != State::Failed => {
                let detail = format!("the route leads to {own} already");
                return Ok(Step::Over(Done::new(Outcome::Unchanged, detail)));
            }
            Response::Update | Response::UpdateIfDifferent => {
                let is_same = route.is_by(own);
                let outcome = if is_same { Outcome::Unchanged } else { Outcome::Updated };
                let detail = format!("the route led to {led} and leads to {own} now");
                (own.to_string().into(), outcome, detail)
            }
        };
        let body = Value::Object(route.with(Some(&hop))).to_string();
        let target = self.target(&format!("/routes/{}", encode(route.name())));
        let etag = route.etag().or_else(|| table.etag());
        let routes = [(route.name().into(), hop)].into();
        self.phase = Phase::Writing(Written { routes, outcome, detail });
        Ok(write(target, etag, body))
    }

    /// Returns a failure if a later holder, or a holder of another lease, has written the table.
    fn is_later(&self, table: &Table) -> Option<Done> {
        let (lease, term) = table.lease()?;
        let refused = |detail| Done::new(Outcome::Failed, detail);
        match &self.fence {
            Some(fence) if *fence.key == *lease => (term > fence.term).then(|| Done {
                term: Some(term),
                ..refused(format!(
                    "the table was written in term {term} of {lease}, and this is term {}",
                    fence.term
                ))
            }),
            // A write-back changes nothing, so it is allowed.
            None if self.response == Response::WriteBack => None,
            Some(_) | None => Some(refused(format!(
                "the table is written under the lease {}, which is not this node's",
                bounded(lease)
            ))),
        }
    }

    fn judge_all(&mut self, table: &Table) -> Result<Step, String> {
        let own = self.own;
        let all = table.appliances(own).count();
        let others = table.appliances(own).filter(|route| !route.is_by(own)).count();
        if all == 0 {
            return Err(format!("the table {} has no route to a router", self.table));
        }
        let term = self.fence.as_ref().map(|fence| (&*fence.key, fence.term));
        let is_in_effect = others == 0 && table.state() != State::Failed;
        let is_so = is_in_effect && (term.is_none() || table.lease() == term);
        let (hop, outcome, detail) = match self.response {
            Response::Nothing => return Err("there is nothing to be done".into()),
            Response::WriteBack => {
                let detail = format!("{all} routes to routers can be updated");
                (None, Outcome::WrittenBack, detail)
            }
            Response::UpdateIfDifferent if is_so => {
                let detail = format!("all {all} routes to routers lead to {own} already");
                return Ok(Step::Over(Done::new(Outcome::Unchanged, detail)));
            }
            Response::Update | Response::UpdateIfDifferent => {
                let outcome = if others == 0 { Outcome::Unchanged } else { Outcome::Updated };
                let detail = format!(
                    "{others} of {all} routes to routers led elsewhere and lead to {own} now"
                );
                (Some(own), outcome, detail)
            }
        };
        let after = |hop: Box<str>| self.own_hop().unwrap_or(hop);
        let routes = table.appliances(own).map(|route| (route.name().into(), after(route.hop())));
        let routes = routes.collect();
        let fence = self.fence.as_ref().filter(|_| hop.is_some());
        let body = table.with(hop, fence).to_string();
        let etag = table.etag().ok_or("the table has no entity tag, so it is not written")?;
        self.phase = Phase::Writing(Written { routes, outcome, detail });
        Ok(write(self.target(""), Some(etag), body))
    }

    /// Returns the next hop that a write gives to a route. A write-back leaves each route its own.
    fn own_hop(&self) -> Option<Box<str>> {
        (self.response != Response::WriteBack).then(|| self.own.to_string().into())
    }

    // ---- writing ----------------------------------------------------------------------------------

    fn on_written(&mut self, written: Written, reply: &Reply) -> Result<Step, String> {
        // Another writer was faster. Without this entity tag the same would be written over its change.
        if reply.status == 412 {
            self.tries += 1;
            if self.tries == TRIES {
                return Err("the route table changes faster than it can be written".into());
            }
            return Ok(self.read_anew(Duration::ZERO));
        }
        if !matches!(reply.status, 200..=202) {
            return Err(refusal(WRITE, reply));
        }
        if let Some((operation, after)) = operation::begun(&self.base, reply) {
            let step = operation::look(&operation, after).into();
            self.phase = Phase::Waiting(written, operation);
            return Ok(step);
        }
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let state = value["properties"]["provisioningState"].as_str().unwrap_or("Succeeded");
        let after = match State::of(state) {
            State::Succeeded => Duration::ZERO,
            State::Running => operation::pause(reply),
            State::Failed => {
                return Err(format!("{WRITE}: the provisioning state is {}", bounded(state)));
            }
        };
        Ok(self.read_back(written, after))
    }

    fn on_waited(
        &mut self,
        written: Written,
        operation: Operation,
        reply: &Reply,
    ) -> Result<Step, String> {
        if operation::has_ended(&operation, reply)? {
            return Ok(self.read_back(written, Duration::ZERO));
        }
        let step = operation::look(&operation, operation::pause(reply)).into();
        self.phase = Phase::Waiting(written, operation);
        Ok(step)
    }

    fn read_back(&mut self, written: Written, after: Duration) -> Step {
        self.phase = Phase::ReadingBack(written);
        self.read().after(after).into()
    }

    fn on_read_back(&mut self, written: Written, table: &Table) -> Result<Step, String> {
        match table.state() {
            State::Succeeded => {}
            State::Running => return Ok(self.read_back(written, PAUSE)),
            State::Failed => {
                return Err("the route was written, and the table's provisioning state is Failed \
                            when it is read back"
                    .into());
            }
        }
        for (name, hop) in &written.routes {
            let route = table.appliances(self.own).find(|route| route.name() == &**name);
            let leads = route.map(|route| route.hop());
            let is_so = match (hop.parse(), route) {
                (Ok(hop), Some(route)) => route.is_by(hop),
                (_, _) => leads.as_ref() == Some(hop),
            };
            if !is_so {
                let (name, leads) = (bounded(name), leads.unwrap_or_else(|| "nowhere".into()));
                let leads = bounded(&leads);
                return Err(format!(
                    "the route {name} was written, and leads to {leads} when it is read back"
                ));
            }
        }
        Ok(Step::Over(Done::new(written.outcome, written.detail)))
    }
}

fn write(target: String, etag: Option<&str>, body: String) -> Step {
    let ask = Ask::new(WRITE, Place::Api, Method::Put, target).json(body);
    let is_plain = |etag: &&str| etag.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match etag.filter(is_plain) {
        Some(etag) => ask.with("if-match", etag).into(),
        None => ask.into(),
    }
}

impl super::step::Work for Work {
    fn begin(&mut self) -> Step {
        if self.subscription.is_some() && self.group.is_some() {
            return self.read_anew(Duration::ZERO);
        }
        self.phase = Phase::Locating;
        let target = format!("/metadata/instance/compute?api-version={INSTANCE_VERSION}");
        Ask::new(INSTANCE, Place::Metadata, Method::Get, target).with("metadata", "true").into()
    }

    fn on_reply(&mut self, reply: &Reply) -> Result<Step, String> {
        match self.phase.clone() {
            Phase::Locating => self.on_located(reply),
            Phase::Reading => self.on_read(&Table::read(READ, reply)?),
            Phase::Writing(written) => self.on_written(written, reply),
            Phase::Waiting(written, operation) => self.on_waited(written, operation, reply),
            Phase::ReadingBack(written) => self.on_read_back(written, &Table::read(READ, reply)?),
        }
    }
}

#[cfg(test)]
mod tests;
