//! What the instances of this node tell of themselves (the RFC's section "Messages of an instance").
//!
//! An instance proves itself with its capability, which only its processes, the keeper and hax know. What it tells
//! becomes part of its observation. It is answered once Consul holds that. An instance that asks what is to become of
//! its failure is answered once the coordinator has worked the failure, whichever coordinator that is.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::State;
use super::answer_now;
use super::context::{Call, Cx, Timer};
use super::instance::{Instance, Stage};
use crate::base::id::HttpId;
use crate::consul::op::Op;
use crate::consul::port as consul;
use crate::consul::url;
use crate::http::answer::Answer;
use crate::http::port::Request;
use crate::keeper::name::InstanceId;
use crate::services::fact::Fact;
use crate::services::model::class::Class;
use crate::services::model::keys::{self, Side};
use crate::services::model::name::TypeName;
use crate::services::model::record::{self as records, Job, Phase, Sharing, Want, Wanted};
use crate::services::model::stored;
use crate::services::refusal::refuse;
use crate::store::{txn, watch};

/// The maximum size of a body.
const BODY_MAX: usize = 4 << 10;
/// The maximum number of instances that wait for an answer.
const WAITING_MAX: usize = 256;
/// The maximum number of answers that one instance waits for.
const EACH_MAX: usize = 4;
/// The maximum number of those that wait for the coordinator. Each has a blocking query at Consul.
pub(in crate::services) const QUESTIONS_MAX: usize = 16;
/// The maximum number of resources of an instance.
const RESOURCES_MAX: usize = 64;
/// The maximum length of a text in a record.
const TEXT_MAX: usize = 200;
/// The maximum length of a resource's kind, of its name, and of a revision.
const NAME_MAX: usize = 64;
/// The duration of a blocking query: an agent that does not answer is asked again soon.
const WATCH: Duration = Duration::from_secs(5);
/// The pause before Consul is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The time for which an instance waits by default, and at most.
const WITHIN: [u64; 2] = [30, 300];

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The value of `HAX_INSTANCE`: the instance's id, a colon and its capability.
    instance: Box<str>,
    tell: Told,
    /// The time for which the instance waits, in seconds.
    #[serde(default)]
    wait_s: Option<u64>,
}

/// What an instance tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Told {
    /// It is ready. Of a type with another kind of readiness this says nothing new.
    Ready,
    /// It holds a resource from now on.
    Acquired {
        kind: Box<str>,
        name: Box<str>,
        #[serde(default)]
        shared: bool,
    },
    /// It does not hold a resource any more.
    Released { kind: Box<str>, name: Box<str> },
    /// It has changed its configuration by itself.
    Config { revision: Box<str> },
    /// It has failed.
    Failed {
        why: Box<str>,
        /// Whether it asks what is to become of that.
        #[serde(default)]
        ask: bool,
    },
    /// It is about to end.
    Stopping {
        #[serde(default)]
        why: Box<str>,
    },
}

/// An instance that waits for the answer to what it has told.
#[derive(Debug)]
pub(super) struct Waiting {
    kind: TypeName,
    id: InstanceId,
    /// The serial number of its start.
    serial: u64,
    until: Until,
}

/// What an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Consul holds what it has told.
    Written,
    /// The same, then the coordinator has worked it.
    Asks,
    /// The coordinator has worked it.
    Worked,
    /// What the coordinator wants is read.
    Read,
}

/// Returns whether a word can be a resource's kind or name, or a revision.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    (1..=NAME_MAX).contains(&word.len()) && word.chars().all(plain)
}

/// Returns a text without control characters, with a limited length.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

/// Returns whether two secrets are equal, in a time that does not depend on where they differ.
fn is_same(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differences == 0
}

impl State {
    pub(super) fn on_tell(&mut self, cx: &mut Cx<'_>, request: &Request) {
        match self.tell(cx, request) {
            Ok((waiting, within)) => {
                cx.arm(Timer::Tell(request.id), within);
                self.tells.insert(request.id, waiting);
            }
            Err(answer) => answer_now(cx, request.id, answer),
        }
    }

