//! The probes of instances: whether they are ready, and whether they are well.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use super::State;
use super::context::{Cx, Slot, Timer};
use super::instance::{Live, Stage};
use crate::base::id::ExecId;
use crate::exec::{Cause, Command, Event, Spawn, Status, Stream};
use crate::services::fact::Fact;
use crate::services::model::class::Class;
use crate::services::model::name::TypeName;
use crate::services::model::record::{self as records};
use crate::services::model::scripted::Action;

/// The time limit of one probe of the readiness.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// The time that a helper has after SIGTERM.
const GRACE: Duration = Duration::from_millis(500);
/// The maximum of a helper's output that is read.
const OUTPUT_MAX: usize = 4096;
/// The maximum length of a helper's last line in a record.
const LINE_MAX: usize = 200;

impl State {
    /// Arms the timer of the next regular check.
    pub(super) fn arm_check(&self, cx: &mut Cx<'_>, kind: &TypeName) {
        let Some(row) = self.instances.get(kind) else { return };
        // What the instance has told counts, whatever a check says.
        let has_told = row.seen.is_announced() || row.seen.has_told_failure();
        let is_due = |live: &&Live| live.probe.is_none() && !has_told;
        let Some(live) = row.live.as_ref().filter(is_due) else { return };
        if let Some(pause) = live.pause() {
            cx.arm(Timer::Probe(row.slot), pause);
        }
    }

