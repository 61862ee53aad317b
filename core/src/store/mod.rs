//! Consul as a store: the safe ways to write to it.

pub mod lease;
pub mod session;
pub mod txn;
pub mod watch;
