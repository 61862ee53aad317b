//! The continuations of calls to Consul and to Motr's library, and the timers, as data.
//!
//! Replies are dispatched by these values. This module does not depend on the handlers.

use crate::base::fid::Fid;
use crate::base::id::{HttpId, LinkId};
use crate::bridge::process::ops::Target;
use crate::cluster::replica::Table;
use crate::ha::spiel::Sns;
use crate::machine::Named;
use crate::store::session;

/// The purpose of a call to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// A read of an entrypoint round.
    Round(RoundPart),
    /// A blocking query.
    Watch(Table),
    /// A small stale blocking query for detecting a hanging watch.
    Lookout(Table),
    /// A read for proving a replica fresh.
    Probe(Table),
    /// A read of the index of the whole KV table.
    KvIndex,
    /// A non-blocking read.
    Read(Table),
    /// A read of one key of a table by its name.
    ReadCheck(Table),
    /// A transaction of process events.
    Transaction,
    /// A read of a lane's key after a conflict with another writer.
    RereadKey(LaneKey, Target),
    /// A read of the counters of starts.
    Restarts,
    /// A read of the broadcast queue's counter.
    Epoch,
    /// A call of the election.
    Leader(ElectionCall),
    /// A call of the broadcast queue's receiving side.
    BqReceiver(BqCall),
    /// A call of the broadcast queue's purge.
    Purge(PurgeCall),
    /// A read of a report's keys outside the replicas.
    Report(Report, HttpId),
    /// A call for a request to subscribe or unsubscribe.
    Subscribe(SubscribeCall, HttpId),
    /// A call for recording statistics.
    Statistics(StatCall),
}

impl Named for Continuation {
    /// Returns the subject of the call, for logs.
    fn name(&self) -> &'static str {
        match self {
            Self::Round(_) => "entrypoint",
            Self::Watch(table)
            | Self::Lookout(table)
            | Self::Probe(table)
            | Self::Read(table)
            | Self::ReadCheck(table) => table.name(),
            Self::KvIndex => "kv",
            Self::Transaction => "transaction",
            Self::RereadKey(..) => "a key",
            Self::Restarts => "process_restarts",
            Self::Epoch => "epoch",
            Self::Leader(_) => "election",
            Self::BqReceiver(_) | Self::Purge(_) => "bq",
            Self::Report(..) => "report",
            Self::Subscribe(..) => "events/subscription",
            Self::Statistics(_) => "statistics",
        }
    }
}

/// A read of an entrypoint round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundPart {
    Leader,
    Session,
    Confds,
    Node,
}

/// The owner of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneKey {
    Process(Fid),
    Devices,
}

impl LaneKey {
    /// Returns the process, or `Fid::ZERO` for the lane of devices. Devices may belong to many processes.
    pub(crate) fn process(self) -> Fid {
        match self {
            Self::Process(process) => process,
            Self::Devices => Fid::ZERO,
        }
    }
}

/// The purpose of a call of the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElectionCall {
    /// A call about the lock's session.
    Session(session::Call),
    Acquire,
    Watch,
    /// A query for the other candidates.
    Others,
}

impl ElectionCall {
    /// A release, a destroy or a deregistration. The reply needs no handling.
    pub(crate) const RESIGN: Self = Self::Session(session::Call::Leave);
}

/// A call of the receiver of the broadcast queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BqCall {
    /// A read of our offset, or of the queue's end if there is no offset.
    Offset,
    End,
    /// A read of the queue.
    Queue,
    /// A write of the new offset.
    Store,
}

/// A call of the purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PurgeCall {
    /// A read of the queue's keys.
    Keys,
    /// A read of the offsets of all nodes.
    Offsets,
    Delete,
}

/// A report on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Status,
    ByteCount,
    Fids,
}

/// A call for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeCall {
    Read,
    Write,
}

/// A call of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatCall {
    Read,
    Write,
}

/// A group of statistics, recorded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StatKind {
    Filesystem,
    ByteCount,
}

/// The purpose of a call to Motr's library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpielContinuation {
    /// A command to read the configuration.
    Begin,
    /// An operation on a pool.
    Sns(OperationKey),
    /// Statistics.
    Statistics,
}

/// The identity of an operation on a pool, or of a status query for it. At most one call per key is in
/// progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OperationKey {
    pub(crate) pool: Fid,
    pub(crate) status: Option<Sns>,
}

/// The bridge's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The time limit of an entrypoint round.
    Round,
    /// The earliest time of pending EAGAINs or of the next round.
    EntrypointReplies,
    /// The retry of a watch.
    Watch(Table),
    /// The retry of a lookout.
    Lookout(Table),
    /// The time limit for a watch to deliver a change seen by its lookout.
    Overdue(Table),
    /// The retry of a failed probe or read.
    Prove(Table),
    /// The retry of lanes after a failed transaction.
    Lanes,
    /// The time limit for keeping the pending notes of a link while it is down.
    LinkGrace(LinkId),
    /// The time limit of an entrypoint's wait for deliveries about its process.
    Deliveries(Fid),
    /// The end of the grace period of failing or passing checks.
    Liveness,
    /// The retry of reading the counters of starts.
    Restarts,
    /// The retry of reading the broadcast queue's counter.
    Epoch,
    /// The retry of a read or write of the offset in the broadcast queue.
    BqReceiver,
    /// The next purge of the broadcast queue.
    Purge,
    /// The next heartbeat of the leader's check.
    Heartbeat,
    /// The next try to acquire the lock.
    Acquire,
    /// The retry of the lock's watch.
    LeaderWatch,
    /// The end of the grace period of a lock value without an owner.
    Unowned,
    /// The end of the grace period of a leader without a confd.
    ConfdGrace,
    /// The next query for other candidates by a leader without a confd.
    Candidates,
    /// The retry of telling Motr's library to read the configuration.
    Spiel,
    /// The time limit of requests waiting for an operation on a pool.
    Sns,
    /// The next recording of statistics.
    Statistics(StatKind),
    /// The next slice of the statistics.
    StatisticsSlice,
    /// The recheck of posted checks unknown to the replica.
    Recheck,
    /// The processing of a hint.
    HealthHint,
    /// The time limit of posts of the queue.
    BqPosts,
    /// The next slice of a response.
    Slice,
    /// The time limit of a stop.
    Drain,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::EntrypointReplies => "entrypoint-replies",
            Self::Watch(_) => "watch",
            Self::Lookout(_) => "lookout",
            Self::Overdue(_) => "overdue",
            Self::Prove(_) => "prove",
            Self::Lanes => "lanes",
            Self::LinkGrace(_) => "grace",
            Self::Deliveries(_) => "deliveries",
            Self::Liveness => "failing-grace",
            Self::Restarts => "restarts",
            Self::Epoch => "epoch",
            Self::BqReceiver => "bq-receiver",
            Self::Purge => "purge",
            Self::Heartbeat => "heartbeat",
            Self::Acquire => "acquire",
            Self::LeaderWatch => "leader-watch",
            Self::Unowned => "unowned",
            Self::ConfdGrace => "ineligible",
            Self::Candidates => "candidates",
            Self::Spiel => "spiel",
            Self::Sns => "sns",
            Self::Statistics(_) => "statistics",
            Self::StatisticsSlice => "tally",
            Self::Recheck => "recheck",
            Self::HealthHint => "health-hint",
            Self::BqPosts => "bq-posts",
            Self::Slice => "slice",
            Self::Drain => "drain",
        }
    }
}
