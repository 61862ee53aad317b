//! Nodes with services, their keepers, and the Consul double, without a network. The tests check what is
//! started and stopped, where and when, and what is written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod field;
mod keeper;
mod lives;
