//! One instance of this node: what is wanted, what is seen, and what Consul holds of it.
//!
//! ```text
//! Naming ─▶ Asked ─▶ Warming ─▶ Up ─▶ (a wanted stop) Ending ─▶ none
//!    └ name held └ refused └ not ready in time: it still lives   ▲
//!                                    └ has ended by itself ──────┘
//! ```

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use super::context::Slot;
use crate::base::id::ExecId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::exec::Status;
use crate::keeper::answer::{self as keeper, Cause, View};
use crate::keeper::name::{InstanceId, ServiceName};
use crate::services::model::class::Class;
use crate::services::model::launch::Launch;
use crate::services::model::record::{Observed, Reason, State, Want, Wanted};
use crate::services::model::scripted::{Action, ActionOutput};

/// The row of one type on this node.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) slot: Slot,
    /// What the coordinator wants, and the index of that record. Zero means that there is none.
    pub(super) wanted: Option<Wanted>,
    pub(super) wanted_index: u64,
    /// What Consul holds of the observation, and its index.
    pub(super) stored: Observed,
    pub(super) stored_index: u64,
    /// The key of the event about the last written observation that was one.
    pub(super) event: Option<Box<str>>,
    /// What has been seen.
    pub(super) seen: Observed,
    pub(super) live: Option<Live>,
    /// The index of the wanted record whose stop has failed. It is not tried again for that one.
    pub(super) stop_failed: u64,
    /// What is wanted, and what was seen, is a record that cannot be used: it is damaged, or of a later
    /// version. This hax does nothing then.
    pub(super) is_wanted_frozen: bool,
    pub(super) is_observed_frozen: bool,
}

/// An instance that lives, or is about to.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: InstanceId,
    /// The service name that it holds.
    pub(super) name: ServiceName,
    pub(super) serial: u64,
    pub(super) stage: Stage,
    pub(super) launch: Option<Box<Launch>>,
    /// The secret by which it proves itself, if it has one.
    pub(super) capability: Option<Box<str>>,
    /// Whether it has told that it is ready.
    pub(super) has_told_ready: bool,
    /// The time since which it is ready.
    pub(super) ready_at: Option<Instant>,
    /// The helper of the probe that runs.
    pub(super) probe: Option<ExecId>,
    /// The last line of that helper's errors.
    pub(super) said: Box<str>,
    /// The action of the helper, and its output, for a scripted instance.
    pub(super) action: Option<Action>,
    pub(super) output: ActionOutput,
}

/// The stage of a living instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its name is being acquired.
    Naming,
    /// The keeper is asked to start it.
    Asked,
    /// It has been started and is not ready yet.
    Warming,
    /// It has been ready.
    Up,
    /// The keeper is asked to stop it.
    Ending,
}

/// The next step of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to be done.
    None,
    /// It is to be started with this serial number.
    Begin(u64),
    /// The living instance is to be stopped.
    End,
    /// Nothing lives, and nothing is to live: the coordinator is to know.
    Settle,
}

