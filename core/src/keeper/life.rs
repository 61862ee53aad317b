//! What happens to instances, and what follows.

use alloc::boxed::Box;
use core::time::Duration;

use super::answer::{Answer, Cause, Code, Error, Event, Message};
use super::fact::Fact;
use super::instance::{Instance, Stage};
use super::name::InstanceId;
use super::process::Process;
use super::record::{self, EndRecord, Found, Life, RecordFile, Recovered, StopRecord};
use super::{Cx, Keeper, Output, Timer};
use crate::base::errno::Errno;
use crate::base::time::Instant;
use crate::exec::Status;

/// A process that has been killed and is there still hangs in a system call: it is killed again after this time.
const KILLED_AGAIN: Duration = Duration::from_secs(5);

/// How long what is left of an instance is killed and looked at.
const CLEARED_WITHIN: Duration = Duration::from_secs(5);

/// How long after a kill what is left is looked at first; each time twice as long, up to the second.
const LOOKS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(100)];

impl Keeper {
    pub(super) fn on_stored(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.stage == Stage::Storing {
            instance.stage = Stage::Starting;
            cx.out.push(Output::Spawn { start: instance.start.clone() });
        }
    }

    pub(super) fn on_not_stored(
        &mut self,
        id: &InstanceId,
        file: RecordFile,
        why: Errno,
        cx: &mut Cx<'_>,
    ) {
        cx.say(Fact::NotStored { instance: id.clone(), why });
        if file == RecordFile::Intent {
            self.refuse_start(
                id,
                Code::NotStored,
                &alloc::format!("the intent cannot be written: {why}"),
                cx,
            );
        }
    }

    pub(super) fn on_not_started(&mut self, id: &InstanceId, why: Box<str>, cx: &mut Cx<'_>) {
        self.refuse_start(id, Code::NotStarted, &why, cx);
        cx.say(Fact::NotStarted { instance: id.clone(), why });
    }

    /// Nothing has been started: nothing of it is kept, and its name may be used again.
    fn refuse_start(&mut self, id: &InstanceId, code: Code, text: &str, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !matches!(instance.stage, Stage::Storing | Stage::Starting) {
            return;
        }
        for (client, request) in core::mem::take(&mut instance.waiting) {
            let error = Error { code, text: text.into(), holder: None };
            cx.send(client, Message::error(Some(request), error));
        }
        self.drop_instance(id, cx);
    }

    pub(super) fn on_started(&mut self, id: &InstanceId, process: Process, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.stage != Stage::Starting {
            return;
        }
        instance.stage = Stage::Running;
        instance.process = Some(process);
        let asked_by = instance.asked_by;
        let view = Box::new(instance.view());
        for (client, request) in core::mem::take(&mut instance.waiting) {
            let answer = Answer::Started { instance: view.clone(), already: false };
            cx.send(client, Message::answer(request, answer));
        }
        let asked_to_end = instance.cause.take();
        cx.say(Fact::Started { instance: id.clone(), process, asked_by });
        self.tell(&Event::Started(view), cx);
        if let Some(cause) = asked_to_end {
            self.begin_end(id, cause, cx);
        }
    }

    /// Begins to end an instance, or ends it faster.
    pub(super) fn begin_end(&mut self, id: &InstanceId, cause: Cause, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match instance.stage {
            // It is ended as soon as it has a main process.
            Stage::Storing | Stage::Starting | Stage::Following => {
                instance.cause = instance.cause.filter(|_| cause != Cause::Kill).or(Some(cause));
            }
            Stage::Running => {
                let kill_at = instance.kill_at(cause, cx.now);
                let stop = StopRecord { cause, kill_at_us: kill_at.as_micros() };
                let (file, body) = (RecordFile::Stop, record::encode(&stop));
                cx.out.push(Output::Write { instance: id.clone(), file, body });
                self.end_by(id, cause, kill_at, cx);
            }
            Stage::Stopping { .. } if cause == Cause::Kill => {
                instance.cause = Some(cause);
                self.timers.arm(Timer::Kill(instance.key), cx.now);
            }
            Stage::Stopping { .. } => {
                // A deadline may leave less time than the stop that is under way.
                let kill_at = instance.kill_at(cause, cx.now);
                if cause == Cause::Deadline {
                    self.timers.arm_no_later(Timer::Kill(instance.key), kill_at);
                }
            }
            Stage::Clearing { .. } | Stage::Ended => {}
        }
    }

