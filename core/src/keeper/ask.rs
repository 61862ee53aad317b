//! The requests of clients and their replies.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::answer::{Answer, Cause, Code, Error, Event, Message, View};
use super::fact::Fact;
use super::instance::{Instance, Stage};
use super::name::InstanceId;
use super::record::{self, Intent, RecordFile};
use super::request::{self, Ask, Request, Start, VERSION};
use super::{ClientId, Cx, Keeper, Output, PAGE, Timer};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;

/// The result of a request. It is none if the reply is sent later.
type Answered = Result<Option<Answer>, Error>;

fn refused(code: Code, text: String) -> Error {
    Error { code, text, holder: None }
}

fn unknown(instance: &InstanceId) -> Error {
    refused(Code::Unknown, format!("there is no instance {instance}"))
}

impl Keeper {
    pub(super) fn on_frame(&mut self, client: ClientId, user: u32, body: &[u8], cx: &mut Cx<'_>) {
        let Request { id, ask, .. } = match request::decode(body) {
            Ok(request) => request,
            Err(why) => {
                let code = if why.is_version { Code::Version } else { Code::Malformed };
                cx.send(client, Message::error(why.id, refused(code, why.why.clone())));
                return cx.say(Fact::Misunderstood { why: Box::new(why) });
            }
        };
        let answered = match ask {
            Ask::Start(start) => self.start(client, id, user, start, cx),
            Ask::Stop { instance } => self.end(&instance, Cause::Stop, cx),
            Ask::Kill { instance } => self.end(&instance, Cause::Kill, cx),
            Ask::Signal { instance, signal } => self.signal(&instance, signal, cx),
            Ask::Renew { deadlines } => Ok(Some(self.renew(deadlines, cx))),
            Ask::List => {
                self.list(client, id, cx);
                Ok(None)
            }
            Ask::Watch => {
                self.list(client, id, cx);
                self.watchers.insert(client);
                Ok(None)
            }
            Ask::Forget { instance } => self.forget(&instance, cx),
        };
        match answered {
            Ok(Some(answer)) => cx.send(client, Message::answer(id, answer)),
            Ok(None) => {}
            Err(error) => cx.send(client, Message::error(Some(id), error)),
        }
    }

    fn start(
        &mut self,
        client: ClientId,
        id: u64,
        asked_by: u32,
        start: Box<Start>,
        cx: &mut Cx<'_>,
    ) -> Answered {
        if let Some(known) = self.instances.get_mut(&start.instance) {
            if known.start != start {
                let text = format!("{} is another start's already", start.instance);
                return Err(refused(Code::Used, text));
            }
            return match known.stage {
                Stage::Storing | Stage::Starting => {
                    known.waiting.push((client, id));
                    Ok(None)
                }
                Stage::Running | Stage::Following => {
                    let instance = Box::new(known.view());
                    Ok(Some(Answer::Started { instance, already: true }))
                }
                Stage::Stopping { .. } | Stage::Clearing { .. } | Stage::Ended => {
                    Err(refused(Code::Used, format!("{} has ended, or is ending", start.instance)))
                }
            };
        }
        if let Some(holder) = self.holders.get(&start.name) {
            let text = format!("{} is held by {holder}", start.name);
            return Err(Error { code: Code::NameHeld, text, holder: Some(holder.clone()) });
        }
        if self.instances.len() >= self.config.instances_max {
            let text = format!("{} instances are kept already", self.instances.len());
            return Err(refused(Code::TooMany, text));
        }
        let generation = self.config.generation;
        let boot = self.config.boot.clone();
        let mut instance = Instance::new(self.next_key, start, asked_by, generation);
        if instance.until.is_some_and(|until| until <= cx.now) {
            let text = format!("the deadline of {} is over already", instance.start.instance);
            return Err(refused(Code::Late, text));
        }
        instance.waiting.push((client, id));
        let start = instance.start.clone();
        let name = start.instance.clone();
        let intent = Intent { v: VERSION, boot, generation, asked_by, start };
        let body = record::encode(&intent);
        if mutant(Mutant::IntentLate) {
            cx.out.push(Output::Spawn { start: instance.start.clone() });
            instance.stage = Stage::Starting;
        }
        cx.out.push(Output::Write { instance: name, file: RecordFile::Intent, body });
        self.keep(instance);
        Ok(None)
    }