impl Instance {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            wanted: None,
            wanted_index: 0,
            stored: Observed::default(),
            stored_index: 0,
            event: None,
            seen: Observed::default(),
            live: None,
            stop_failed: 0,
            is_wanted_frozen: false,
            is_observed_frozen: false,
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.is_wanted_frozen || self.is_observed_frozen
    }

    /// Returns the next step. It depends on what is wanted and what lives alone, so it may be asked for at
    /// any time.
    pub(super) fn step(&self) -> Step {
        let Some(wanted) = self.wanted.as_ref().filter(|_| !self.is_frozen()) else {
            // A record that is missing says nothing: it may have been lost with a snapshot.
            return Step::None;
        };
        match (&self.live, wanted.want) {
            (Some(live), _)
                if matches!(live.stage, Stage::Naming | Stage::Asked | Stage::Ending) =>
            {
                Step::None
            }
            (Some(live), Want::Running) if live.serial >= wanted.serial => Step::None,
            (Some(_), _) if self.stop_failed > 0 && self.stop_failed == self.wanted_index => {
                Step::None
            }
            (Some(_), Want::Running | Want::Stopped | Want::Resting) => Step::End,
            (None, Want::Running)
                if self.seen.serial < wanted.serial || mutant(Mutant::StartAgain) =>
            {
                Step::Begin(wanted.serial)
            }
            (None, Want::Stopped) if self.seen.state != State::Absent => Step::Settle,
            // The start was taken back before it was carried out.
            (None, Want::Stopped | Want::Resting) if self.seen.serial < wanted.serial => {
                Step::Settle
            }
            (None, Want::Running | Want::Stopped | Want::Resting) => Step::None,
        }
    }

    /// Returns whether the instance keeps its service name: it lives, or it is to be started again.
    pub(super) fn keeps_name(&self) -> bool {
        let is_wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.want == Want::Running);
        let gave_way = matches!(&self.seen.reason, Some(reason) if reason.class == Class::NameHeld);
        self.live.is_some() || self.is_frozen() || (is_wanted && !gave_way)
    }

    /// Returns whether the keeper's instance of this id is the living one.
    pub(super) fn is(&self, id: &InstanceId) -> bool {
        self.live.as_ref().is_some_and(|live| live.id == *id)
    }

    /// Returns whether the observation has to be written.
    pub(super) fn is_dirty(&self) -> bool {
        !self.is_frozen() && !self.seen.says_as(&self.stored)
    }

    /// Returns whether the coordinator is to be told of the observation.
    pub(super) fn is_event(&self) -> bool {
        let is_news = !self.is_frozen() && self.seen.is_news_to(&self.stored);
        match self.seen.state {
            State::Absent | State::Running | State::Degraded | State::Failed => is_news,
            // A start that is asked for from now on is not under way.
            State::Stopping => is_news && self.seen.is_announced(),
            State::Starting => false,
        }
    }

    // ---- what is seen -----------------------------------------------------------------------------

    pub(super) fn on_begin(
        &mut self,
        (id, name): (InstanceId, ServiceName),
        serial: u64,
        stage: Stage,
        boot: &str,
    ) {
        let launch = self.wanted.as_ref().map(|wanted| wanted.launch.clone());
        self.seen = Observed {
            state: State::Starting,
            serial,
            instance: Some(id.clone()),
            revision: launch.as_ref().map(|launch| launch.revision.clone()),
            boot: boot.into(),
            ..Observed::default()
        };
        self.live = Some(Live::new((id, name), serial, stage, launch));
    }

    /// The start was never carried out, so it is carried out again.
    pub(super) fn on_not_begun(&mut self) {
        if let Some(live) = self.live.take() {
            self.seen.serial = live.serial.saturating_sub(1);
            self.on_settled();
        }
    }

    pub(super) fn on_started(&mut self, view: &View) {
        let Some(live) = self.live.as_mut().filter(|live| live.stage == Stage::Asked) else {
            return;
        };
        live.stage = Stage::Warming;
        self.seen.pid = view.pid;
    }

    /// The instance is ready, or is well again.
    pub(super) fn on_ready(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        live.stage = Stage::Up;
        live.ready_at.get_or_insert(now);
        (self.seen.state, self.seen.reason) = (State::Running, None);
        self.seen.lived_ms = None;
    }

    /// The instance lives, but is not as it should be.
    pub(super) fn on_unwell(&mut self, now: Instant, class: Class, text: &str) {
        self.seen.lived_ms = self.lived(now);
        self.seen.state = State::Failed;
        self.seen.reason = Some(Reason { class, text: text.into() });
    }

    /// Nothing lives: the start was refused.
    pub(super) fn on_refused(&mut self, class: Class, text: &str) {
        self.live = None;
        self.let_go();
        (self.seen.state, self.seen.pid, self.seen.lived_ms) = (State::Failed, None, None);
        self.seen.reason = Some(Reason { class, text: text.into() });
    }

    pub(super) fn on_ending(&mut self) {
        if let Some(live) = &mut self.live {
            live.stage = Stage::Ending;
            self.seen.state = State::Stopping;
        }
    }

    /// The instance has ended. Returns whether that was wanted.
    pub(super) fn on_ended(&mut self, now: Instant, view: &View) -> bool {
        let lived = self.lived(now);
        let was_wanted = self.live.take().is_some_and(|live| live.stage == Stage::Ending);
        self.seen.pid = None;
        self.seen.lived_ms = lived;
        self.let_go();
        if was_wanted || self.seen.is_announced() {
            self.on_settled();
            return was_wanted;
        }
        let reason = reason_of(view);
        self.seen.state = if reason.class == Class::Clean { State::Absent } else { State::Failed };
        self.seen.reason = Some(reason);
        false
    }

    /// Nothing lives, and nothing is to live. A start that was taken back counts as worked.
    pub(super) fn settle(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        self.seen.serial = self.seen.serial.max(wanted.serial);
        if wanted.want == Want::Stopped {
            self.on_settled();
        }
    }

    pub(super) fn on_settled(&mut self) {
        self.let_go();
        self.seen.state = State::Absent;
        // The coordinator has to know that the end was announced.
        if !self.seen.is_announced() {
            self.seen.reason = None;
        }
    }

    /// An instance that has ended holds nothing.
    fn let_go(&mut self) {
        self.seen.resources.clear();
        self.seen.config = None;
    }

    fn lived(&self, now: Instant) -> Option<u64> {
        let ready_at = self.live.as_ref()?.ready_at?;
        u64::try_from(now.since(ready_at).as_millis()).ok()
    }

    // ---- reconciliation ---------------------------------------------------------------------------

    /// Takes over an instance that an earlier run of hax has started and that is alive.
    pub(super) fn adopt(&mut self, now: Instant, view: &View, serial: u64, boot: &str) {
        let serial = if mutant(Mutant::FoundOutdated) { 0 } else { serial };
        // After a restored snapshot of Consul a serial number may be that of another start. A keeper of an
        // earlier version has no tags.
        let is_its = |wanted: &&Wanted| {
            let tag = view.tag.as_ref();
            wanted.serial == serial && tag.is_none_or(|tag| *tag == wanted.launch.revision)
        };
        let launch = self.wanted.as_ref().filter(is_its).map(|wanted| wanted.launch.clone());
        let was_up = matches!(self.seen.state, State::Running | State::Degraded | State::Failed);
        let was_ready = self.seen.instance.as_ref() == Some(&view.instance)
            && (was_up || self.seen.is_announced());
        // Whether one that nobody knows any more has told that it is ready, it does not tell again.
        let has_told_ready = self.seen.instance.as_ref() != Some(&view.instance);
        if has_told_ready {
            let revision = launch.as_ref().map(|launch| launch.revision.clone());
            let revision = view.tag.clone().or(revision);
            let instance = Some(view.instance.clone());
            let state = State::Starting;
            self.seen = Observed { state, serial, instance, revision, ..Observed::default() };
        }
        self.seen.pid = view.pid;
        self.seen.boot = boot.into();
        let stage = match view.state {
            keeper::State::Starting => Stage::Asked,
            _ if was_ready => Stage::Up,
            keeper::State::Running | keeper::State::Stopping | keeper::State::Ended => {
                Stage::Warming
            }
        };
        let ready_at = was_ready.then_some(now);
        let id = (view.instance.clone(), view.name.clone());
        let live = Live::new(id, serial, stage, launch);
        let capability = view.capability.clone();
        self.live = Some(Live { ready_at, capability, has_told_ready, ..live });
    }

    /// Takes over a scripted instance that an earlier run of hax has started. Whether it still runs is not
    /// known yet. Returns whether there is one.
    pub(super) fn adopt_scripted(&mut self, now: Instant, boot: &str) -> bool {
        let is_up = matches!(self.seen.state, State::Running | State::Degraded | State::Failed);
        let launch = self.wanted.as_ref().map(|wanted| wanted.launch.clone());
        let launch = launch.filter(|launch| launch.scripted.is_some());
        let (true, true, Some(launch)) = (is_up, *self.seen.boot == *boot, launch) else {
            return false;
        };
        let Some(id) = self.seen.instance.clone() else { return false };
        let id = (id, launch.name.clone());
        let live = Live::new(id, self.seen.serial, Stage::Up, Some(launch));
        self.live = Some(Live { ready_at: Some(now), ..live });
        true
    }

    /// The instance of the last observation is not in the keeper's table any more.
    pub(super) fn on_missing(&mut self, boot: &str) {
        let is_over = matches!(self.seen.state, State::Absent | State::Failed);
        self.live = None;
        self.seen.pid = None;
        if is_over {
            return;
        }
        self.let_go();
        if self.seen.state == State::Stopping {
            return self.on_settled();
        }
        let rebooted = *self.seen.boot != *boot;
        let (class, text) = if rebooted {
            (Class::Reboot, "the node was restarted")
        } else {
            (Class::Unknown, "the keeper does not know it any more")
        };
        self.seen.state = State::Failed;
        self.seen.reason = Some(Reason { class, text: text.into() });
    }
}