    /// Ends one that runs; what was said about that is on the disk.
    fn end_by(&mut self, id: &InstanceId, cause: Cause, kill_at: Instant, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.cause = Some(cause);
        instance.stage = Stage::Stopping { kills: 0 };
        self.timers.arm(Timer::Kill(instance.key), kill_at);
        let stop = &instance.start.stop;
        let (name, signal) = (id.clone(), stop.signal);
        if kill_at > cx.now {
            cx.out.push(if stop.command.is_empty() {
                Output::Signal { instance: name, signal, all: true }
            } else {
                Output::RunStop { instance: name }
            });
        }
        let view = Box::new(instance.view());
        cx.say(Fact::Stopping { instance: id.clone(), cause: cause.words() });
        self.tell(&Event::Stopping(view), cx);
    }

    pub(super) fn on_stop_over(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Stage::Stopping { kills } = &mut instance.stage else { return };
        *kills = kills.saturating_add(1);
        match *kills {
            1 if instance.cause != Some(Cause::Kill) => {
                cx.out.push(Output::Fact(Fact::Killed { instance: id.clone() }));
            }
            2 => cx.out.push(Output::Fact(Fact::Unkillable { instance: id.clone() })),
            _ => {}
        }
        cx.out.push(Output::Kill { instance: id.clone() });
        self.timers.arm(Timer::Kill(instance.key), cx.now.after(KILLED_AGAIN));
    }

    pub(super) fn on_deadline_over(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        cx.say(Fact::DeadlineOver { instance: id.clone() });
        self.begin_end(id, Cause::Deadline, cx);
    }

