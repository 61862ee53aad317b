//! Planted bugs for testing the simulator: it must find each of them.
//!
//! Without the feature `mutants` there are none, and the query for one is a constant.

/// A bug in the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A process event is acknowledged on arrival, before it is stored.
    AckBeforeCommit,
    /// An entrypoint request gets two replies.
    ReplyTwice,
    /// A request for states is answered from a copy without a proof of freshness.
    StaleReplica,
    /// A lane's work item counts as done without having been written.
    LaneSkipped,
    /// A failed write is not retried.
    RetryLost,
    /// The pending notes of a link are dropped while it is down.
    OwedForgotten,
    /// A request without a reply on the wire is not sent again.
    ResendLost,
    /// A pool has several operations in progress.
    OperationsTogether,
    /// A node is assessed by any check on it.
    ForeignChecks,
    /// A service on any node counts for a process.
    ForeignServices,
    /// One failing node of a host is enough to consider the host dead.
    FormerNames,
    /// Entries left behind by an earlier configuration count.
    LeftOvers,
    /// States overwritten by an import are accepted.
    ImportBelieved,
    /// A repeated request during a stop is answered with an empty entrypoint. That ends the process.
    EmptyAgain,
    /// A taken over link has another cookie than its process knows.
    CookieForgotten,
    /// A tag of a message that may have been received is used for another message in the next life.
    TagUsedAgain,
    /// A message that was received and not acknowledged is not worked by the next life.
    NotWorkedAgain,
    /// The state of a link is kept after the messages that follow from it.
    KeptLate,
    /// The state of another boot is taken over.
    BootUnchecked,
    /// A taken over link uses its tags before the process has answered.
    NotProved,
    /// The belief in a lease counts from the response to its proof.
    BeliefFromAnswer,
    /// Consul does not withhold a lost lease.
    NoLockDelay,
    /// A new holder takes over the last holder's term.
    TermKept,
    /// A lease is handed over while handlers of its group run.
    ReleasedEarly,
    /// A handler may run longer than its router is certain of the lease.
    DeadlineUnbounded,
    /// A new holder does not read its routes back.
    NotReadBack,
    /// A holder does not hear who asks for the lease.
    AskUnheard,
    /// A node starts an ended instance again by itself.
    StartAgain,
    /// A node starts an instance before its name is written.
    NameUnwritten,
    /// A node writes what it has seen without an event.
    EventUnwritten,
    /// A new run of hax takes a living instance for an older start's.
    FoundOutdated,
    /// The coordinator writes without its lease.
    Unguarded,
    /// The coordinator starts an instance at once after each short life.
    NoDelay,
    /// The coordinator does not give up.
    NeverGivesUp,
    /// A new definition is not tried on running instances.
    DefinitionIgnored,
    /// What needs a type is not stopped before it.
    DependentsForgotten,
    /// A type is started before what it needs.
    NeedsForgotten,
    /// An event is worked and not deleted.
    EventKept,
    /// A request is answered before the instances are as was asked.
    AnsweredEarly,
    /// A keeper starts an instance before its intent is on the disk.
    IntentLate,
    /// A keeper does not kill what does not stop.
    KillForgotten,
    /// A keeper does not tell what has ended.
    EndUntold,
}

impl Mutant {
    /// The bugs of the bridge.
    pub const ALL: &'static [Self] = &[
        Self::AckBeforeCommit,
        Self::ReplyTwice,
        Self::StaleReplica,
        Self::LaneSkipped,
        Self::RetryLost,
        Self::OwedForgotten,
        Self::ResendLost,
        Self::OperationsTogether,
        Self::ForeignChecks,
        Self::ForeignServices,
        Self::FormerNames,
        Self::LeftOvers,
        Self::ImportBelieved,
        Self::EmptyAgain,
    ];

    /// The bugs of links that outlive hax.
    pub const OF_KEPT_LINKS: &'static [Self] = &[
        Self::CookieForgotten,
        Self::TagUsedAgain,
        Self::NotWorkedAgain,
        Self::KeptLate,
        Self::BootUnchecked,
        Self::NotProved,
    ];

    /// The bugs of groups of redundancy nodes and of their leases.
    pub const OF_GROUPS: &'static [Self] = &[
        Self::BeliefFromAnswer,
        Self::NoLockDelay,
        Self::TermKept,
        Self::ReleasedEarly,
        Self::DeadlineUnbounded,
        Self::NotReadBack,
        Self::AskUnheard,
    ];

    /// The bugs of services, in hax and in the keeper.
    pub const OF_SERVICES: &'static [Self] = &[
        Self::StartAgain,
        Self::NameUnwritten,
        Self::EventUnwritten,
        Self::FoundOutdated,
        Self::Unguarded,
        Self::NoDelay,
        Self::NeverGivesUp,
        Self::DefinitionIgnored,
        Self::DependentsForgotten,
        Self::NeedsForgotten,
        Self::EventKept,
        Self::AnsweredEarly,
        Self::IntentLate,
        Self::KillForgotten,
        Self::EndUntold,
    ];
}

/// Returns whether this bug is planted.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn mutant(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use planted::{mutant, plant};

#[cfg(feature = "mutants")]
mod planted {
    extern crate std;

    use core::cell::Cell;

    use super::Mutant;

    std::thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Returns whether this bug is planted in this thread.
    #[must_use]
    pub fn mutant(which: Mutant) -> bool {
        PLANTED.get() == Some(which)
    }

    /// Plants a bug in this thread, in place of any other, or none.
    pub fn plant(which: Option<Mutant>) {
        PLANTED.set(which);
    }
}