impl Live {
    fn new(
        (id, name): (InstanceId, ServiceName),
        serial: u64,
        stage: Stage,
        launch: Option<Box<Launch>>,
    ) -> Self {
        let (said, output) = ("".into(), ActionOutput::default());
        let (ready_at, probe, action) = (None, None, None);
        let (capability, has_told_ready) = (None, false);
        Self {
            id,
            name,
            serial,
            stage,
            launch,
            capability,
            has_told_ready,
            ready_at,
            probe,
            said,
            action,
            output,
        }
    }

    /// Returns the delay of the next probe: of the readiness, or of the regular check.
    pub(super) fn pause(&self) -> Option<Duration> {
        /// The time between two probes of an instance that is not ready yet.
        const WARMING: Duration = Duration::from_millis(100);
        let launch = self.launch.as_ref()?;
        if let Some(scripted) = &launch.scripted {
            let every = Duration::from_millis(scripted.every_ms);
            return (self.stage == Stage::Up).then_some(every);
        }
        match self.stage {
            Stage::Warming => launch.ready.as_ref().map(|_| WARMING),
            Stage::Up => launch.check.as_ref().map(|check| Duration::from_millis(check.every_ms)),
            Stage::Naming | Stage::Asked | Stage::Ending => None,
        }
    }
}

/// Returns the reason of an end that nobody asked for.
fn reason_of(view: &View) -> Reason {
    let status = view.status.unwrap_or(Status::Unknown);
    let class = match (status, view.cause) {
        (_, Some(Cause::Reboot)) => Class::Reboot,
        (_, Some(Cause::NotBegun)) => Class::NotStarted,
        (Status::Code(0), _) => Class::Clean,
        (Status::Code(_), _) => Class::Exit,
        (Status::Signal(_), _) => Class::Signal,
        (Status::Unknown, _) => Class::Unknown,
    };
    let text = match view.cause {
        Some(Cause::Reboot) => "the node was restarted".into(),
        Some(Cause::NotBegun) => "the keeper was killed before the program began".into(),
        Some(Cause::Stop | Cause::Kill) => format!("{status}: stopped by a request to the keeper"),
        Some(Cause::Itself | Cause::Deadline) | None => format!("{status}"),
    };
    Reason { class, text: text.into() }
}
