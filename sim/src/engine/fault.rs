//! How calls to Consul go wrong.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What becomes of a call to Consul.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];
        }
    };
}

faults! {
    /// It takes long.
    Slow,
    /// No connection.
    Refused,
    /// "No cluster leader".
    NoLeader,
    /// Too many requests.
    TooMany,
    /// It is lost on the way.
    Lost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done after its time limit.
    DoneLate,
    /// It is done, and the connection breaks.
    Broken,
    /// The answer ends in the middle.
    Truncated,
    /// The answer is not JSON.
    Junk,
    /// The answer is longer than is accepted.
    TooLarge,
    /// The answer's index is 0.
    IndexZero,
    /// The answer's index is an earlier one.
    IndexBack,
    /// The answer is an old one, index and all.
    Stale,
    /// Another writer comes just before.
    OtherWriter,
    /// The servers' leader loses its place in the middle: it is done, and said to have failed.
    LeadLost,
}