    /// Starts the helper of the probe that is due.
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let Some(kind) = self.by_slot.get(&slot).cloned() else { return };
        let id = self.next_helper.mint();
        let Some(live) = self.instances.get_mut(&kind).and_then(|row| row.live.as_mut()) else {
            return;
        };
        let Some(launch) = live.launch.as_ref().filter(|_| live.probe.is_none()) else { return };
        if launch.scripted.is_some() {
            if live.stage == Stage::Up {
                self.act(cx, &kind, Action::Monitor);
            }
            return;
        }
        let due = match live.stage {
            Stage::Warming => launch.ready.as_ref().map(|probe| (probe, READY_WITHIN)),
            Stage::Up => {
                let check = launch.check.as_ref();
                check.map(|check| (&check.probe, Duration::from_millis(check.timeout_ms)))
            }
            Stage::Naming | Stage::Asked | Stage::Ending => None,
        };
        let Some((probe, deadline)) = due else { return };
        let (argv, origin) = probe.helper(&self.config.program);
        live.probe = Some(id);
        live.said = "".into();
        self.helpers.insert(id, kind);
        let (env, stdin, grace, output_max) = ([].into(), Bytes::new(), GRACE, OUTPUT_MAX);
        let leaves_daemons = false;
        let spawn =
            Spawn { id, origin, argv, env, stdin, deadline, grace, output_max, leaves_daemons };
        cx.emit(Command::Spawn(Box::new(spawn)));
    }

    pub(super) fn on_exec(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Started { .. } => {}
            Event::Output { id, stream: Stream::Stderr, bytes } => {
                if let Some(kind) = self.helpers.get(&id)
                    && let Some(live) =
                        self.instances.get_mut(kind).and_then(|row| row.live.as_mut())
                {
                    live.said = last_line(&bytes).unwrap_or_else(|| live.said.clone());
                    live.output.err.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
            Event::Output { id, stream: Stream::Stdout, bytes } => {
                if let Some(kind) = self.helpers.get(&id)
                    && let Some(live) =
                        self.instances.get_mut(kind).and_then(|row| row.live.as_mut())
                {
                    live.output.out.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
            Event::Refused { id, why } => {
                let why = alloc::format!("the program was not started: {why}");
                if let Some((kind, action)) = self.take_action(id) {
                    return self.on_acted(cx, &kind, action, Err(why));
                }
                self.on_probed(cx, id, Err(why));
            }
            Event::Exited { id, status, cause, .. } => {
                if let Some((kind, action)) = self.take_action(id) {
                    return self.on_acted(cx, &kind, action, Ok((status, cause)));
                }
                let result = match (status, cause) {
                    (Status::Code(0), Cause::Itself) => Ok(()),
                    (_, Cause::Deadline) => Err("no result in time".into()),
                    (status, Cause::Itself | Cause::Killed) => Err(alloc::format!("{status}")),
                };
                self.on_probed(cx, id, result);
            }
        }
    }

    /// Removes a helper that was an action. Returns the type of its instance, and the action.
    fn take_action(&mut self, id: ExecId) -> Option<(TypeName, Action)> {
        let kind = self.helpers.get(&id)?.clone();
        let live = self.instances.get_mut(&kind)?.live.as_mut();
        let live = live.filter(|live| live.probe == Some(id))?;
        let action = live.action.take()?;
        live.probe = None;
        self.helpers.remove(&id);
        Some((kind, action))
    }

    fn on_probed(&mut self, cx: &mut Cx<'_>, id: ExecId, result: Result<(), String>) {
        let Some(kind) = self.helpers.remove(&id) else { return };
        let now = cx.now().mono;
        let Some(row) = self.instances.get_mut(&kind) else { return };
        let slot = row.slot;
        let Some(live) = row.live.as_mut().filter(|live| live.probe == Some(id)) else { return };
        live.probe = None;
        let said = core::mem::take(&mut live.said);
        match (live.stage, result) {
            (Stage::Warming, Ok(())) => return self.on_ready(cx, &kind),
            (Stage::Up, Ok(())) if row.seen.state == records::State::Failed => {
                row.on_ready(now);
                cx.emit(Fact::Recovered { kind: kind.clone() });
            }
            (Stage::Up, Err(why)) if row.seen.state != records::State::Failed => {
                let about = if said.is_empty() { "" } else { ": " };
                let why = alloc::format!("the check failed: {why}{about}{said}");
                row.on_unwell(now, Class::Check, &why);
                cx.emit(Fact::Failed { kind: kind.clone(), why: why.into() });
            }
            (Stage::Warming, Err(_)) => {
                live.said = said;
                if let Some(pause) = live.pause() {
                    cx.arm(Timer::Probe(slot), pause);
                }
                return;
            }
            (Stage::Up | Stage::Naming | Stage::Asked | Stage::Ending, _) => {}
        }
        self.arm_check(cx, &kind);
    }

    /// Handles the end of the time within which an instance has to be ready.
    pub(super) fn on_ready_over(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let Some(kind) = self.by_slot.get(&slot).cloned() else { return };
        let now = cx.now().mono;
        let Some(row) = self.instances.get_mut(&kind) else { return };
        if row.seen.is_announced() {
            // It has announced its end, and lives.
            return self.end(cx, &kind);
        }
        let Some(live) = row.live.as_mut().filter(|live| live.stage == Stage::Warming) else {
            return;
        };
        let about = if live.said.is_empty() { "" } else { ": " };
        let why = alloc::format!("it was not ready in time{about}{}", live.said);
        let probe = live.probe.take();
        // It counts as up, so that the coordinator's next word replaces it.
        live.stage = Stage::Up;
        row.on_unwell(now, Class::NotReady, &why);
        cx.emit(Fact::Failed { kind, why: why.into() });
        self.stop_probing(cx, slot, probe);
    }

    /// Ends the probes of an instance: their results do not matter any more.
    pub(super) fn stop_probing(&mut self, cx: &mut Cx<'_>, slot: Slot, probe: Option<ExecId>) {
        cx.disarm(Timer::Probe(slot));
        cx.disarm(Timer::Ready(slot));
        if let Some(id) = probe
            && self.helpers.remove(&id).is_some()
        {
            cx.emit(Command::Kill { id });
        }
    }
}

/// Returns the last line of some output, without control characters.
fn last_line(bytes: &[u8]) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let line: String = line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect();
    Some(line.into())
}