    pub(super) fn on_ended(
        &mut self,
        id: &InstanceId,
        status: Status,
        left: bool,
        cx: &mut Cx<'_>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !matches!(instance.stage, Stage::Running | Stage::Stopping { .. }) {
            return;
        }
        let goes_on = left && instance.goes_on(status);
        instance.status = Some(status);
        if goes_on {
            // What is being stopped has its time for it.
            if instance.stage == Stage::Running {
                instance.stage = Stage::Following;
            }
            cx.out.push(Output::Follow { instance: id.clone() });
        } else if left {
            self.clear(id, cx);
        } else {
            self.finish(id, cx);
        }
    }

    pub(super) fn on_followed(
        &mut self,
        id: &InstanceId,
        process: Option<Process>,
        cx: &mut Cx<'_>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !matches!(instance.stage, Stage::Following | Stage::Stopping { .. }) {
            return;
        }
        let Some(process) = process else { return self.finish(id, cx) };
        instance.process = Some(process);
        cx.say(Fact::Followed { instance: id.clone(), process });
        if instance.stage == Stage::Following {
            instance.stage = Stage::Running;
            if let Some(cause) = instance.cause.take() {
                self.begin_end(id, cause, cx);
            }
        }
    }

    /// Kills what is left of an instance whose main process has ended.
    fn clear(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let [delay, _] = LOOKS;
        instance.stage = Stage::Clearing { until: cx.now.after(CLEARED_WITHIN), delay };
        self.timers.disarm(Timer::Kill(instance.key));
        self.timers.arm(Timer::Look(instance.key), cx.now.after(delay));
        cx.out.push(Output::Kill { instance: id.clone() });
    }

    pub(super) fn on_looked(&mut self, id: &InstanceId, left: bool, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Stage::Clearing { until, delay } = &mut instance.stage else { return };
        if !left {
            return self.finish(id, cx);
        }
        if *until <= cx.now {
            instance.left = true;
            cx.say(Fact::Unkillable { instance: id.clone() });
            return self.finish(id, cx);
        }
        *delay = (*delay * 2).min(LOOKS[1]);
        self.timers.arm(Timer::Look(instance.key), cx.now.after(*delay));
        // What it starts while it is killed is killed, too.
        cx.out.push(Output::Kill { instance: id.clone() });
    }

    /// It has ended: that is written, and then told.
    fn finish(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(mut instance) = self.instances.remove(id) else { return };
        let status = *instance.status.get_or_insert(Status::Unknown);
        let cause = *instance.cause.get_or_insert(Cause::Itself);
        instance.stage = Stage::Ended;
        let end = EndRecord { status, cause, left: instance.left, dropped: instance.dropped };
        let body = record::encode(&end);
        self.release(&instance);
        let view = Box::new(instance.view());
        self.instances.insert(id.clone(), instance);
        cx.out.push(Output::Write { instance: id.clone(), file: RecordFile::Ended, body });
        cx.say(Fact::Exited { instance: id.clone(), status, cause: cause.words() });
        self.tell(&Event::Exited(view), cx);
        // Nobody waits for that: to remove a cgroup takes the kernel a while.
        cx.out.push(Output::Release { instance: id.clone() });
    }

    pub(super) fn on_dropped(&mut self, id: InstanceId, bytes: u64, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.dropped = instance.dropped.saturating_add(bytes);
        cx.say(Fact::OutputDropped { instance: id.clone(), bytes });
        self.tell(&Event::OutputDropped { instance: id, bytes }, cx);
    }

    pub(super) fn on_found(&mut self, found: &Found, cx: &mut Cx<'_>) {
        let recovered = match found.read(&self.config.boot) {
            Ok(recovered) => recovered,
            Err(why) => {
                let (path, why) = (found.path.clone(), why.into());
                return cx.say(Fact::Unreadable { path, why });
            }
        };
        let Recovered { intent, life, stop, until_us } = recovered;
        let id = intent.start.instance.clone();
        let mut instance =
            Instance::new(self.next_key, intent.start, intent.asked_by, intent.generation);
        instance.adopted = true;
        // One that is not counted has none, whatever was written.
        instance.until = instance
            .until
            .max(until_us.map(Instant::from_micros).filter(|_| instance.until.is_some()));
        instance.process = match &life {
            Life::Alive(process) => Some(*process),
            Life::MainGone(process) | Life::Over { process, .. } => *process,
        };
        let start = instance.start.clone();
        match life {
            Life::Alive(process) => {
                instance.stage = Stage::Running;
                self.keep(instance);
                cx.say(Fact::Adopted { instance: id.clone(), process });
                cx.out.push(Output::Adopt { start, process: Some(process) });
                if let Some(stop) = stop {
                    let kill_at = Instant::from_micros(stop.kill_at_us);
                    self.end_by(&id, stop.cause, kill_at, cx);
                }
            }
            Life::MainGone(_) => {
                instance.stage = Stage::Running;
                instance.cause = stop.map(|stop| stop.cause);
                self.keep(instance);
                cx.out.push(Output::Adopt { start, process: None });
                self.on_lost_main(&id, cx);
            }
            Life::Over { end, is_new, .. } => {
                instance.stage = Stage::Ended;
                instance.status = Some(end.status);
                instance.cause = Some(end.cause);
                (instance.left, instance.dropped) = (end.left, end.dropped);
                if is_new {
                    let body = record::encode(&end);
                    let file = RecordFile::Ended;
                    cx.out.push(Output::Write { instance: id.clone(), file, body });
                    let (status, cause) = (end.status, end.cause.words());
                    cx.say(Fact::Exited { instance: id, status, cause });
                }
                self.keep(instance);
            }
        }
    }

    /// The main process of an adopted instance has ended unseen, and something of it is there.
    fn on_lost_main(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.status = Some(Status::Unknown);
        // Whether its program was done or has failed nobody knows: what it has started has been seen to go on.
        if instance.start.forks && instance.cause.is_none() {
            instance.stage = Stage::Following;
            cx.out.push(Output::Follow { instance: id.clone() });
        } else {
            self.clear(id, cx);
        }
    }
}

impl Instance {
    /// When an end that begins now, for this reason, has to be over.
    fn kill_at(&self, cause: Cause, now: Instant) -> Instant {
        let grace = self.start.counted.map_or(0, |counted| counted.grace_ms);
        match cause {
            Cause::Kill => now,
            // It counts from the deadline, whenever the keeper comes to it.
            Cause::Deadline => {
                self.until.unwrap_or(now).after(Duration::from_millis(grace)).max(now)
            }
            Cause::Itself | Cause::Stop | Cause::Reboot | Cause::NotBegun => {
                now.after(self.start.stop.kill_after())
            }
        }
    }

    /// Whether its deadline may be moved: it is counted, runs, and is not late.
    pub(super) fn is_renewable(&self, now: Instant) -> bool {
        let lives = match self.stage {
            Stage::Storing | Stage::Starting | Stage::Running | Stage::Following => true,
            Stage::Stopping { .. } | Stage::Clearing { .. } | Stage::Ended => false,
        };
        lives && self.until.is_some_and(|until| until > now)
    }
}
