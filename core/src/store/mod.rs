//! Consul as a store: the only ways to write to it that are safe.

pub mod lease;
pub mod txn;