    /// Takes what an instance tells. Returns for how long it waits, and for what.
    fn tell(&mut self, cx: &mut Cx<'_>, request: &Request) -> Result<(Waiting, Duration), Answer> {
        if &*request.method != "POST" {
            return Err(Answer::not_allowed("POST"));
        }
        if self.phase != super::Phase::Serving {
            return Err(Answer::stopping());
        }
        if request.body.len() > BODY_MAX {
            return Err(refuse(413, "the body is too large"));
        }
        // A list would be read as an object without names.
        let body = serde_json::from_slice::<serde_json::Map<_, _>>(&request.body)
            .and_then(|fields| serde_json::from_value::<Body>(fields.into()))
            .map_err(|why| refuse(400, &format!("the body: {why}")))?;
        let (kind, id) = self.prove(&body.instance)?;
        let asks = matches!(body.tell, Told::Failed { ask: true, .. });
        let questions = self.tells.values().filter(|waiting| waiting.until != Until::Written);
        let own = self.tells.values().filter(|waiting| waiting.kind == kind).count();
        let is_full = self.tells.len() >= WAITING_MAX || own >= EACH_MAX;
        if is_full || asks && questions.count() >= QUESTIONS_MAX {
            return Err(refuse(503, "too many instances wait for an answer; try again later"));
        }
        self.take_told(cx, &kind, body.tell)?;
        let [default, most] = WITHIN;
        let within = Duration::from_secs(body.wait_s.unwrap_or(default).clamp(1, most));
        let until = if asks { Until::Asks } else { Until::Written };
        let serial = self.instances.get(&kind).map_or(0, |row| row.seen.serial);
        Ok((Waiting { kind, id, serial, until }, within))
    }

    /// Returns the type and the id of the living instance that proves itself.
    fn prove(&self, instance: &str) -> Result<(TypeName, InstanceId), Answer> {
        if !self.is_reconciled {
            // The keeper's list has the capabilities.
            return Err(refuse(503, "the instances of this node are not known yet; tell it again"));
        }
        let unproved =
            || refuse(403, "the instance is not known here, or this is not its capability");
        let (id, capability) = instance.split_once(':').ok_or_else(unproved)?;
        let id = InstanceId::new(id).ok_or_else(unproved)?;
        let kind = self.kind_of(&id).ok_or_else(unproved)?;
        let row = self.instances.get(&kind).ok_or_else(unproved)?;
        let live = row.live.as_ref().filter(|live| live.id == id).ok_or_else(unproved)?;
        let own = live.capability.as_deref().filter(|own| is_same(own, capability));
        own.ok_or_else(unproved)?;
        if matches!(live.stage, Stage::Naming | Stage::Asked) {
            // The keeper's answer to its start is on its way.
            return Err(refuse(503, "it is being started; tell it again"));
        }
        if row.is_frozen() {
            return Err(refuse(
                503,
                "a record of it in Consul cannot be used; tell it again later",
            ));
        }
        Ok((kind, id))
    }

    /// Changes the observation of a living instance.
    fn take_told(&mut self, cx: &mut Cx<'_>, kind: &TypeName, told: Told) -> Result<(), Answer> {
        let now = cx.now().mono;
        let Some(row) = self.instances.get_mut(kind) else { return Ok(()) };
        let Some(live) = &mut row.live else { return Ok(()) };
        let id = live.id.clone();
        match told {
            Told::Ready => {
                let notifies = live.launch.as_ref().is_some_and(|launch| launch.notifies);
                live.has_told_ready = true;
                match live.stage {
                    Stage::Warming if notifies => self.on_ready(cx, kind),
                    Stage::Naming | Stage::Asked | Stage::Warming | Stage::Up | Stage::Ending => {}
                }
            }
            Told::Acquired { kind: of, name, shared } => {
                let sharing = if shared { Sharing::Shared } else { Sharing::Own };
                acquire(row, kind, &of, &name, sharing)?;
                cx.emit(Fact::Holds {
                    instance: id.clone(),
                    resource: format!("{of}/{name}").into(),
                });
            }
            Told::Released { kind: of, name } => {
                let resource: Box<str> = format!("{of}/{name}").into();
                if row.seen.resources.remove(&resource).is_none() {
                    return Err(refuse(
                        409,
                        &format!("{id} does not hold {}", printable(&resource)),
                    ));
                }
                cx.emit(Fact::LetGo { instance: id.clone(), resource });
            }
            Told::Config { revision } => {
                if !is_plain(&revision) {
                    return Err(refuse(
                        400,
                        "revision: 1 to 64 letters, digits and -_.:@ are expected",
                    ));
                }
                row.seen.config = Some(revision);
            }
            Told::Failed { why, .. } => {
                let why = format!("it says that it has failed: {}", printable(&why));
                if matches!(live.stage, Stage::Ending) || row.seen.is_announced() {
                    return Err(refuse(409, "it is ending already"));
                }
                if row.seen.has_told_failure() {
                    // The first word counts.
                    return Ok(());
                }
                live.stage = Stage::Up;
                let probe = live.probe.take();
                row.on_unwell(now, Class::Told, &why);
                let slot = row.slot;
                self.stop_probing(cx, slot, probe);
                cx.emit(Fact::Failed { kind: kind.clone(), why: why.into() });
            }
            Told::Stopping { why } => self.on_announced(cx, kind, &printable(&why)),
        }
        Ok(())
    }

