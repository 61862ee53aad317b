//! Instances without a process of the keeper: short programs start, monitor and stop them.
//!
//! Before a start the instance is looked at: one that runs already is taken over. An instance that has failed
//! is stopped before it is started again. A failed stop is not repeated before the coordinator says something
//! new.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use super::State;
use super::context::{Cx, Timer};
use super::instance::Stage;
use crate::base::time::Instant;
use crate::exec::{Cause, Command, Spawn, Status};
use crate::services::fact::Fact;
use crate::services::model::class::Class;
use crate::services::model::name::TypeName;
use crate::services::model::record::{Reason, State as Seen};
use crate::services::model::scripted::{Action, CommandLine, Meaning, Scripted};

/// The time that a program has after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// The maximum of a program's output that is read.
const OUTPUT_MAX: usize = 16 << 10;

impl State {
    /// Starts the program of an action.
    pub(super) fn act(&mut self, cx: &mut Cx<'_>, kind: &TypeName, action: Action) {
        let id = self.next_helper.mint();
        let Some(row) = self.instances.get_mut(kind) else { return };
        let Some(live) = &mut row.live else { return };
        let Some(launch) = &live.launch else { return };
        let Some(scripted) = &launch.scripted else { return };
        let deadline = match action {
            Action::Look | Action::Monitor => Duration::from_millis(scripted.timeout_ms),
            Action::Start => launch.start_within(),
            Action::Stop => Duration::from_millis(scripted.stop_within_ms),
        };
        let limit_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let CommandLine { argv, env, origin } =
            scripted.script.command(action, kind.as_str(), limit_ms);
        live.probe = Some(id);
        live.action = Some(action);
        live.output = Default::default();
        self.helpers.insert(id, kind.clone());
        let (stdin, grace, output_max) = (Bytes::new(), GRACE, OUTPUT_MAX);
        // Some agents start their daemon in the background, and end.
        let leaves_daemons = action == Action::Start;
        let spawn =
            Spawn { id, origin, argv, env, stdin, deadline, grace, output_max, leaves_daemons };
        cx.emit(Command::Spawn(Box::new(spawn)));
    }

    /// Handles the end of an action.
    pub(super) fn on_acted(
        &mut self,
        cx: &mut Cx<'_>,
        kind: &TypeName,
        action: Action,
        result: Result<(Status, Cause), String>,
    ) {
        let now = cx.now().mono;
        let Some(row) = self.instances.get_mut(kind) else { return };
        let Some(live) = &mut row.live else { return };
        let Some(Scripted { script, .. }) =
            live.launch.as_ref().and_then(|of| of.scripted.as_ref())
        else {
            return;
        };
        let said = core::mem::take(&mut live.output);
        let what = action.name();
        let (meaning, why) = match result {
            Ok((Status::Code(code), Cause::Itself)) => {
                (script.meaning(action, code, &said), script.reason(action, code, &said))
            }
            Ok((_, Cause::Deadline)) => {
                (failed(action), alloc::format!("{what}: no result in time"))
            }
            Ok((status, _)) => (failed(action), alloc::format!("{what}: {status}")),
            Err(why) => (failed(action), alloc::format!("{what}: {why}")),
        };
        match (action, meaning) {
            (Action::Look, Meaning::NotRunning) => return self.act(cx, kind, Action::Start),
            (Action::Start, Meaning::Good(_)) => return self.on_up(cx, kind, None),
            (Action::Look | Action::Monitor, Meaning::Good(pid)) => {
                return self.on_up(cx, kind, pid);
            }
            (Action::Look | Action::Monitor, Meaning::Degraded) => {
                self.on_up(cx, kind, None);
                return self.on_degraded(kind, &why);
            }
            (Action::Stop, Meaning::Good(_) | Meaning::NotRunning) => {
                let instance = live.id.clone();
                row.live = None;
                row.seen.pid = None;
                row.on_settled();
                return cx.emit(Fact::Stopped { kind: kind.clone(), instance });
            }
            (Action::Stop, Meaning::Failed(class)) => {
                live.stage = Stage::Up;
                row.stop_failed = row.wanted_index;
                self.on_failed(cx, kind, class, &why, now);
            }
            (Action::Stop | Action::Start, Meaning::Degraded) => {}
            (Action::Monitor, Meaning::NotRunning) => {
                self.on_failed(cx, kind, Class::Exit, &why, now)
            }
            (Action::Start, Meaning::NotRunning) => {
                self.on_failed(cx, kind, Class::NotStarted, &why, now);
            }
            (_, Meaning::Failed(class)) => self.on_failed(cx, kind, class, &why, now),
        }
        self.arm_check(cx, kind);
    }

    /// The instance runs.
    fn on_up(&mut self, cx: &mut Cx<'_>, kind: &TypeName, pid: Option<u32>) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        // One that could not be stopped is failed, whatever its monitor says.
        if matches!(&row.seen.reason, Some(reason) if reason.class == Class::NotStopped) {
            return self.arm_check(cx, kind);
        }
        row.seen.pid = pid.or(row.seen.pid);
        let is_new = row.seen.state != Seen::Running;
        if is_new {
            self.on_ready(cx, kind);
        } else {
            self.arm_check(cx, kind);
        }
    }

    fn on_degraded(&mut self, kind: &TypeName, why: &str) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        row.seen.state = Seen::Degraded;
        row.seen.reason = Some(Reason { class: Class::Check, text: why.into() });
    }

    fn on_failed(
        &mut self,
        cx: &mut Cx<'_>,
        kind: &TypeName,
        class: Class,
        why: &str,
        now: Instant,
    ) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        if let Some(live) = &mut row.live {
            // It is stopped before anything else, since nobody knows what is left of it.
            live.stage = Stage::Up;
        }
        // The first reason is the one that matters, unless it is not even possible to stop it.
        let is_new = row.seen.state != Seen::Failed || class == Class::NotStopped;
        if is_new {
            row.on_unwell(now, class, why);
        }
        row.seen.pid = None;
        let slot = row.slot;
        cx.disarm(Timer::Ready(slot));
        if is_new {
            cx.emit(Fact::Failed { kind: kind.clone(), why: why.into() });
        }
    }
}

/// Returns the meaning of an action without a result.
const fn failed(action: Action) -> Meaning {
    Meaning::Failed(match action {
        Action::Start => Class::NotStarted,
        Action::Look | Action::Monitor => Class::Check,
        Action::Stop => Class::NotStopped,
    })
}
