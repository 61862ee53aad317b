//! Consul as a store: the only ways to write to it that are safe.

pub mod lease;
pub mod session;
pub mod txn;
pub mod watch;
