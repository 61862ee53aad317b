//! The handlers of an instance's events from its start to its end.

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
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::exec::Status;

/// The time after which a kill is repeated. A killed process that still exists hangs in a system call.
const KILLED_AGAIN: Duration = Duration::from_secs(5);

/// The maximum time for killing remaining processes and checking for them.
const CLEARED_WITHIN: Duration = Duration::from_secs(5);

/// The first and the longest delay between a kill and the check for remaining processes. The delay doubles at
/// each check.
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

    /// Refuses a start of which no process exists. The instance is removed, and its id may be used again.
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

    /// Begins to stop an instance, or stops it sooner.
    pub(super) fn begin_end(&mut self, id: &InstanceId, cause: Cause, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match instance.stage {
            // The instance is stopped as soon as it has a main process.
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
                // A deadline may leave less time than the stop in progress.
                let kill_at = instance.kill_at(cause, cx.now);
                if cause == Cause::Deadline {
                    self.timers.arm_no_later(Timer::Kill(instance.key), kill_at);
                }
            }
            Stage::Clearing { .. } | Stage::Ended => {}
        }
    }

    /// Stops a running instance. The stop record has been output for writing before this call.
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
        if !mutant(Mutant::KillForgotten) {
            cx.out.push(Output::Kill { instance: id.clone() });
        }
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
            // An instance that is being stopped keeps its time limit.
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

    /// Kills the remaining processes of an instance whose main process has ended.
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
        // The kill is repeated, since the processes may have started others in the meantime.
        cx.out.push(Output::Kill { instance: id.clone() });
    }

    /// Ends an instance: the end is written first, and then reported.
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
        if !mutant(Mutant::EndUntold) {
            self.tell(&Event::Exited(view), cx);
        }
        // The release comes last because the kernel needs some time to remove a cgroup. No client has to wait
        // for it.
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
        // An instance that is not counted has no deadline, whatever its files contain.
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

    /// Handles the unobserved end of an adopted instance's main process while other processes remain.
    fn on_lost_main(&mut self, id: &InstanceId, cx: &mut Cx<'_>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.status = Some(Status::Unknown);
        // It is unknown whether the main process succeeded or failed. But the processes that it started were
        // found alive.
        if instance.start.forks && instance.cause.is_none() {
            instance.stage = Stage::Following;
            cx.out.push(Output::Follow { instance: id.clone() });
        } else {
            self.clear(id, cx);
        }
    }
}

impl Instance {
    /// Returns the time at which a stop that begins now, for this cause, must have ended.
    fn kill_at(&self, cause: Cause, now: Instant) -> Instant {
        let grace = self.start.counted.map_or(0, |counted| counted.grace_ms);
        match cause {
            Cause::Kill => now,
            // The time limit counts from the deadline, even if the keeper handles the deadline late.
            Cause::Deadline => {
                self.until.unwrap_or(now).after(Duration::from_millis(grace)).max(now)
            }
            Cause::Itself | Cause::Stop | Cause::Reboot | Cause::NotBegun => {
                now.after(self.start.stop.kill_after())
            }
        }
    }

    /// Returns whether the deadline may be moved: the instance is counted, runs, and its deadline has not
    /// passed.
    pub(super) fn is_renewable(&self, now: Instant) -> bool {
        let lives = match self.stage {
            Stage::Storing | Stage::Starting | Stage::Running | Stage::Following => true,
            Stage::Stopping { .. } | Stage::Clearing { .. } | Stage::Ended => false,
        };
        lives && self.until.is_some_and(|until| until > now)
    }
}
