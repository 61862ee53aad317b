//! The work with the keeper: its list, its events, and the starts and stops of instances.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::State;
use super::context::{Cx, Timer};
use super::instance::{Instance, Live, Stage, Step};
use super::names::Demand;
use crate::base::mutant::{Mutant, mutant};
use crate::keeper::answer::{self, Answer, Code, View};
use crate::keeper::name::InstanceId;
use crate::keeper::port::{Command, Event, Unanswered};
use crate::keeper::request::Ask;
use crate::services::fact::Fact;
use crate::services::model::class::Class;
use crate::services::model::form;
use crate::services::model::name::{IdParts, TypeName, parts_of};
use crate::services::model::record::{self as records, NameRecord, Want};
use crate::services::model::scripted::Action;

/// The purpose of a request to the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Start(TypeName, InstanceId),
    Stop(TypeName, InstanceId),
    Forget(InstanceId),
}

/// Returns whether an instance has ended.
fn is_over(view: &View) -> bool {
    view.state == answer::State::Ended
}

/// Compares an observation with what lives, where the keeper lists no such instance: a scripted one may live.
pub(super) fn find_unlisted(cx: &mut Cx<'_>, row: &mut Instance, boot: &str) {
    if row.adopt_scripted(cx.now().mono, boot) {
        cx.arm(Timer::Probe(row.slot), core::time::Duration::ZERO);
    } else {
        row.on_missing(boot);
    }
}

