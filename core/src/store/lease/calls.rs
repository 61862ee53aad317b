//! The calls, timers and changes of a lease.

use crate::machine::{Kinds, Named};
use crate::store::session;

/// The purpose of a call to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call about the lock's session.
    Session(session::Call),
    /// A consistent read of the key.
    Read,
    /// A blocking query for the key while another holder has it.
    Watch,
    /// An acquisition of the key.
    Acquire,
    /// The key is given back.
    Release,
}

impl Call {
    /// The calls with handled replies.
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
            Self::Release => "giving a lease back",
        }
    }
}

/// The timers of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next heartbeat.
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

/// A machine with a lease: its continuations and timers include those of the lease.
pub trait Leases: Kinds<Continuation: From<Call>, Timer: From<Timer>> {}

impl<K: Kinds<Continuation: From<Call>, Timer: From<Timer>>> Leases for K {}

/// A change of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The lease was gained with this term.
    Gained(u64),
    /// The lease was lost, with the reason.
    Lost(&'static str),
    /// The lease may have been lost: no action outside Consul is allowed until it is proved.
    Lapsed,
    /// The lease is proved again, in the same term.
    Proved,
}
