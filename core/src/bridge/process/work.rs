//! The work items of lanes, and the planning of their operations.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use crate::base::fid::{Fid, Object};
use crate::base::id::{LinkId, MsgId};
use crate::base::time::Instant;
use crate::bridge::process::ops::Op;
use crate::bridge::process::restarts::{Restarts, Start};
use crate::cluster::Cluster;
use crate::cluster::cascade::Change;
use crate::cluster::states::ProcessRecord;
use crate::ha::note::{Note, ObjectState};
use crate::ha::process::{ProcessEventKind, ProcessType};

/// The message to acknowledge.
pub(crate) type Ack = (LinkId, MsgId);

/// One work item; the next item of its lane waits for it.
#[derive(Debug)]
pub(crate) struct WorkItem {
    pub(crate) what: Operation,
    pub(crate) arrived: Instant,
    /// The record of the process has been read since this item conflicted with another writer, so our copy of
    /// the record is known to be Consul's.
    pub(crate) checked: bool,
    /// A transaction with this item had no reply: Consul may have committed it already.
    pub(crate) unsure: bool,
    /// The objects with entries written by a part of this item, or found in their final state.
    pub(crate) proved: BTreeSet<Fid>,
}

#[derive(Debug)]
pub(crate) enum Operation {
    /// An event reported by a process. Events of our own process have no acknowledgement.
    Reported { record: ProcessRecord, ack: Option<Ack> },
    /// The process is dead according to health.
    ///
    /// `linkless` means that its link is down too; the check alone may stem from before the last record.
    DeclaredDead { as_leader: bool, linkless: bool },
    /// The process was declared stopped and lives according to health.
    Revived,
    /// The configuration differs from the states derived from the process's last record.
    Derived { as_leader: bool },
    /// The process has begun a new life. Its start is counted, and its last life is declared ended.
    Started(Option<Start>),
    /// Devices have changed their state, according to a process or the broadcast queue.
    Devices { notes: Vec<Note>, ack: Option<Ack>, queued: bool },
}

impl Operation {
    /// Returns whether the operation is the leader's, to be executed only while this node leads.
    pub(crate) fn is_leaders(&self) -> bool {
        matches!(
            self,
            Self::DeclaredDead { as_leader: true, .. } | Self::Derived { as_leader: true }
        )
    }
}

/// The planned operations of a work item.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Derived changes; they may be written before the rest.
    pub(crate) derived_ops: Vec<Op>,
    /// The final operations of the item.
    pub(crate) final_ops: Vec<Op>,
    /// The record announced to old daemons.
    pub(crate) announced: Option<ProcessRecord>,
    /// A restart is declared by this item.
    pub(crate) restart: bool,
}

impl Plan {
    /// Returns whether no write is needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.derived_ops.is_empty() && self.final_ops.is_empty()
    }
}

impl WorkItem {
    pub(crate) fn new(arrived: Instant, what: Operation) -> Self {
        Self { what, arrived, checked: false, unsure: false, proved: BTreeSet::new() }
    }

    /// Returns whether a part of the item is written. In this case the item is completed even if health
    /// changes meanwhile. Half a death could not be distinguished from no death, while a complete one can be
    /// revoked. The same holds for half a revival.
    fn is_begun(&self) -> bool {
        !self.proved.is_empty()
    }

    /// Returns whether a process waits for the acknowledgement. Without it, the process repeats its message.
    pub(crate) fn is_repeated(&self) -> bool {
        let (Operation::Reported { ack, .. } | Operation::Devices { ack, .. }) = &self.what else {
            return false;
        };
        ack.is_some()
    }

    /// Returns whether a death is still to be written: it is half written, or health still confirms it.
    fn is_death_confirmed(&self, process: Fid, linkless: bool, cluster: &Cluster) -> bool {
        let fails = linkless && cluster.is_failing(process);
        self.is_begun() || cluster.is_dead(process) || fails
    }