    /// Adds an instance to the table. If it has not ended, it also holds its name and has its deadline armed.
    pub(super) fn keep(&mut self, instance: Instance) {
        let (key, start) = (instance.key, &instance.start);
        self.next_key.0 = key.0 + 1;
        self.by_key.insert(key, start.instance.clone());
        if instance.stage != Stage::Ended {
            self.holders.insert(start.name.clone(), start.instance.clone());
        }
        if let Some(until) = instance.until.filter(|_| instance.stage != Stage::Ended) {
            self.timers.arm(Timer::Deadline(key), until);
        }
        self.instances.insert(start.instance.clone(), instance);
    }

    fn end(&mut self, id: &InstanceId, cause: Cause, cx: &mut Cx<'_>) -> Answered {
        let instance = self.instances.get(id).ok_or_else(|| unknown(id))?;
        if instance.stage != Stage::Ended {
            self.begin_end(id, cause, cx);
        }
        Ok(Some(Answer::Done))
    }

    fn signal(&self, id: &InstanceId, signal: i32, cx: &mut Cx<'_>) -> Answered {
        let instance = self.instances.get(id).ok_or_else(|| unknown(id))?;
        match instance.stage {
            Stage::Running | Stage::Stopping { .. } => {
                let instance = id.clone();
                cx.out.push(Output::Signal { instance, signal, all: false });
                Ok(Some(Answer::Done))
            }
            Stage::Storing
            | Stage::Starting
            | Stage::Following
            | Stage::Clearing { .. }
            | Stage::Ended => {
                Err(refused(Code::NotRunning, format!("{id} has no main process now")))
            }
        }
    }

    fn renew(&mut self, deadlines: BTreeMap<InstanceId, u64>, cx: &mut Cx<'_>) -> Answer {
        let mut refused = Vec::new();
        for (id, until) in deadlines {
            let known = self.instances.get_mut(&id);
            let Some(known) = known.filter(|known| known.is_renewable(cx.now)) else {
                refused.push(id);
                continue;
            };
            let until = Instant::from_micros(until);
            if known.until.is_some_and(|old| old < until) {
                known.until = Some(until);
                self.timers.arm(Timer::Deadline(known.key), until);
                let body = until.as_micros().to_string().into_bytes();
                cx.out.push(Output::Write { instance: id, file: RecordFile::Deadline, body });
            }
        }
        Answer::Renewed { refused }
    }

    fn list(&self, client: ClientId, id: u64, cx: &mut Cx<'_>) {
        let views: Vec<View> = self.instances.values().map(Instance::view).collect();
        let mut left = &views[..];
        loop {
            let (page, rest) = left.split_at(left.len().min(PAGE));
            let more = !rest.is_empty();
            let (keeper, instances) = (self.shown(), page.to_vec());
            let answer = Answer::Instances { keeper, instances, more };
            cx.send(client, Message::answer(id, answer));
            if !more {
                return;
            }
            left = rest;
        }
    }

    fn forget(&mut self, id: &InstanceId, cx: &mut Cx<'_>) -> Answered {
        let Some(known) = self.instances.get(id) else { return Ok(Some(Answer::Done)) };
        if known.stage != Stage::Ended {
            return Err(refused(Code::Lives, format!("{id} has not ended")));
        }
        self.drop_instance(id, cx);
        self.tell(&Event::Forgotten { instance: id.clone() }, cx);
        Ok(Some(Answer::Done))
    }

    /// Removes an instance from the table, and removes its files.
    pub(super) fn drop_instance(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        if let Some(instance) = self.instances.remove(id) {
            self.release(&instance);
            self.by_key.remove(&instance.key);
            cx.out.push(Output::Remove { instance: id.clone() });
        }
    }

    /// Frees the service name of an instance that has ended, and disarms its timers.
    pub(super) fn release(&mut self, instance: &Instance) {
        let Instance { key, start, .. } = instance;
        if self.holders.get(&start.name) == Some(&start.instance) {
            self.holders.remove(&start.name);
        }
        for timer in [Timer::Kill(*key), Timer::Deadline(*key), Timer::Look(*key)] {
            self.timers.disarm(timer);
        }
    }
}
