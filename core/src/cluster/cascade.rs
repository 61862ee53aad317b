//! The consequences of a process's new state in the configuration: the states of the process, its devices,
//! their controller, the node and its enclosure (`hax.md` 1.13).

use alloc::vec::Vec;

use super::conf::{Entry, with_state};
use super::states::{self, ProcessRecord};
use super::view::Cluster;
use crate::base::fid::{Fid, Object};
use crate::ha::note::ObjectState;
use crate::ha::process::ProcessEventKind;

/// The new content of an object's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object of the entry.
    pub object: Fid,
    /// The new value, with the index of the replaced entry.
    pub entry: Entry,
    /// The entry has this value already since that index, according to our copy.
    pub is_already_set: bool,
}

impl Cluster {
    /// Returns the new entries after `process` has become `state`.
    ///
    /// Devices that have failed or are being repaired keep their state. A node and its enclosure follow their
    /// I/O processes: down with the last one, up with the first one.
    ///
    /// Only the process itself becomes FAILED. Its devices and their hardware become TRANSIENT. A repair is
    /// the only way out of FAILED (`pool/pool_machine.c:m0_poolmach_state_transit`): every process that gets
    /// FAILED for a node counts it as failed until its own restart, whatever it gets afterwards.
    #[must_use]
    pub fn cascade(&self, process: Fid, state: ObjectState) -> Vec<Change> {
        let conf = self.conf();
        let Some(entry) = conf.get_process(process) else { return Vec::new() };
        if entry.hax {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let mut change = |object: Fid, state| {
            changes.extend(self.change(object, state));
        };
        change(process, state);
        let state = of_hardware(state);
        for sdev in conf.sdevs_of(process) {
            if !conf.sdev(sdev).is_some_and(keeps) {
                change(sdev, state);
            }
        }
        if let Some(controller) = conf.controller_of(process) {
            change(controller, state);
        }
        if let Some(state) =
            entry.ios.then(|| self.node_after(entry.node, process, state)).flatten()
        {
            change(entry.node, state);
            conf.enclosures_of(entry.node).iter().for_each(|enclosure| change(*enclosure, state));
        }
        changes
    }

    /// Returns the entries with a difference from the states derived from the last event of `process`. This
    /// happens when the configuration is imported again, as every node of hare does at its start.
    ///
    /// Devices and the process itself may be set by others too, so they count only if the import left no
    /// state. A recovering node is up or down before long, and is skipped until then.
    #[must_use]
    pub fn rederived(&self, process: Fid) -> Vec<Change> {
        let record = self.record(process).0;
        let Some(state) = record.and_then(ProcessRecord::effect) else { return Vec::new() };
        let lost = |change: &Change| {
            let text = self.conf().entry(change.object);
            let text = text.and_then(|entry| states::state_text(&entry.value));
            text.is_none_or(|text| matches!(&*text, "M0_NC_UNKNOWN" | "unknown"))
        };
        let mut changes = self.cascade(process, state);
        changes.retain(|change| {
            !change.is_already_set
                && match change.object.object() {
                    Some(Object::Process | Object::Sdev) => lost(change),
                    Some(Object::Controller) => !self.is_implied(process, change.object),
                    _ => lost(change) || self.decides(process, state),
                }
        });
        changes
    }

    /// Returns whether a controller's state is the one derived from another process with devices at it.
    fn is_implied(&self, process: Fid, controller: Fid) -> bool {
        let conf = self.conf();
        let Some(node) = conf.get_process(process).map(|entry| entry.node) else { return false };
        let others = conf.processes_on(node).iter().filter(|other| **other != process);
        let mut theirs = others
            .filter(|other| conf.controller_of(**other) == Some(controller))
            .filter_map(|other| self.record(*other).0?.effect());
        theirs.any(|state| Some(of_hardware(state)) == conf.own_state(controller))
    }

    /// Returns whether a node's state is determined by its I/O processes, including this one.
    fn decides(&self, process: Fid, state: ObjectState) -> bool {
        use ProcessEventKind::{Starting, Stopping};
        let conf = self.conf();
        let Some(node) = conf.get_process(process).map(|entry| entry.node) else { return false };
        let record = |p: Fid| self.record(p).0.map(|record| record.state);
        let moving = conf.ios_on(node).any(|p| matches!(record(p), Some(Starting | Stopping)));
        !moving && state != ObjectState::DtmRecovering
    }

    /// Returns the new entry of `object`; `None` if it is not configured.
    #[must_use]
    pub fn change(&self, object: Fid, state: ObjectState) -> Option<Change> {
        let entry = self.conf().entry(object)?;
        let kind = object.object()?;
        let text = if kind == Object::Process {
            states::process_text(state)
        } else if kind == Object::Sdev {
            states::device_text(state)
        } else {
            states::hardware_text(state)
        };
        let holds = states::state_text(&entry.value).as_deref() == Some(text);
        let entry = if holds {
            entry.clone()
        } else {
            Entry { value: with_state(&entry.value, text)?, ..entry.clone() }
        };
        Some(Change { object, entry, is_already_set: holds })
    }

    /// Returns the state of a node after its I/O process has become `state`; `None` while another process
    /// determines it. The other processes count by their reported state, since a check that fails for a
    /// moment recovers without a write.
    fn node_after(&self, node: Fid, process: Fid, state: ObjectState) -> Option<ObjectState> {
        let conf = self.conf();
        let others = || conf.ios_on(node).filter(|p| *p != process);
        let any =
            |said| others().any(|other| self.record(other).0.is_some_and(|w| w.state == said));
        let decided_by_another = match state {
            ObjectState::Online => false,
            ObjectState::DtmRecovering => any(ProcessEventKind::DtmRecovered),
            ObjectState::Unknown
            | ObjectState::Failed
            | ObjectState::Transient
            | ObjectState::Repair
            | ObjectState::Repaired
            | ObjectState::Rebalance
            | ObjectState::Undefined(_) => {
                any(ProcessEventKind::DtmRecovered) || any(ProcessEventKind::Started)
            }
        };
        if decided_by_another { None } else { Some(state) }
    }
}

/// Returns the state of the devices and the hardware of a process.
fn of_hardware(state: ObjectState) -> ObjectState {
    if state == ObjectState::Failed { ObjectState::Transient } else { state }
}

/// Returns whether a device keeps its state whatever its process does.
fn keeps(state: ObjectState) -> bool {
    use ObjectState::{Failed, Rebalance, Repair, Repaired};
    matches!(state, Failed | Repair | Repaired | Rebalance)
}
