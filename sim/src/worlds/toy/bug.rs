//! Bugs of a counter, for the oracle to find.

/// A bug in a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The count is written without a check of its current index.
    CountSet,
    /// An increment is acknowledged when it is requested.
    AcknowledgedEarly,
    /// The name of an increment is not written.
    NameLost,
    /// A failed operation is not retried.
    RetryLost,
    /// The counter believes in its lease, whatever it reads.
    LeaseKept,
    /// The lease has the same term each time.
    TermLost,
    /// A helper is not ended when the lease may be lost.
    StepKept,
    /// The deadline of a helper exceeds the certain validity of the lease.
    StepLong,
    /// The output of a helper is accepted after the lease was lost.
    StepTakenLate,
    /// An increment is acknowledged while its number is being written.
    AcknowledgedUnwritten,
    /// A number is treated as written although its write has failed.
    FailureIgnored,
    /// Now and then the listeners do not receive one of the numbers.
    NumberLeftOut,
    /// The listeners receive a number before it is written.
    NumberEarly,
    /// A disconnected listener is still sent numbers.
    ListenerKept,
    /// A client over named pipes gets no answer if an increment is in progress.
    PipeForgotten,
    /// A client over named pipes receives a number before it is written.
    PipeEarly,
}
