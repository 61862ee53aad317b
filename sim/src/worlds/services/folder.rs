//! The folder of a keeper, on a disk that loses what is not synced, or in memory.

use std::collections::BTreeMap;

use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::{Process, Stat};
use hax_core::keeper::record::{Found, RecordFile};

use super::process::Processes;

/// The files of an instance.
#[derive(Debug, Default)]
struct Files {
    all: BTreeMap<RecordFile, Vec<u8>>,
    /// The intent is on the disk.
    is_synced: bool,
}

/// A keeper's folder.
#[derive(Debug)]
pub(super) struct Folder {
    instances: BTreeMap<InstanceId, Files>,
    /// The folder survives a reboot.
    is_kept: bool,
}

impl Folder {
    pub(super) fn new(is_kept: bool) -> Self {
        Self { instances: BTreeMap::new(), is_kept }
    }

    pub(super) fn write(&mut self, instance: &InstanceId, file: RecordFile, body: Vec<u8>) {
        self.instances.entry(instance.clone()).or_default().all.insert(file, body);
    }

    /// Puts the intent of an instance on the disk.
    pub(super) fn sync(&mut self, instance: &InstanceId) {
        if let Some(files) = self.instances.get_mut(instance) {
            files.is_synced = true;
        }
    }

    /// Returns whether the intent of an instance is on the disk.
    pub(super) fn has_intent(&self, instance: &InstanceId) -> bool {
        self.instances.get(instance).is_some_and(|files| files.is_synced)
    }

    /// Writes the identity of an instance's process.
    pub(super) fn write_process(&mut self, instance: &InstanceId, process: Process) {
        self.write(instance, RecordFile::Process, stat(process).into_bytes());
    }

    pub(super) fn remove(&mut self, instance: &InstanceId) {
        self.instances.remove(instance);
    }

    /// Loses what a reboot loses. Returns whether the folder is empty.
    pub(super) fn lose_power(&mut self, mut choose: impl FnMut(u64) -> u64) -> bool {
        if !self.is_kept {
            self.instances.clear();
            return true;
        }
        self.instances.retain(|_, files| files.is_synced || choose(2) == 0);
        for files in self.instances.values_mut() {
            for file in RecordFile::ALL {
                if file == RecordFile::Intent {
                    continue;
                }
                match choose(3) {
                    1 => drop(files.all.remove(&file)),
                    2 => files
                        .all
                        .entry(file)
                        .and_modify(|body| body.truncate(body.len() / 2))
                        .or_default()
                        .clear(),
                    _ => {}
                }
            }
            files.all.retain(|file, body| *file == RecordFile::Intent || !body.is_empty());
        }
        false
    }

    /// Returns what a keeper finds at its start.
    pub(super) fn found(&self, processes: &Processes) -> Vec<Found> {
        let found = self.instances.iter().filter_map(|(instance, files)| {
            let of = |file| files.all.get(&file).cloned();
            let mut found = Found {
                path: instance.as_str().into(),
                intent: of(RecordFile::Intent)?,
                process: of(RecordFile::Process),
                deadline: of(RecordFile::Deadline),
                stop: of(RecordFile::Stop),
                ended: of(RecordFile::Ended),
                ..Found::default()
            };
            // The process with this number, whoever it is.
            let now = found.process().and_then(|process| processes.numbered(process.pid));
            found.now = now.and_then(|process| Stat::parse(stat(process).as_bytes()));
            found.left = processes.get(instance).is_some_and(super::process::Group::is_left);
            Some(found)
        });
        found.collect()
    }
}

/// Returns the line of a process in `/proc/PID/stat`.
fn stat(process: Process) -> String {
    let zeros = "0 ".repeat(17);
    format!("{} (x) S 1 {zeros}{} 1 2 3\n", process.pid, process.started)
}
