//! What a lease's calls and timers are for, and what it tells of itself.

use crate::machine::{Kinds, Named};
use crate::store::session;

/// What a call to Consul is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The session that it hangs on.
    Session(session::Call),
    /// The key is read, as it is now.
    Read,
    /// The key is waited for, while somebody else holds it.
    Watch,
    /// The key is taken.
    Acquire,
}

impl Call {
    /// What has an answer that counts.
    pub(super) const OWN: [Self; 6] = [
        Self::Session(session::Call::Register),
        Self::Session(session::Call::Beat),
        Self::Session(session::Call::Create),
        Self::Read,
        Self::Watch,
        Self::Acquire,
    ];
}

impl Named for Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Session(session::Call::Register) => "registering a lease's check",
            Self::Session(session::Call::Beat) => "a lease's beat",
            Self::Session(session::Call::Create) => "a lease's session",
            Self::Session(session::Call::Leave) => "leaving a lease",
            Self::Read => "reading a lease",
            Self::Watch => "watching a lease",
            Self::Acquire => "taking a lease",
        }
    }
}

/// A lease's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next beat.
    Beat,
    /// The next try, or the next proof.
    Read,
    /// The last proof is too old.
    Lapse,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Beat => "lease-beat",
            Self::Read => "lease-read",
            Self::Lapse => "lease-lapse",
        }
    }
}

/// A machine with a lease: its continuations and timers have those of the lease among them.
pub trait Leases: Kinds<Continuation: From<Call>, Timer: From<Timer>> {}

impl<K: Kinds<Continuation: From<Call>, Timer: From<Timer>>> Leases for K {}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The lease is ours, in this term.
    Gained(u64),
    /// It is not ours any more, and why.
    Lost(&'static str),
    /// It may not be ours any more: nothing outside Consul may be done until it is proved.
    Lapsed,
    /// It is proved again, in the same term.
    Proved,
}