    /// An instance announces its end. It has the time of a stop for it.
    fn on_announced(&mut self, cx: &mut Cx<'_>, kind: &TypeName, why: &str) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        let (slot, Some(live)) = (row.slot, &mut row.live) else { return };
        if live.stage == Stage::Ending || row.seen.is_announced() {
            return;
        }
        live.stage = Stage::Up;
        let probe = live.probe.take();
        let within = live.launch.as_ref().map(|launch| launch.stop_within()).unwrap_or_default();
        row.on_announced(why);
        self.stop_probing(cx, slot, probe);
        cx.arm(Timer::Ready(slot), within);
        cx.emit(Fact::Announced { kind: kind.clone(), why: why.into() });
    }

    // ---- answers ----------------------------------------------------------------------------------

    /// Answers the instances whose words Consul holds.
    pub(super) fn answer_told(&mut self, cx: &mut Cx<'_>) {
        let is_held = |waiting: &Waiting| {
            let row = self.instances.get(&waiting.kind);
            row.is_none_or(|row| row.seen.instance.as_ref() != Some(&waiting.id) || !row.is_dirty())
        };
        let held = self.tells.iter().filter(|(_, waiting)| match waiting.until {
            Until::Written | Until::Asks => is_held(waiting),
            Until::Worked | Until::Read => false,
        });
        let held: Vec<HttpId> = held.map(|(id, _)| *id).collect();
        for id in held {
            let Some(waiting) = self.tells.get_mut(&id) else { continue };
            if waiting.until == Until::Written {
                self.answer_tell(cx, id, Answer::new(200, r#"{"state":"done"}"#));
                continue;
            }
            let index = self.instances.get(&waiting.kind).map_or(0, |row| row.stored_index);
            self.await_worked(cx, id, index);
        }
    }

    /// Handles the answer to a wait for the coordinator: the event is worked once it is deleted.
    pub(super) fn on_worked(
        &mut self,
        cx: &mut Cx<'_>,
        id: HttpId,
        answer: Option<&consul::Answer>,
    ) {
        match answer {
            _ if !self.tells.contains_key(&id) => {}
            Some(answer) if answer.status == 404 => self.read_answer(cx, id),
            Some(answer) if answer.status == 200 => self.await_worked(cx, id, answer.index),
            // Its agent may be without servers for a while.
            Some(_) | None => cx.arm(Timer::AskAgain(id), AGAIN),
        }
    }

    /// Waits until the coordinator has worked the event of an instance's failure.
    fn await_worked(&mut self, cx: &mut Cx<'_>, id: HttpId, index: u64) {
        let Some(waiting) = self.tells.get_mut(&id) else { return };
        waiting.until = Until::Worked;
        let event = self.instances.get(&waiting.kind).and_then(|row| row.event.as_deref());
        match event {
            Some(event) => {
                watch::send(cx, Call::Worked(id), &url::key(event), index, WATCH);
            }
            None => self.read_answer(cx, id),
        }
    }

    /// Asks Consul again what is to become of an instance.
    pub(super) fn ask_again(&mut self, cx: &mut Cx<'_>, id: HttpId) {
        match self.tells.get(&id).map(|waiting| waiting.until) {
            Some(Until::Worked) => self.await_worked(cx, id, 0),
            Some(Until::Read) => self.read_answer(cx, id),
            Some(Until::Written | Until::Asks) | None => {}
        }
    }

    fn read_answer(&mut self, cx: &mut Cx<'_>, id: HttpId) {
        let Some(waiting) = self.tells.get_mut(&id) else { return };
        waiting.until = Until::Read;
        let (node, kind) = (&self.config.node, &waiting.kind);
        let wanted = keys::instance(node, kind, Side::Wanted);
        // A record that is missing would make a read of its key fail.
        txn::send(
            cx,
            Call::Decision(id),
            &[wanted, keys::job(node, kind)].map(|key| Op::get_tree(&key)),
        );
    }

    /// Answers what is to become of a failure.
    pub(super) fn on_decision(
        &mut self,
        cx: &mut Cx<'_>,
        id: HttpId,
        answer: Option<&consul::Answer>,
    ) {
        let Some(waiting) = self.tells.get(&id) else { return };
        let txn::Outcome::Applied(results) = txn::Outcome::of(answer) else {
            return cx.arm(Timer::AskAgain(id), AGAIN);
        };
        let (node, kind, serial) = (&self.config.node, &waiting.kind, waiting.serial);
        let bytes = |of: String| {
            let entries = results.iter().filter_map(|result| result.kv.as_ref());
            entries.filter(|entry| *entry.key == *of).find_map(|entry| entry.bytes())
        };
        let wanted = bytes(keys::instance(node, kind, Side::Wanted));
        let wanted: Option<Wanted> = wanted.and_then(|bytes| stored::decode(&bytes).ok());
        let job = bytes(keys::job(node, kind));
        let job: Option<Job> = job.and_then(|bytes| stored::decode(&bytes).ok());
        let (word, after) = decision(wanted.as_ref(), job.as_ref(), serial);
        let why = wanted.as_ref().map(|wanted| &wanted.why);
        let text = json!({ "answer": word, "after_ms": after, "why": why });
        self.answer_tell(cx, id, Answer::new(200, format!("{text}")));
    }

    /// An instance has waited for too long.
    pub(super) fn on_tell_over(&mut self, cx: &mut Cx<'_>, id: HttpId) {
        let text = match self.tells.get(&id).map(|waiting| waiting.until) {
            Some(Until::Worked | Until::Read) => {
                r#"{"state":"the coordinator has not answered yet"}"#
            }
            _ => r#"{"state":"Consul does not hold it yet; hax writes it as soon as it can"}"#,
        };
        self.answer_tell(cx, id, Answer::new(202, text));
    }

    /// Answers all instances that wait: hax stops. What they have told is in their observations, or they tell it again.
    pub(super) fn refuse_told(&mut self, cx: &mut Cx<'_>) {
        let waiting: Vec<HttpId> = self.tells.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.answer_tell(cx, id, Answer::stopping()));
    }

    fn answer_tell(&mut self, cx: &mut Cx<'_>, id: HttpId, answer: Answer) {
        if self.tells.remove(&id).is_some() {
            cx.cancel_where(|call| call == Call::Worked(id) || call == Call::Decision(id));
            cx.disarm(Timer::Tell(id));
            cx.disarm(Timer::AskAgain(id));
            cx.http(id, answer);
        }
    }
}

/// Adds a resource to those that an instance holds.
fn acquire(
    row: &mut Instance,
    kind: &TypeName,
    of: &str,
    name: &str,
    sharing: Sharing,
) -> Result<(), Answer> {
    if !is_plain(of) || !is_plain(name) {
        return Err(refuse(400, "kind and name: 1 to 64 letters, digits and -_.:@ are expected"));
    }
    let launch = row.live.as_ref().and_then(|live| live.launch.as_ref());
    let kinds = launch.map(|launch| &*launch.kinds).unwrap_or_default();
    if !kinds.iter().any(|declared| **declared == *of) {
        let kinds = kinds.join(", ");
        let has = if kinds.is_empty() { "none" } else { &kinds };
        let why = format!("{kind} may not hold a resource of the kind {of}; its schema has: {has}");
        return Err(refuse(409, &why));
    }
    let resources = &mut row.seen.resources;
    if resources.len() >= RESOURCES_MAX && !resources.contains_key(&*format!("{of}/{name}")) {
        return Err(refuse(409, &format!("it holds {RESOURCES_MAX} resources already")));
    }
    resources.insert(format!("{of}/{name}").into(), sharing);
    Ok(())
}

/// Returns what is to become of an instance that has failed with this serial number: a word, and the delay of its next
/// start in milliseconds.
fn decision(
    wanted: Option<&Wanted>,
    job: Option<&Job>,
    serial: u64,
) -> (&'static str, Option<u64>) {
    let delay = job.filter(|job| matches!(job.phase, Phase::Delay | Phase::GivenUp));
    let delay = delay.and_then(|job| job.wait_ms);
    match wanted {
        Some(wanted) if wanted.want == Want::Running && wanted.serial > serial => ("restart", None),
        Some(wanted) if wanted.want == Want::Running && delay.is_some() => ("restart", delay),
        Some(wanted) if wanted.want == Want::Running => ("continue", None),
        // One that was given up is tried again after a while.
        Some(_) => ("stop", delay),
        // A record that is missing or cannot be used says nothing.
        None => ("continue", None),
    }
}

impl Instance {
    /// The instance has announced its end.
    pub(super) fn on_announced(&mut self, why: &str) {
        let about = if why.is_empty() { "" } else { ": " };
        let text = format!("it has announced its end{about}{why}").into();
        self.seen.state = records::State::Stopping;
        self.seen.reason = Some(records::Reason { class: Class::Announced, text });
    }
}
