//! What is to be written for a process or for devices, and what it takes.

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

/// Which message waits for its acknowledgement.
pub(crate) type Ack = (LinkId, MsgId);

/// One thing to be written; the next of its lane waits for it.
#[derive(Debug)]
pub(crate) struct WorkItem {
    pub(crate) what: Operation,
    pub(crate) arrived: Instant,
    /// The record of the process has been read since this work met another writer, so that what we
    /// hold of it is known to be Consul's.
    pub(crate) checked: bool,
    /// A transaction with it had no answer: Consul may hold it already.
    pub(crate) unsure: bool,
    /// The objects whose entries a part of this work has written, or found as they are to be.
    pub(crate) proved: BTreeSet<Fid>,
}

#[derive(Debug)]
pub(crate) enum Operation {
    /// A process said so; our own events have nobody to acknowledge them to.
    Reported { record: ProcessRecord, ack: Option<Ack> },
    /// Health says that the process is dead; `linkless`: with its link, since its check alone may be from
    /// before its last record.
    DeclaredDead { as_leader: bool, linkless: bool },
    /// Health says that the process, which was declared stopped, lives.
    Revived,
    /// What follows from the last record of the process is not so in the configuration any more.
    Derived { as_leader: bool },
    /// The process has begun a new life. Its starts are counted, and its last life is declared over.
    Started(Option<Start>),
    /// Devices changed their state: a process said so, or the broadcast queue did.
    Devices { notes: Vec<Note>, ack: Option<Ack>, queued: bool },
}

impl Operation {
    /// Whether it is done as the leader, and only while we lead.
    pub(crate) fn is_leaders(&self) -> bool {
        matches!(
            self,
            Self::DeclaredDead { as_leader: true, .. } | Self::Derived { as_leader: true }
        )
    }
}

/// What a work item takes now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Changes that follow; they may be written before the rest.
    pub(crate) first: Vec<Op>,
    /// What completes the work.
    pub(crate) last: Vec<Op>,
    /// What old daemons are told of it.
    pub(crate) told: Option<ProcessRecord>,
    /// The restart that is declared with it.
    pub(crate) restart: bool,
}

impl Plan {
    /// All is as it is to be.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_empty()
    }
}

impl WorkItem {
    pub(crate) fn new(arrived: Instant, what: Operation) -> Self {
        Self { what, arrived, checked: false, unsure: false, proved: BTreeSet::new() }
    }

    /// A part of it is written, so it does not end there if health says something else meanwhile: half a
    /// death could be told from nothing, while a whole one is taken back; and half a life is.
    fn is_begun(&self) -> bool {
        !self.proved.is_empty()
    }

    /// Whether a process waits for its acknowledgement: without one it says it again.
    pub(crate) fn is_repeated(&self) -> bool {
        let (Operation::Reported { ack, .. } | Operation::Devices { ack, .. }) = &self.what else {
            return false;
        };
        ack.is_some()
    }

    /// Whether a death is written after all: it is half written, or health still says so.
    fn still_dies(&self, process: Fid, linkless: bool, cluster: &Cluster) -> bool {
        let fails = linkless && cluster.is_failing(process);
        self.is_begun() || cluster.is_dead(process) || fails
    }

    /// What it takes to write this, as far as is known.
    pub(crate) fn plan(
        &self,
        process: Fid,
        cluster: &Cluster,
        restarts: &Restarts,
        node: &str,
    ) -> Plan {
        let there = cluster.record(process).0;
        match &self.what {
            Operation::Reported { record, .. } => {
                let record = cluster.stored_event(process, *record);
                self.becomes(process, cluster, record, record.effect())
            }
            Operation::DeclaredDead { linkless, .. }
                if !self.still_dies(process, *linkless, cluster) =>
            {
                Plan::default()
            }
            Operation::DeclaredDead { .. } => {
                let kind = there.map_or(ProcessType::M0d, |record| record.kind);
                let was = there.map(|record| record.state);
                let record =
                    ProcessRecord { state: ProcessEventKind::Stopped, kind, last_reported: was };
                self.becomes(process, cluster, record, Some(ObjectState::Transient))
            }
            Operation::Revived => match (cluster.revived(process), there) {
                (Some(record), _) => self.becomes(process, cluster, record, record.effect()),
                (None, Some(record)) if self.is_begun() => {
                    let back = Some(ObjectState::Transient);
                    Plan { told: None, ..self.becomes(process, cluster, record, back) }
                }
                (None, _) => Plan::default(),
            },
            Operation::Derived { .. } => {
                Plan { first: self.ops(cluster.rederived(process)), ..Plan::default() }
            }
            Operation::Started(None) => Plan::default(),
            Operation::Started(Some(Start { number, restart })) => {
                let kind = there.map_or(ProcessType::M0d, |record| record.kind);
                let record = ProcessRecord::reported(ProcessEventKind::Stopped, kind);
                let mut plan = if *restart {
                    self.becomes(process, cluster, record, Some(ObjectState::Failed))
                } else if there.is_some_and(|record| record.last_reported.is_some()) {
                    // The life that was declared over is over: nobody can take that back.
                    Plan { told: None, ..self.becomes(process, cluster, record, None) }
                } else {
                    Plan::default()
                };
                plan.last.extend(restarts.count(process, *number, node));
                plan.restart = *restart;
                plan
            }
            Operation::Devices { notes, .. } => {
                // Of two notes about one device, itself or its drive, the later counts.
                let sdev = |note: &Note| Some((device(note.fid, cluster)?, note.state));
                let states: BTreeMap<Fid, ObjectState> = notes.iter().filter_map(sdev).collect();
                let changes = states.into_iter().filter_map(|(sdev, to)| cluster.change(sdev, to));
                Plan { first: self.ops(changes), ..Plan::default() }
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
        // What is known only from the replica is written again, which checks it.
        let holds = self.checked && there == Some(record);
        let op = Op::record(process, record, index).filter(|_| !holds);
        // m0mkfs is nobody else's business, and what Consul holds of a try without an answer was told with it.
        let told = op.is_some() && record.kind != ProcessType::Mkfs;
        let told = (told && !(self.unsure && there == Some(record))).then_some(record);
        Plan { first, last: op.into_iter().collect(), told, restart: false }
    }

    fn ops(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Op> {
        let changes = changes.into_iter();
        let open = changes.filter(|change| !(change.holds && self.proved.contains(&change.object)));
        open.map(|change| Op::entry(&change)).collect()
    }
}

/// Drops what nobody waits for, the oldest first, until no more than `most` is left, and of starts that are
/// one behind the other then the later. The first work may be in a transaction.
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

/// The storage device that a note is about: itself, or the one in a drive.
pub(crate) fn device(object: Fid, cluster: &Cluster) -> Option<Fid> {
    let kind = object.object()?;
    if kind == Object::Drive {
        return cluster.conf().sdev_in(object);
    }
    (kind == Object::Sdev && cluster.conf().sdev(object).is_some()).then_some(object)
}

/// What a message of the broadcast queue says of a process, for old daemons (`hax.md` 1.7).
pub(crate) fn update(process: Fid, record: ProcessRecord, timestamp: &str) -> Option<Box<str>> {
    let (state, kind) = (record.state.kv_name()?, record.kind.kv_name()?);
    Some(
        format!(
            r#"{{"timestamp": "{timestamp}", "message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{process}", "state": "{state}", "type": "{kind}"}}}}"#
        )
        .into(),
    )
}
