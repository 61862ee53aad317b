//! What calls, questions to Motr's library and timers are for, as data. An answer is handed on by what is
//! written here; nothing here knows who takes it.

use crate::base::fid::Fid;
use crate::base::id::{HttpId, LinkId};
use crate::bridge::process::ops::Target;
use crate::cluster::replica::Table;
use crate::ha::spiel::Sns;
use crate::machine::Named;
use crate::store::session;

/// What a call to Consul is for: the continuation, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// A part of an entrypoint round.
    Round(RoundPart),
    /// A blocking query.
    Watch(Table),
    /// A tiny one, which notices that the other hangs.
    Lookout(Table),
    /// A proof of freshness.
    Probe(Table),
    /// The index of the whole KV table.
    KvIndex,
    /// A read at once.
    Read(Table),
    /// One key of a table, by its name.
    Named(Table),
    /// A transaction of process events.
    Transaction,
    /// A key of a lane that met another writer.
    RereadKey(LaneKey, Target),
    /// The counters of starts.
    Restarts,
    /// The counter of the broadcast queue.
    Epoch,
    /// A part of the election.
    Leader(ElectionCall),
    /// A part of the broadcast queue's receiving side.
    BqReceiver(BqCall),
    /// A part of the broadcast queue's purge.
    Purge(PurgeCall),
    /// What a report of the cluster needs beside the replicas.
    Report(Report, HttpId),
    /// A part of what an HTTP request asked for.
    Subscribe(SubscribeCall, HttpId),
    /// A part of taking statistics down.
    Statistics(StatCall),
}

impl Named for Continuation {
    /// What it is about, for logs.
    fn name(&self) -> &'static str {
        match self {
            Self::Round(_) => "entrypoint",
            Self::Watch(table)
            | Self::Lookout(table)
            | Self::Probe(table)
            | Self::Read(table)
            | Self::Named(table) => table.name(),
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

/// The reads of an entrypoint round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundPart {
    Leader,
    Session,
    Confds,
    Node,
}

/// Whose lane it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneKey {
    Process(Fid),
    Devices,
}

impl LaneKey {
    /// The process; none for devices, which may be of many.
    pub(crate) fn process(self) -> Fid {
        match self {
            Self::Process(process) => process,
            Self::Devices => Fid::ZERO,
        }
    }
}

/// What a call of the election is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElectionCall {
    /// The session that the lock hangs on.
    Session(session::Call),
    Acquire,
    Watch,
    /// Who else stands.
    Others,
}

impl ElectionCall {
    /// Release, destroy, deregister: nothing follows.
    pub(crate) const RESIGN: Self = Self::Session(session::Call::Leave);
}

/// A call of the receiver of the broadcast queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BqCall {
    /// Our offset, and the queue's end if we have none.
    Offset,
    End,
    /// The queue.
    Queue,
    /// The new offset.
    Store,
}

/// What a call of the purge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PurgeCall {
    /// The queue's keys.
    Keys,
    /// Who has worked how much.
    Offsets,
    Delete,
}

/// Which report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Status,
    ByteCount,
    Fids,
}

/// A call of a subscription.
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

/// What is taken down in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StatKind {
    Filesystem,
    ByteCount,
}

/// What Motr's library was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpielContinuation {
    /// To read the configuration.
    Begin,
    /// An operation on a pool.
    Sns(OperationKey),
    /// Statistics.
    Statistics,
}

/// Where one thing may be under way: the operation on a pool, or a status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OperationKey {
    pub(crate) pool: Fid,
    pub(crate) status: Option<Sns>,
}

/// The bridge's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The round takes too long.
    Round,
    /// EAGAINs may leave, or a round may begin.
    EntrypointReplies,
    /// A watch may be sent again.
    Watch(Table),
    /// A lookout may be sent again.
    Lookout(Table),
    /// What a lookout saw should have come by the watch.
    Overdue(Table),
    /// A probe or read that failed may be sent again.
    Prove(Table),
    /// Lanes whose transaction failed may try again.
    Lanes,
    /// What is owed to a link that is down is given up.
    Grace(LinkId),
    /// An entrypoint waits no longer for what others have to hear before.
    Deliveries(Fid),
    /// A process has been silent for long enough.
    FailingGrace,
    /// The counters of starts may be read again.
    Restarts,
    /// The counter of the broadcast queue may be read again.
    Epoch,
    /// The offset in the broadcast queue may be read again, or written.
    Inbox,
    /// The broadcast queue is purged.
    Purge,
    /// The leader's check is due.
    Heartbeat,
    /// The lock may be tried for again.
    Acquire,
    /// The lock may be watched again.
    LeaderWatch,
    /// A lock without an owner has been left for long enough.
    Unowned,
    /// A leader has been without a confd for long enough.
    Ineligible,
    /// A leader without a confd looks who else stands.
    Candidates,
    /// Motr's library may be told again to read the configuration.
    Spiel,
    /// A request has waited for long enough for an operation on a pool.
    Sns,
    /// Statistics are due.
    Statistics(StatKind),
    /// The next slice of them.
    Tally,
    /// What was posted and is no news has counted for long enough.
    Recheck,
    /// What somebody has hinted at is looked at.
    Hinted,
    /// Whoever posted the queue has waited for long enough.
    Hints,
    /// The next slice of an answer.
    Slice,
    /// The stop has taken too long.
    Drain,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::EntrypointReplies => "again",
            Self::Watch(_) => "watch",
            Self::Lookout(_) => "lookout",
            Self::Overdue(_) => "overdue",
            Self::Prove(_) => "prove",
            Self::Lanes => "lanes",
            Self::Grace(_) => "grace",
            Self::Deliveries(_) => "deliveries",
            Self::FailingGrace => "silence",
            Self::Restarts => "restarts",
            Self::Epoch => "epoch",
            Self::Inbox => "inbox",
            Self::Purge => "purge",
            Self::Heartbeat => "beat",
            Self::Acquire => "acquire",
            Self::LeaderWatch => "leader-watch",
            Self::Unowned => "foreign",
            Self::Ineligible => "unfit",
            Self::Candidates => "standing",
            Self::Spiel => "spiel",
            Self::Sns => "sns",
            Self::Statistics(_) => "statistics",
            Self::Tally => "tally",
            Self::Recheck => "doubt",
            Self::Hinted => "hinted",
            Self::Hints => "hints",
            Self::Slice => "slice",
            Self::Drain => "drain",
        }
    }
}