    /// Returns the operations for this item, according to the current state.
    pub(crate) fn plan(
        &self,
        process: Fid,
        cluster: &Cluster,
        restarts: &Restarts,
        node: &str,
    ) -> Plan {
        let current = cluster.record(process).0;
        match &self.what {
            Operation::Reported { record, .. } => {
                let record = cluster.stored_event(process, *record);
                self.becomes(process, cluster, record, record.effect())
            }
            Operation::DeclaredDead { linkless, .. }
                if !self.is_death_confirmed(process, *linkless, cluster) =>
            {
                Plan::default()
            }
            Operation::DeclaredDead { .. } => {
                let kind = current.map_or(ProcessType::M0d, |record| record.kind);
                let was = current.map(|record| record.state);
                let record =
                    ProcessRecord { state: ProcessEventKind::Stopped, kind, last_reported: was };
                self.becomes(process, cluster, record, Some(ObjectState::Transient))
            }
            Operation::Revived => match (cluster.revived(process), current) {
                (Some(record), _) => self.becomes(process, cluster, record, record.effect()),
                (None, Some(record)) if self.is_begun() => {
                    let back = Some(ObjectState::Transient);
                    Plan { announced: None, ..self.becomes(process, cluster, record, back) }
                }
                (None, _) => Plan::default(),
            },
            Operation::Derived { .. } => {
                Plan { derived_ops: self.ops(cluster.rederived(process)), ..Plan::default() }
            }
            Operation::Started(None) => Plan::default(),
            Operation::Started(Some(Start { number, restart })) => {
                let kind = current.map_or(ProcessType::M0d, |record| record.kind);
                let record = ProcessRecord::reported(ProcessEventKind::Stopped, kind);
                let mut plan = if *restart {
                    self.becomes(process, cluster, record, Some(ObjectState::Failed))
                } else if current.is_some_and(|record| record.last_reported.is_some()) {
                    // The life that was declared ended has ended: the declaration cannot be revoked any more.
                    Plan { announced: None, ..self.becomes(process, cluster, record, None) }
                } else {
                    Plan::default()
                };
                plan.final_ops.extend(restarts.count(process, *number, node));
                plan.restart = *restart;
                plan
            }
            Operation::Devices { notes, .. } => {
                // Of two notes about one device, by its own fid or its drive's, the later one counts.
                let sdev = |note: &Note| Some((device(note.fid, cluster)?, note.state));
                let states: BTreeMap<Fid, ObjectState> = notes.iter().filter_map(sdev).collect();
                let changes = states.into_iter().filter_map(|(sdev, to)| cluster.change(sdev, to));
                Plan { derived_ops: self.ops(changes), ..Plan::default() }
            }
        }
    }

    fn becomes(
        &self,
        process: Fid,
        cluster: &Cluster,
        record: ProcessRecord,
        effect: Option<ObjectState>,
    ) -> Plan {
        let changes = effect.map(|state| cluster.cascade(process, state)).unwrap_or_default();
        let first = self.ops(changes);
        let (there, index) = cluster.record(process);
        // A record known only from the replica is written again, which checks it.
        let holds = self.checked && there == Some(record);
        let op = Op::record(process, record, index).filter(|_| !holds);
        // Events of m0mkfs are not announced. A record that Consul holds from a try without a reply was
        // announced by that try.
        let told = op.is_some() && record.kind != ProcessType::Mkfs;
        let told = (told && !(self.unsure && there == Some(record))).then_some(record);
        Plan {
            derived_ops: first,
            final_ops: op.into_iter().collect(),
            announced: told,
            restart: false,
        }
    }

    fn ops(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Op> {
        let changes = changes.into_iter();
        let open = changes
            .filter(|change| !(change.is_already_set && self.proved.contains(&change.object)));
        open.map(|change| Op::entry(&change)).collect()
    }
}

/// Drops items without a waiting process, the oldest first, until at most `most` are left.
///
/// Of consecutive starts it drops the later ones. The first item is kept, since it may be part of a
/// transaction.
pub(crate) fn shrink(work: &mut VecDeque<WorkItem>, most: usize) {
    let mut surplus = work.len().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let is_start = |work: &WorkItem| matches!(work.what, Operation::Started(None));
    let first = work.pop_front();
    let mut kept = VecDeque::new();
    for one in work.drain(..) {
        let drops = match one.what {
            Operation::Reported { ack: None, .. }
            | Operation::Devices { ack: None, queued: false, .. }
            | Operation::Derived { .. } => true,
            Operation::Started(None) => kept.back().is_some_and(is_start),
            Operation::Reported { .. }
            | Operation::DeclaredDead { .. }
            | Operation::Revived
            | Operation::Started(Some(_))
            | Operation::Devices { .. } => false,
        };
        if drops && surplus > 0 {
            surplus -= 1;
        } else {
            kept.push_back(one);
        }
    }
    *work = first.into_iter().chain(kept).collect();
}

/// Returns the storage device of a note: the object itself, or the device in a drive.
pub(crate) fn device(object: Fid, cluster: &Cluster) -> Option<Fid> {
    let kind = object.object()?;
    if kind == Object::Drive {
        return cluster.conf().sdev_in(object);
    }
    (kind == Object::Sdev && cluster.conf().sdev(object).is_some()).then_some(object)
}

/// Returns the broadcast queue's message with a process's record, for old daemons (`hax.md` 1.7).
pub(crate) fn update(process: Fid, record: ProcessRecord, timestamp: &str) -> Option<Box<str>> {
    let (state, kind) = (record.state.kv_name()?, record.kind.kv_name()?);
    Some(
        format!(
            r#"{{"timestamp": "{timestamp}", "message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{process}", "state": "{state}", "type": "{kind}"}}}}"#
        )
        .into(),
    )
}
