//! Planted bugs, by which the simulator is tested: one that finds none of them is no simulator.
//!
//! Without the feature `mutants` there are none, and asking for one is a constant.

/// A bug in the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A process event is acknowledged when it arrives.
    AckBeforeCommit,
    /// An entrypoint request has two replies.
    ReplyTwice,
    /// A question is answered from a copy that is not proved fresh.
    StaleReplica,
    /// A lane's work counts as done without having been written.
    LaneSkipped,
    /// A write that failed is not tried again.
    RetryLost,
    /// What a link is owed while it is down is forgotten.
    OwedForgotten,
    /// What is not answered on the wire is not sent again.
    ResendLost,
    /// A pool has several operations under way.
    OperationsTogether,
    /// A node is judged by whatever is checked on it.
    ForeignChecks,
    /// A service says something of a process, wherever it runs.
    ForeignServices,
    /// Of the nodes of a host one that fails is enough.
    FormerNames,
    /// What an earlier configuration left behind counts.
    LeftOvers,
    /// What an import has overwritten is believed.
    ImportBelieved,
    /// A process that asks again is told nothing while hax stops, which ends it.
    EmptyAgain,
}

impl Mutant {
    /// All of them.
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
}

/// Whether this bug is planted.
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

    /// Whether this bug is planted in this thread.
    #[must_use]
    pub fn mutant(which: Mutant) -> bool {
        PLANTED.get() == Some(which)
    }

    /// Plants a bug in this thread, instead of any other, or none.
    pub fn plant(which: Option<Mutant>) {
        PLANTED.set(which);
    }
}
