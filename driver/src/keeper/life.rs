//! The host's operations on instances: start, adopt, follow and end.

use hax_core::exec::Status;
use hax_core::keeper::Input;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::Process;
use hax_core::keeper::record::RecordFile;
use hax_core::keeper::request::{OutputTarget, Start};
use rustix::process::Signal;

use super::folder::Left;
use super::group::Group;
use super::held::{Held, Main};
use super::host::Host;
use super::output::Output;
use super::processes;

impl Host {
    /// Passes the instances from earlier runs to the state machine.
    pub(super) fn find_left(&mut self, left: Vec<Left>) {
        for Left { instance, mut found, cgroup } in left {
            let group = self.groups.adopt(instance.clone(), cgroup);
            let lives =
                found.process().filter(|main| found.now.is_some_and(|now| now.is_alive(*main)));
            // Other processes count only if the main process does not live.
            found.left = found.ended.is_none() && lives.is_none() && !group.members().is_empty();
            self.found.insert(instance, group);
            self.inputs.push_back(Input::Found(Box::new(found)));
            self.settle();
        }
        // The state machine has no use for the remaining groups, and no process lives in them.
        std::mem::take(&mut self.found).values().for_each(Group::remove);
    }

    pub(super) fn spawn(&mut self, start: Box<Start>) {
        let instance = start.instance.clone();
        match self.try_spawn(start) {
            Ok(process) => self.inputs.push_back(Input::Started { instance, process }),
            Err(why) => {
                self.groups.remove(&instance);
                self.inputs.push_back(Input::NotStarted { instance, why: why.into() });
            }
        }
    }

    fn try_spawn(&mut self, start: Box<Start>) -> Result<Process, String> {
        let instance = start.instance.clone();
        let group = self.groups.create(&instance).map_err(|why| format!("its cgroup: {why}"))?;
        if let Some(path) = group.path() {
            let written = self.folder.write_cgroup(&instance, path);
            written.map_err(|why| format!("the keeper's folder: {why}"))?;
        }
        let (process, output) = self.starter.start(&start, &group, &self.folder, &self.logs)?;
        let main = Main::new(process).map_err(|why| {
            group.kill(Some(process.pid));
            format!("{process} cannot be watched: {why}")
        })?;
        self.held.insert(instance, Held::new(start, group, Some(main), output));
        Ok(process)
    }

    pub(super) fn adopt(&mut self, start: Box<Start>, process: Option<Process>) {
        let instance = start.instance.clone();
        let Some(group) = self.found.remove(&instance) else { return };
        let output = match start.output {
            OutputTarget::File => {
                let output = Output::open(&self.folder.of(&instance), &start.name, &self.logs);
                let said = output.inspect_err(|why| {
                    tracing::warn!(target: "hax", %instance, %why, "its output is not heard any more");
                });
                said.ok()
            }
            OutputTarget::Journal | OutputTarget::Null => None,
        };
        let main = process.and_then(|process| Main::new(process).ok());
        let is_gone = process.is_some() && main.is_none();
        let held = Held::new(start, group, main, output);
        if is_gone {
            let (instance, left) = (instance.clone(), held.is_left());
            self.inputs.push_back(Input::Ended { instance, status: Status::Unknown, left });
        }
        self.held.insert(instance, held);
    }

    /// Chooses the process to follow for an instance: the process that the keeper has inherited, otherwise
    /// the oldest one.
    pub(super) fn follow(&mut self, instance: InstanceId) {
        let own = processes::own();
        let Some(held) = self.held.get_mut(&instance) else { return };
        if let Some(mut main) = held.main.take() {
            main.reap();
        }
        let mut members = held.group.members();
        let is_inherited =
            |process: &Process| processes::stat(process.pid).is_some_and(|stat| stat.parent == own);
        members.sort_by_key(|process| (!is_inherited(process), process.started, process.pid));
        held.main = members.into_iter().find_map(|process| Main::new(process).ok());
        let process = held.main.as_ref().map(|main| main.process);
        if let Some(line) = process.and_then(|process| processes::stat_line(process.pid)) {
            let file = RecordFile::Process;
            if let Err(why) = self.folder.write(&instance, file, &line) {
                let instance = instance.clone();
                self.inputs.push_back(Input::NotStored { instance, file, why });
            }
        }
        self.inputs.push_back(Input::Followed { instance, process });
    }

    pub(super) fn signal(&self, id: &InstanceId, number: i32, all: bool) {
        let Some(held) = self.held.get(id) else { return };
        let Some(signal) = Signal::from_named_raw(number) else {
            tracing::warn!(target: "hax", instance = %id, number, "there is no such signal");
            return;
        };
        if all {
            held.group.signal(signal);
        } else if let Some(main) = &held.main {
            processes::signal(main.process, signal);
        }
    }

    /// Runs the stop command of an instance. If there is none that can be run, SIGTERM is sent instead.
    pub(super) fn run_stop(&mut self, id: &InstanceId) {
        let Some(held) = self.held.get_mut(id) else { return };
        let main = held.main.as_ref().map(|main| main.process);
        match self.starter.stop(&held.start, &held.group, &self.folder, main) {
            Ok(process) => held.stop_command = Some(process),
            Err(why) => {
                tracing::warn!(target: "hax", instance = %id, %why, "its stop command cannot be run");
                held.group.signal(Signal::TERM);
            }
        }
    }

    pub(super) fn release(&mut self, id: &InstanceId) {
        let Some(mut held) = self.held.remove(id) else { return };
        if let Some(output) = &mut held.output {
            output.finish();
            let bytes = held.dropped.0 + output.take_dropped();
            if bytes > 0 {
                self.inputs.push_back(Input::Dropped { instance: id.clone(), bytes });
            }
        }
        if let Some(main) = &mut held.main {
            main.reap();
        }
        held.group.remove();
    }
}