impl State {
    pub(super) fn on_keeper(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Up { keeper, instances } => {
                let generation = keeper.generation;
                cx.emit(Fact::KeeperUp { generation, instances: instances.len() });
                self.keeper = Some(keeper);
                self.listed = instances;
                self.is_reconciled = false;
            }
            Event::Down { why } => {
                cx.emit(Fact::KeeperDown { why });
                self.keeper = None;
                self.is_reconciled = false;
            }
            Event::Answered { id, result } => {
                if let Some(asked) = self.asked.remove(&id) {
                    self.on_answered(cx, asked, result);
                }
            }
            Event::Changed(changed) => self.on_changed(cx, changed),
        }
    }

    fn on_changed(&mut self, cx: &mut Cx<'_>, event: answer::Event) {
        if !self.is_reconciled {
            // The list is compared later, so it has to be the present one.
            return self.relist(event);
        }
        match event {
            answer::Event::Started(view) => {
                if let Some(kind) = self.kind_of(&view.instance) {
                    self.on_started(cx, &kind, &view);
                    self.end_stray(cx, &kind, &view.instance);
                }
                self.stranger_started(*view);
            }
            answer::Event::Exited(view) => self.on_exited(cx, &view),
            answer::Event::Stopping(_)
            | answer::Event::OutputDropped { .. }
            | answer::Event::Forgotten { .. } => {}
        }
    }

    /// Brings the list up to date with an event.
    fn relist(&mut self, event: answer::Event) {
        let (gone, view) = match event {
            answer::Event::Started(view)
            | answer::Event::Stopping(view)
            | answer::Event::Exited(view) => (view.instance.clone(), Some(*view)),
            answer::Event::Forgotten { instance } => (instance, None),
            answer::Event::OutputDropped { .. } => return,
        };
        self.listed.retain(|listed| listed.instance != gone);
        self.listed.extend(view);
    }

    // ---- reconciliation ---------------------------------------------------------------------------

    /// Compares the keeper's list with the records, before anything is started.
    pub(super) fn reconcile(&mut self, cx: &mut Cx<'_>) {
        let Some(keeper) = &self.keeper else { return };
        let boot = keeper.boot.clone();
        let listed = core::mem::take(&mut self.listed);
        self.strangers.clear();
        self.found.clear();
        for view in listed.iter().filter(|view| !is_over(view)) {
            self.adopt(cx, view, &boot);
        }
        let mut ended: Vec<&View> = listed.iter().filter(|view| is_over(view)).collect();
        ended.sort_by_key(|view| parts_of(&view.instance).map(|(_, serial)| serial));
        for view in ended {
            self.adopt_ended(cx, view, &boot);
        }
        let lives =
            |id: &InstanceId| listed.iter().any(|view| view.instance == *id && !is_over(view));
        let asked = &self.asked;
        let is_asked = |id: &InstanceId| {
            asked.values().any(|asked| matches!(asked, Asked::Start(_, of) if of == id))
        };
        for row in self.instances.values_mut() {
            let scripted =
                |live: &Live| live.launch.as_ref().is_some_and(|of| of.scripted.is_some());
            match &row.live {
                Some(live) if lives(&live.id) || scripted(live) => {}
                // The request has reached the keeper after it had made its list.
                Some(live) if is_asked(&live.id) => {}
                // The keeper was asked, and does not know of it.
                Some(live) if matches!(live.stage, Stage::Naming | Stage::Asked) => {
                    row.on_not_begun()
                }
                Some(_) => row.on_missing(&boot),
                None => find_unlisted(cx, row, &boot),
            }
        }
        let is_now = |record: &NameRecord| *record.boot == *boot;
        self.names.free_where(|_, record| is_now(record));
        self.is_reconciled = true;
    }

    pub(super) fn adopt(&mut self, cx: &mut Cx<'_>, view: &View, boot: &str) {
        let id = &view.instance;
        let Some((kind, serial)) =
            parts_of(id).filter(|(kind, _)| self.instances.contains_key(kind))
        else {
            return self.leave_alone(cx, view);
        };
        let row = self.row(&kind);
        if let Some(live) = row.live.as_mut().filter(|live| live.id == *id) {
            // It has been running all the time, only the connection was lost.
            match (live.stage, view.state) {
                (Stage::Asked, answer::State::Running) => return self.on_started(cx, &kind, view),
                // The request to stop it was lost.
                (Stage::Ending, answer::State::Running) => {
                    live.stage = Stage::Up;
                    if row.seen.is_announced() {
                        // It had its time already.
                        cx.arm(Timer::Ready(row.slot), core::time::Duration::ZERO);
                    }
                }
                (_, _) => {}
            }
            return;
        }
        // A stranger that was taken for a wanted start has that start's number, and not that of its id.
        let known = row.seen.instance.as_ref() == Some(id);
        let is_known = known && row.seen.state != records::State::Absent;
        let serial = if is_known { row.seen.serial } else { serial };
        self.adopt_as(cx, (&kind, serial), view, boot);
    }

    /// Takes over an instance as the start with this serial number.
    pub(super) fn adopt_as(
        &mut self,
        cx: &mut Cx<'_>,
        (kind, serial): (&TypeName, u64),
        view: &View,
        boot: &str,
    ) {
        let now = cx.now().mono;
        let row = self.row(kind);
        row.adopt(now, view, serial, boot);
        if view.state == answer::State::Stopping {
            row.on_ending();
        }
        let (slot, live) = (row.slot, row.live.as_ref());
        // It has the time of a start, or of the stop that it has announced.
        let within = live.and_then(|live| {
            let launch = live.launch.as_ref()?;
            let is_warming = live.ready_at.is_none().then(|| launch.start_within());
            if row.seen.is_announced() { Some(launch.stop_within()) } else { is_warming }
        });
        within.into_iter().for_each(|within| cx.arm(Timer::Ready(slot), within));
        cx.emit(Fact::Found { kind: kind.clone(), instance: view.instance.clone() });
        self.on_warm(cx, kind);
    }

    /// Handles an instance that has ended while nobody listened.
    fn adopt_ended(&mut self, cx: &mut Cx<'_>, view: &View, boot: &str) {
        let now = cx.now().mono;
        if let Some((kind, serial)) = parts_of(&view.instance)
            && let Some(row) = self.instances.get_mut(&kind)
            && row.live.is_none()
            && row.seen.serial < serial
        {
            // The start was carried out, and Consul does not know of it yet.
            row.adopt(now, view, serial, boot);
        }
        self.on_exited(cx, view);
    }

    // ---- starts and stops -------------------------------------------------------------------------

    /// Begins the next step of each instance.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_>) {
        self.adopt_strangers(cx);
        let steps = self.instances.iter().map(|(kind, row)| (kind, row.step()));
        let steps: Vec<(TypeName, Step)> = steps
            .filter(|(_, step)| *step != Step::None)
            .map(|(kind, step)| (kind.clone(), step))
            .collect();
        // Stops come first, since a start may wait for the name of another type.
        for (kind, step) in &steps {
            match step {
                Step::End => self.end(cx, kind),
                Step::Settle => self.row(kind).settle(),
                Step::None | Step::Begin(_) => {}
            }
        }
        self.keep_names();
        let instances = &self.instances;
        self.names.free_where(|name, record| {
            instances.get(&record.kind).is_some_and(|row| {
                let held = row.live.as_ref().map(|live| &live.name);
                let wanted = row.wanted.as_ref().map(|wanted| &wanted.launch.name);
                held.or(wanted).is_none_or(|held| held == name) && row.keeps_name()
            })
        });
        for (kind, step) in steps {
            if let Step::Begin(serial) = step {
                self.begin(cx, &kind, serial);
            }
        }
    }

    /// Demands the names of living instances whose records were lost, as with a restored snapshot.
    fn keep_names(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        for (kind, row) in &self.instances {
            let live = row.live.as_ref().filter(|live| live.stage != Stage::Naming);
            if let Some(live) = live.filter(|live| self.names.is_free(&live.name)) {
                let (boot, generation) = (keeper.boot.clone(), keeper.generation);
                let (v, kind, instance) = (form(), kind.clone(), Some(live.id.clone()));
                let record = NameRecord { v, kind, instance, boot, generation };
                self.names.demand(&live.name, record);
            }
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, kind: &TypeName, serial: u64) {
        let (Some(keeper), Some(run)) = (&self.keeper, self.run) else { return };
        let (boot, generation) = (keeper.boot.clone(), keeper.generation);
        let Some(row) = self.instances.get_mut(kind) else { return };
        let Some(wanted) = &row.wanted else { return };
        self.next_start += 1;
        let (node, nth) = (&self.config.node, self.next_start);
        let id = IdParts { kind, node, run, nth, serial }.id();
        let name = wanted.launch.name.clone();
        let (v, instance) = (form(), Some(id.clone()));
        let record = NameRecord { v, kind: kind.clone(), instance, boot: boot.clone(), generation };
        let demand = self.names.demand(&name, record);
        let demand = if mutant(Mutant::NameUnwritten) { Demand::Held } else { demand };
        let stage = if demand == Demand::Held { Stage::Asked } else { Stage::Naming };
        row.on_begin((id.clone(), name.clone()), serial, stage, &boot);
        match demand {
            Demand::Held => self.ask_to_start(cx, kind),
            Demand::Pending => {}
            Demand::Other(other, holder) => {
                let by = holder.map_or_else(|| format!("{other}"), |id| format!("{other} ({id})"));
                let why = format!("the service name {name} is held by {by}");
                self.refuse(cx, kind, Class::NameHeld, &why);
            }
            Demand::Frozen => {
                let why = format!("the record of the service name {name} cannot be used");
                self.refuse(cx, kind, Class::NameHeld, &why);
            }
        }
    }

    /// Asks the keeper to start an instance whose name is held.
    pub(super) fn ask_to_start(&mut self, cx: &mut Cx<'_>, kind: &TypeName) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        let (slot, Some(live)) = (row.slot, &mut row.live) else { return };
        let id = live.id.clone();
        if live.launch.as_ref().is_some_and(|launch| launch.scripted.is_some()) {
            live.stage = Stage::Asked;
            cx.emit(Fact::Starts { kind: kind.clone(), instance: id });
            return self.act(cx, kind, Action::Look);
        }
        let voice = self.config.instances.as_ref().map(|socket| socket.voice(&id));
        live.capability = voice.as_ref().map(|voice| voice.capability.clone());
        let start = live.launch.as_ref().and_then(|launch| launch.start(id.clone(), voice));
        let Some(start) = start else {
            let why = "this hax has no such runner";
            return self.refuse(cx, kind, Class::NotStarted, why);
        };
        if let Err(why) = start.check() {
            return self.refuse(cx, kind, Class::NotStarted, why);
        }
        live.stage = Stage::Asked;
        let within = live.launch.as_ref().map(|launch| launch.start_within());
        within.into_iter().for_each(|within| cx.arm(Timer::Ready(slot), within));
        cx.emit(Fact::Starts { kind: kind.clone(), instance: id.clone() });
        self.ask(cx, Ask::Start(start), Asked::Start(kind.clone(), id));
    }

    pub(super) fn end(&mut self, cx: &mut Cx<'_>, kind: &TypeName) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        let Some(live) = &row.live else { return };
        let (slot, id, probe) = (row.slot, live.id.clone(), live.probe);
        let is_scripted = live.launch.as_ref().is_some_and(|launch| launch.scripted.is_some());
        row.on_ending();
        self.stop_probing(cx, slot, probe);
        cx.emit(Fact::Stops { kind: kind.clone(), instance: id.clone() });
        if is_scripted {
            return self.act(cx, kind, Action::Stop);
        }
        self.ask(cx, Ask::Stop { instance: id.clone() }, Asked::Stop(kind.clone(), id));
    }

    /// Stops an instance that nobody waits for: an earlier run of hax has asked for it.
    fn end_stray(&mut self, cx: &mut Cx<'_>, kind: &TypeName, id: &InstanceId) {
        if !self.instances.get(kind).is_some_and(|row| row.is(id)) {
            cx.emit(Fact::Stops { kind: kind.clone(), instance: id.clone() });
            let asked = Asked::Stop(kind.clone(), id.clone());
            self.ask(cx, Ask::Stop { instance: id.clone() }, asked);
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, ask: Ask, asked: Asked) {
        let id = self.next_ask.mint();
        self.asked.insert(id, asked);
        cx.emit(Command { id, ask });
    }

    /// Asks the keeper to forget the ended instances whose ends Consul holds.
    pub(super) fn forget(&mut self, cx: &mut Cx<'_>, ids: Vec<InstanceId>) {
        for instance in ids {
            let asked = Asked::Forget(instance.clone());
            self.ask(cx, Ask::Forget { instance }, asked);
        }
    }

    // ---- results ----------------------------------------------------------------------------------

    fn on_answered(&mut self, cx: &mut Cx<'_>, asked: Asked, result: Result<Answer, Unanswered>) {
        match (asked, result) {
            (Asked::Start(kind, _), Ok(Answer::Started { instance, .. })) => {
                self.on_started(cx, &kind, &instance);
            }
            (Asked::Start(kind, id), Err(Unanswered::Refused(error))) => {
                if !self.instances.get(&kind).is_some_and(|row| row.is(&id)) {
                    return;
                }
                let held = error.code == Code::NameHeld;
                let class = if held { Class::NameHeld } else { Class::NotStarted };
                self.refuse(cx, &kind, class, &error.text);
            }
            // The keeper does not know the instance, so it has ended and is forgotten.
            (Asked::Stop(kind, id), Err(Unanswered::Refused(_))) => {
                if let Some(row) = self.instances.get_mut(&kind).filter(|row| row.is(&id)) {
                    row.live = None;
                    row.on_settled();
                }
            }
            // The connection is lost. The next list tells what has become of it.
            (_, Err(Unanswered::NotSent | Unanswered::Lost)) => {}
            (Asked::Start(..) | Asked::Stop(..) | Asked::Forget(_), _) => {}
        }
    }

    fn on_started(&mut self, cx: &mut Cx<'_>, kind: &TypeName, view: &View) {
        let Some(row) = self.instances.get_mut(kind).filter(|row| row.is(&view.instance)) else {
            return;
        };
        row.on_started(view);
        self.on_warm(cx, kind);
    }

    /// Handles an instance that has been started: it is ready, or is probed until it is.
    fn on_warm(&mut self, cx: &mut Cx<'_>, kind: &TypeName) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        let (slot, Some(live)) = (row.slot, &row.live) else { return };
        let probed = live.launch.as_ref().is_some_and(|launch| launch.ready.is_some());
        let notifies = live.launch.as_ref().is_some_and(|launch| launch.notifies);
        match live.stage {
            Stage::Warming if notifies && !live.has_told_ready => {}
            Stage::Warming if probed => cx.arm(Timer::Probe(slot), core::time::Duration::ZERO),
            Stage::Warming => self.on_ready(cx, kind),
            Stage::Up => self.arm_check(cx, kind),
            Stage::Naming | Stage::Asked | Stage::Ending => {}
        }
    }

    /// Handles an instance that is ready.
    pub(super) fn on_ready(&mut self, cx: &mut Cx<'_>, kind: &TypeName) {
        let now = cx.now().mono;
        let Some(row) = self.instances.get_mut(kind) else { return };
        row.on_ready(now);
        let Some(live) = &row.live else { return };
        let (instance, pid) = (live.id.clone(), row.seen.pid.unwrap_or(0));
        cx.disarm(Timer::Ready(row.slot));
        cx.emit(Fact::Runs { kind: kind.clone(), instance, pid });
        self.arm_check(cx, kind);
    }

    /// Handles the end of an instance, with all its processes.
    fn on_exited(&mut self, cx: &mut Cx<'_>, view: &View) {
        let id = &view.instance;
        self.forget_stranger(id);
        self.to_forget.push(id.clone());
        let Some(kind) = self.kind_of(id) else {
            if parts_of(id).is_none() {
                // Another program's instance: it is that program's to forget.
                self.to_forget.retain(|forgotten| forgotten != id);
            }
            return;
        };
        let now = cx.now().mono;
        let is_last = |row: &Instance| row.live.is_none() && row.seen.instance.as_ref() == Some(id);
        let Some(row) = self.instances.get_mut(&kind) else { return };
        if is_last(row) && matches!(row.seen.state, records::State::Absent | records::State::Failed)
        {
            return;
        }
        if !row.is(id) && !is_last(row) {
            return;
        }
        let (slot, probe) = (row.slot, row.live.as_ref().and_then(|live| live.probe));
        let was_stopping = row.seen.state == records::State::Stopping && !row.seen.is_announced();
        let was_wanted = row.on_ended(now, view) || was_stopping;
        if was_stopping {
            row.on_settled();
        }
        let why: Box<str> =
            row.seen.reason.as_ref().map_or_else(|| "".into(), |reason| reason.text.clone());
        let is_clean = row.seen.state == records::State::Absent;
        let instance = id.clone();
        cx.emit(match (was_wanted, is_clean) {
            (true, _) => Fact::Stopped { kind, instance },
            (false, true) => Fact::Ended { kind, instance, why },
            (false, false) => Fact::Failed { kind, why },
        });
        self.stop_probing(cx, slot, probe);
    }

    /// Records that a start was refused. Nothing lives.
    pub(super) fn refuse(&mut self, cx: &mut Cx<'_>, kind: &TypeName, class: Class, why: &str) {
        let Some(row) = self.instances.get_mut(kind) else { return };
        row.on_refused(class, why);
        cx.disarm(Timer::Ready(row.slot));
        cx.emit(Fact::Failed { kind: kind.clone(), why: why.into() });
    }

    /// Returns the type of an instance of this hax.
    pub(super) fn kind_of(&self, id: &InstanceId) -> Option<TypeName> {
        let (kind, _) = parts_of(id)?;
        self.instances.contains_key(&kind).then_some(kind)
    }

    /// Returns whether an instance is wanted to run.
    pub(super) fn is_wanted(&self, kind: &TypeName) -> bool {
        let wanted = self.instances.get(kind).and_then(|row| row.wanted.as_ref());
        wanted.is_some_and(|wanted| wanted.want == Want::Running)
    }
}
