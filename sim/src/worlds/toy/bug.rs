//! Bugs that a counter can be made with, for the oracle to find.

/// A bug in a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The count is written whatever it is by now.
    CountSet,
    /// An increment is acknowledged when it is asked for.
    AcknowledgedEarly,
    /// The name of an increment is not written down.
    NameLost,
    /// What failed is not tried again.
    RetryLost,
    /// The lease is believed in whatever is read.
    LeaseKept,
    /// The lease has the same term each time.
    TermLost,
    /// A helper is not ended when the lease may be held no more.
    StepKept,
    /// A helper may run longer than the lease is certain.
    StepLong,
    /// What a helper says is taken after the lease was lost.
    StepTakenLate,
    /// An increment is acknowledged while its number is being written.
    AcknowledgedUnwritten,
    /// A number that could not be written is taken for written.
    FailureIgnored,
    /// Of the numbers that listeners are told one is left out now and then.
    NumberLeftOut,
    /// Listeners are told a number that is being written.
    NumberEarly,
    /// Who has gone is told more all the same.
    ListenerKept,
    /// Who asks over pipes while an increment is worked is not answered.
    PipeForgotten,
    /// Who asks over pipes is told of a number that is being written.
    PipeEarly,
}
