//! The faults of calls to Consul.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A fault of a call to Consul.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All faults.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];
        }
    };
}

faults! {
    /// The call takes long.
    Slow,
    /// The connection is refused.
    Refused,
    /// Consul replies "No cluster leader".
    NoLeader,
    /// Consul replies "too many requests".
    TooMany,
    /// The call is lost in transit.
    Lost,
    /// The call is carried out, and the answer is lost.
    AnswerLost,
    /// The call is carried out after its time limit.
    DoneLate,
    /// The call is carried out, and the connection breaks.
    Broken,
    /// The answer ends in the middle.
    Truncated,
    /// The answer is not JSON.
    Junk,
    /// The answer exceeds the maximum length.
    TooLarge,
    /// The answer's index is 0.
    IndexZero,
    /// The answer's index is an earlier one.
    IndexBack,
    /// The answer is from an older state, including its index.
    Stale,
    /// Another writer writes just before the call.
    OtherWriter,
    /// The leader of the servers loses its leadership during the call: the call is carried out and reported
    /// as failed.
    LeadLost,
}
